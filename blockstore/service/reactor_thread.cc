#include "blockstore/service/reactor_thread.h"

#include <pthread.h>
#include <signal.h>

#include "blockstore/io/status.h"

namespace keelson::service {

absl::StatusOr<std::unique_ptr<ReactorThread>> ReactorThread::Start(
    const io::ReactorOptions& options, const std::string& name) {
  ASSIGN_OR_RETURN(std::unique_ptr<io::Reactor> reactor, io::MakeReactor(options));
  auto result = std::unique_ptr<ReactorThread>(new ReactorThread(std::move(reactor)));
  result->thread_ = std::thread([loop = result->reactor_.get()] { loop->Run(); });
  pthread_setname_np(result->thread_.native_handle(), name.substr(0, 15).c_str());
  return result;
}

ReactorThread::~ReactorThread() {
  reactor_->Post([this] { stop_gate_.Spawn(StopWhenIdle()); });
  thread_.join();
}

io::Task<void> ReactorThread::StopWhenIdle() {
  co_await gate_.Close();
  reactor_->Stop();
}

}  // namespace keelson::service
