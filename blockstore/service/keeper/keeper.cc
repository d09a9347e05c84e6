#include "blockstore/service/keeper/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/service/keeper/keeper_messages.h"

namespace keelson::service {
namespace {

constexpr std::size_t kClientsMax = 64;
constexpr std::size_t kKeptMax = 4096;
// How long it waits for the first descriptor.
constexpr int kIdleMillis = 10'000;
constexpr int kAnswerMillis = 1'000;

class Keeper {
 public:
  Keeper(Descriptor listener, bool stay) : listener_(std::move(listener)), stay_(stay) {}

  void Run() {
    while (stay_ || !Done()) {
      if (!Turn()) return;
    }
  }

 private:
  struct Kept {
    std::string note;
    Descriptor descriptor;
  };

  bool Done() const { return kept_something_ && kept_.empty(); }

  // False: nothing has happened for long, and nothing is kept.
  bool Turn() {
    std::vector<pollfd> polled = {{listener_.get(), POLLIN, 0}};
    for (const Descriptor& client : clients_) polled.push_back({client.get(), POLLIN, 0});
    const std::size_t first_kept = polled.size();
    std::vector<std::string> names;
    // Of these only the end of the file system is told of, which poll reports unasked.
    for (const auto& [name, kept] : kept_) {
      polled.push_back({kept.descriptor.get(), 0, 0});
      names.push_back(name);
    }
    const bool idle = kept_.empty() && clients_.empty() && !stay_;
    const int count = poll(polled.data(), polled.size(), idle ? kIdleMillis : -1);
    if (count < 0 && errno != EINTR) return false;
    if (count == 0) return false;
    for (std::size_t i = first_kept; i < polled.size(); ++i) {
      if ((polled[i].revents & (POLLERR | POLLHUP)) != 0) kept_.erase(names[i - first_kept]);
    }
    std::vector<Descriptor> still;
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      const bool spoke = polled[1 + i].revents != 0;
      if (!spoke || Serve(clients_[i].get())) still.push_back(std::move(clients_[i]));
    }
    clients_ = std::move(still);
    if (polled[0].revents != 0) Accept();
    return true;
  }

  void Accept() {
    Descriptor client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client || !PeerIsSameUser(client.get()) || clients_.size() >= kClientsMax) return;
    clients_.push_back(std::move(client));
  }

  // False: the client is gone, or is none of ours.
  bool Serve(int client) {
    absl::StatusOr<ReceivedKeeperMessage> received = ReceiveKeeperMessage(client, kAnswerMillis);
    if (!received.ok()) return false;
    KeeperMessage& message = received->message;
    KeeperMessage answer;
    switch (message.act) {
      case KeeperAct::kKeep:
        if (!received->descriptor || message.name.empty() || kept_.size() >= kKeptMax) {
          answer.act = KeeperAct::kRefuse;
          answer.note = "a name and a descriptor are needed, and room for them";
          break;
        }
        kept_[message.name] = Kept{std::move(message.note), std::move(received->descriptor)};
        kept_something_ = true;
        break;
      case KeeperAct::kDrop:
        kept_.erase(message.name);
        break;
      case KeeperAct::kList:
        for (const auto& [name, kept] : kept_) {
          const KeeperMessage entry = {KeeperAct::kEntry, name, kept.note};
          if (!SendKeeperMessage(client, entry, kept.descriptor.get()).ok()) return false;
        }
        break;
      default:
        answer.act = KeeperAct::kRefuse;
        answer.note = "it is not known what that asks for";
        break;
    }
    return SendKeeperMessage(client, answer).ok();
  }

  Descriptor listener_;
  const bool stay_;
  bool kept_something_ = false;
  std::vector<Descriptor> clients_;
  std::map<std::string, Kept> kept_;
};

int Refuse(const absl::Status& status) {
  std::fprintf(stderr, "keelson-fuse-keeper: %s\n", std::string(status.message()).c_str());
  return 1;
}

// The kernel must not end the one process that a node short of memory needs, nor page it out.
void StayInMemory() {
  if (FILE* file = std::fopen("/proc/self/oom_score_adj", "we"); file != nullptr) {
    std::fputs("-1000", file);
    std::fclose(file);  // refused without CAP_SYS_RESOURCE, which is then the operator's choice
  }
  mlockall(MCL_CURRENT | MCL_FUTURE);
}

}  // namespace

int RunKeeper(const KeeperOptions& options) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  const std::string lock_path = options.socket_path + ".lock";
  const Descriptor lock(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return Refuse(io::ErrnoStatus(errno, absl::StrCat("open of ", lock_path)));
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return Refuse(absl::AlreadyExistsError(
        absl::StrCat("another one serves ", options.socket_path, " already")));
  }
  absl::StatusOr<Descriptor> listener = ListenAsKeeper(options.socket_path);
  if (!listener.ok()) return Refuse(listener.status());
  StayInMemory();
  Keeper(*std::move(listener), options.stay).Run();
  unlink(options.socket_path.c_str());
  return 0;
}

}  // namespace keelson::service
