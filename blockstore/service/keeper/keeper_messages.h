#pragma once
// The messages between the daemon and keelson-fuse-keeper, on a UNIX SOCK_SEQPACKET socket: one
// fixed structure in each direction, with a descriptor beside it where one is handed over. Both
// programs run on one machine, but may be of different versions: a message of another version or
// size is refused. Blocking calls; any thread.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace keelson::service {

// Owns a descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.Release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { Reset(); }

  explicit operator bool() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset();
  // Another descriptor of the same open file.
  absl::StatusOr<Descriptor> Duplicate() const;

 private:
  int fd_ = -1;
};

enum class KeeperAct : std::uint32_t {
  kKeep = 1,    // name, note, descriptor; replaces one of the same name
  kDrop = 2,    // name; OK when there is none
  kList = 3,    // answered with a kEntry for each, then kDone
  kEntry = 4,   // name, note, descriptor
  kDone = 5,    // the answer to kKeep and kDrop, and the end of that to kList
  kRefuse = 6,  // the answer when it could not be done; note says why
};

struct KeeperMessage {
  KeeperAct act = KeeperAct::kDone;
  std::string name;  // of a volume
  std::string note;  // what the daemon wants to know again; at most kKeeperNoteMax bytes
};

inline constexpr std::size_t kKeeperNameMax = 253;
inline constexpr std::size_t kKeeperNoteMax = 511;

struct ReceivedKeeperMessage {
  KeeperMessage message;
  Descriptor descriptor;
};

absl::Status SendKeeperMessage(int socket, const KeeperMessage& message, int fd = -1);
// UNAVAILABLE: the other end is gone, or nothing came within `timeout_ms` (-1: for ever).
absl::StatusOr<ReceivedKeeperMessage> ReceiveKeeperMessage(int socket, int timeout_ms);

// A listening, or connected, socket of `path`.
absl::StatusOr<Descriptor> ListenAsKeeper(const std::string& path);
// NOT_FOUND: nobody listens there. PERMISSION_DENIED: another user does.
absl::StatusOr<Descriptor> ConnectToKeeper(const std::string& path);
// Whether the process at the other end is of this user.
bool PeerIsSameUser(int socket);

}  // namespace keelson::service
