#include "tests/sim/sim_reactor.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_stream.h"

namespace keelson::sim {

SimReactor::SimReactor(World* world, Machine* machine, std::size_t buffer_arena_bytes)
    : world_(world), machine_(machine), buffers_(buffer_arena_bytes) {}

void SimReactor::Post(absl::AnyInvocable<void()> work) {
  const std::lock_guard<std::mutex> lock(posted_mutex_);
  posted_.push_back(std::move(work));
  ++posted_count_;
}

void SimReactor::StartTimer(io::TimerNode* node) {
  KEEL_CHECK(!node->armed, "a timer is started once");
  node->armed = true;
  const World::EventKey key = world_->At(this, node->when_ns, [node] {
    node->armed = false;
    node->fire(node);
  });
  node->sequence = key.second;
}

void SimReactor::CancelTimer(io::TimerNode* node) {
  if (!node->armed) return;
  node->armed = false;
  world_->Cancel({node->when_ns, node->sequence});
}

absl::StatusOr<std::unique_ptr<io::File>> SimReactor::OpenFile(const std::string& path,
                                                               const io::FileOptions& options) {
  SimDisk* disk = machine_->FindDisk(path);
  if (disk == nullptr) {
    if (!options.create) {
      return absl::NotFoundError(absl::StrCat("no simulated disk ", path, "; create it first"));
    }
    disk = machine_->AddDisk(path, options.size_bytes);
  }
  return disk->Open(this, options);
}

absl::StatusOr<std::unique_ptr<io::Listener>> SimReactor::Listen(const io::Address& address) {
  return world_->network().Listen(this, address);
}

io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> SimReactor::Connect(
    io::Address address, std::int64_t deadline_ns) {
  return world_->network().Connect(this, std::move(address), deadline_ns);
}

absl::StatusOr<std::unique_ptr<io::Stream>> SimReactor::AdoptStream(int fd) {
  return absl::UnimplementedError(
      absl::StrCat("descriptor ", fd, " is the kernel's; use Listen and Connect in a simulation"));
}

void SimReactor::Run() {
  stopped_ = false;
  while (!stopped_ && world_->Step()) {
  }
}

bool SimReactor::HasReady() { return !ready_.empty() || posted_count_ > 0; }

void SimReactor::RunReady() {
  absl::AnyInvocable<void()> work;
  if (posted_count_ > 0) {
    const std::lock_guard<std::mutex> lock(posted_mutex_);
    if (!posted_.empty() && (ready_.empty() || world_->random().Coin())) {
      work = std::move(posted_.front());
      posted_.pop_front();
      --posted_count_;
    }
  }
  if (work) {
    work();
    return;
  }
  const std::coroutine_handle<> handle = ready_.front();
  ready_.pop_front();
  handle.resume();
}

}  // namespace keelson::sim
