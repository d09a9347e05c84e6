#include "blockstore/service/keeper_client.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/service/child_process.h"

namespace keelson::service {
namespace {

constexpr int kAnswerMillis = 5'000;
constexpr int kRetryMillis = 1'000;
constexpr std::chrono::seconds kStartPatience{5};
constexpr std::chrono::milliseconds kStartPoll{10};
// Between the end of its socket and the end of the process.
constexpr std::chrono::milliseconds kEndPatience{500};
// A keeper whose last descriptor was just dropped is on its way out.
constexpr int kAskAttempts = 5;

}  // namespace

KeeperClient::KeeperClient(const std::string& run_directory, std::string program)
    : socket_path_(run_directory + "/fuse-keeper.sock"),
      log_path_(run_directory + "/fuse-keeper.log"),
      program_(std::move(program)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  KEEL_CHECK(static_cast<bool>(wake_), "no descriptor for the keeper's watch");
  thread_ = std::thread([this] { Watch(); });
}

KeeperClient::~KeeperClient() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_.get(), 1);
  thread_.join();
}

absl::StatusOr<std::map<std::string, KeeperClient::Kept>> KeeperClient::Fetch() {
  std::lock_guard lock(mutex_);
  std::map<std::string, Kept> found;
  if (const absl::Status status = Connect(/*start=*/false); !status.ok()) {
    if (absl::IsNotFound(status)) return found;
    return status;
  }
  RETURN_IF_ERROR(SendKeeperMessage(connection_.get(), {KeeperAct::kList, "", ""}));
  for (;;) {
    ASSIGN_OR_RETURN(ReceivedKeeperMessage received,
                     ReceiveKeeperMessage(connection_.get(), kAnswerMillis));
    if (received.message.act != KeeperAct::kEntry || !received.descriptor) break;
    ASSIGN_OR_RETURN(Descriptor own, received.descriptor.Duplicate());
    kept_[received.message.name] = Kept{received.message.note, std::move(own)};
    found[received.message.name] = Kept{received.message.note, std::move(received.descriptor)};
  }
  return found;
}

absl::Status KeeperClient::Keep(const std::string& name, const std::string& note,
                                const Descriptor& descriptor) {
  std::lock_guard lock(mutex_);
  ASSIGN_OR_RETURN(Descriptor own, descriptor.Duplicate());
  RETURN_IF_ERROR(AskPatiently({KeeperAct::kKeep, name, note}, descriptor.get()));
  kept_[name] = Kept{note, std::move(own)};
  return absl::OkStatus();
}

absl::Status KeeperClient::Drop(const std::string& name) {
  std::lock_guard lock(mutex_);
  kept_.erase(name);
  absl::Status status = Connect(/*start=*/false);
  if (status.ok()) status = Ask({KeeperAct::kDrop, name, ""}, -1);
  if (!status.ok()) Disconnect();
  // One that is gone keeps nothing.
  return absl::IsNotFound(status) || absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

std::string KeeperClient::problem() const {
  std::lock_guard lock(problem_mutex_);
  return problem_;
}

void KeeperClient::NoteProblem(std::string problem) {
  std::lock_guard lock(problem_mutex_);
  problem_ = std::move(problem);
}

void KeeperClient::Disconnect() {
  connection_.Reset();
  watched_.Reset();
  eventfd_write(wake_.get(), 1);  // the thread waits on another descriptor from now on
}

void KeeperClient::ForgetDead() {
  std::erase_if(kept_, [](const auto& entry) {
    pollfd now = {entry.second.descriptor.get(), 0, 0};
    return poll(&now, 1, 0) > 0 && (now.revents & (POLLERR | POLLHUP)) != 0;
  });
}

void KeeperClient::ReapEnded(std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (started_ > 0) {
    if (waitpid(started_, nullptr, WNOHANG) != 0) started_ = -1;
    if (std::chrono::steady_clock::now() >= deadline) return;
    std::this_thread::sleep_for(kStartPoll);
  }
}

absl::Status KeeperClient::Connect(bool start) {
  if (connection_) return absl::OkStatus();
  if (start) {
    RETURN_IF_ERROR(ConnectOrStart());
  } else {
    ASSIGN_OR_RETURN(connection_, ConnectToKeeper(socket_path_));
  }
  ASSIGN_OR_RETURN(watched_, ConnectToKeeper(socket_path_));
  eventfd_write(wake_.get(), 1);
  // A new one has nothing yet.
  ForgetDead();
  for (const auto& [name, kept] : kept_) {
    RETURN_IF_ERROR(Ask({KeeperAct::kKeep, name, kept.note}, kept.descriptor.get()));
  }
  return absl::OkStatus();
}

absl::Status KeeperClient::ConnectOrStart() {
  const auto deadline = std::chrono::steady_clock::now() + kStartPatience;
  for (;;) {
    absl::StatusOr<Descriptor> connection = ConnectToKeeper(socket_path_);
    if (connection.ok()) {
      connection_ = *std::move(connection);
      return absl::OkStatus();
    }
    if (!absl::IsNotFound(connection.status())) return connection.status();
    if (std::chrono::steady_clock::now() >= deadline) {
      return absl::UnavailableError(absl::StrCat("keelson-fuse-keeper does not begin to serve ",
                                                 socket_path_, "; see ", log_path_));
    }
    // One that found its predecessor still there has ended again.
    ReapEnded({});
    if (started_ < 0) {
      ASSIGN_OR_RETURN(started_, StartToStay(program_, {"keep", socket_path_}, log_path_));
    }
    std::this_thread::sleep_for(kStartPoll);
  }
}

absl::Status KeeperClient::Ask(const KeeperMessage& message, int fd) {
  RETURN_IF_ERROR(SendKeeperMessage(connection_.get(), message, fd));
  ASSIGN_OR_RETURN(const ReceivedKeeperMessage received,
                   ReceiveKeeperMessage(connection_.get(), kAnswerMillis));
  if (received.message.act == KeeperAct::kDone) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("keelson-fuse-keeper refuses: ", received.message.note));
}

absl::Status KeeperClient::AskPatiently(const KeeperMessage& message, int fd) {
  absl::Status status;
  for (int attempt = 0; attempt < kAskAttempts; ++attempt) {
    status = Connect(/*start=*/true);
    if (status.ok()) status = Ask(message, fd);
    if (status.ok()) return status;
    Disconnect();
  }
  return status;
}

void KeeperClient::Watch() {
  for (;;) {
    std::array<pollfd, 2> polled = {pollfd{wake_.get(), POLLIN, 0}, pollfd{-1, POLLIN, 0}};
    int timeout_ms = -1;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      polled[1].fd = watched_ ? watched_.get() : -1;
      if (!watched_ && !kept_.empty()) timeout_ms = kRetryMillis;
    }
    poll(polled.data(), polled.size(), timeout_ms);
    eventfd_t count = 0;
    eventfd_read(wake_.get(), &count);
    OnWatched();
  }
}

void KeeperClient::OnWatched() {
  std::lock_guard lock(mutex_);
  if (watched_) {
    pollfd now = {watched_.get(), POLLIN, 0};
    if (poll(&now, 1, 0) <= 0) return;
    // Nothing is ever said on it, so this is its end.
    connection_.Reset();
    watched_.Reset();
    ForgetDead();
    if (!kept_.empty()) {
      KEEL_LOG_WARN("event=fuse_keeper_lost volumes={} action=\"starting another\"", kept_.size());
    }
  }
  ReapEnded(kEndPatience);
  if (stopping_ || kept_.empty()) return;
  const absl::Status status = Connect(/*start=*/true);
  if (status.ok()) {
    KEEL_LOG_INFO("event=fuse_keeper_connected volumes={}", kept_.size());
    NoteProblem("");
    return;
  }
  connection_.Reset();
  watched_.Reset();
  if (problem().empty()) {
    KEEL_LOG_ERROR(
        "event=fuse_keeper_missing volumes={} error=\"{}\" remedy=\"mend the cause; until then a "
        "restart of the daemon breaks their devices\"",
        kept_.size(), std::string(status.message()));
  }
  NoteProblem(absl::StrCat("the device does not outlive a restart of the daemon: ",
                           std::string(status.message())));
}

}  // namespace keelson::service
