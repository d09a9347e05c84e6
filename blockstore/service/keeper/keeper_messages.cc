#include "blockstore/service/keeper/keeper_messages.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"

namespace keelson::service {
namespace {

constexpr std::uint32_t kMagic = 0x4b504b31;  // "KPK1"; the digit is the version
constexpr int kListenBacklog = 16;

// As it is sent. Text is padded with zeroes.
struct Packet {
  std::uint32_t magic;
  std::uint32_t act;
  std::array<char, kKeeperNameMax + 1> name;
  std::array<char, kKeeperNoteMax + 1> note;
};

template <std::size_t kSize>
void Put(std::string_view text, std::array<char, kSize>* into) {
  into->fill('\0');
  std::copy_n(text.begin(), std::min(text.size(), kSize - 1), into->begin());
}

template <std::size_t kSize>
std::string Get(const std::array<char, kSize>& from) {
  return std::string(from.begin(), std::find(from.begin(), from.end() - 1, '\0'));
}

// Room for one descriptor beside a message.
union DescriptorRoom {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the path of a socket has at most ", sizeof(address.sun_path) - 1,
                     " characters: ", path, "; choose a shorter --run-dir"));
  }
  std::copy(path.begin(), path.end(), address.sun_path);
  return address;
}

absl::StatusOr<Descriptor> NewSocket() {
  Descriptor made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!made) return io::ErrnoStatus(errno, "making a socket");
  return made;
}

}  // namespace

void Descriptor::Reset() {
  if (fd_ >= 0) close(Release());
}

absl::StatusOr<Descriptor> Descriptor::Duplicate() const {
  Descriptor duplicate(fcntl(fd_, F_DUPFD_CLOEXEC, 0));
  if (!duplicate) return io::ErrnoStatus(errno, "duplicating a descriptor");
  return duplicate;
}

absl::Status SendKeeperMessage(int socket, const KeeperMessage& message, int fd) {
  Packet packet = {};
  packet.magic = kMagic;
  packet.act = static_cast<std::uint32_t>(message.act);
  Put(message.name, &packet.name);
  Put(message.note, &packet.note);
  iovec part = {&packet, sizeof(packet)};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  DescriptorRoom room = {};
  if (fd >= 0) {
    header.msg_control = room.bytes;
    header.msg_controllen = sizeof(room.bytes);
    cmsghdr* control = CMSG_FIRSTHDR(&header);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof(fd));
    std::memcpy(CMSG_DATA(control), &fd, sizeof(fd));
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return io::ErrnoStatus(errno, "sending to the other end of the keeper's socket");
  return absl::OkStatus();
}

absl::StatusOr<ReceivedKeeperMessage> ReceiveKeeperMessage(int socket, int timeout_ms) {
  pollfd ready = {socket, POLLIN, 0};
  int rc = 0;
  do {
    rc = poll(&ready, 1, timeout_ms);
  } while (rc < 0 && errno == EINTR);
  if (rc <= 0) return absl::UnavailableError("the other end of the keeper's socket is silent");
  Packet packet = {};
  iovec part = {&packet, sizeof(packet)};
  msghdr header = {};
  DescriptorRoom room = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = room.bytes;
  header.msg_controllen = sizeof(room.bytes);
  const ssize_t got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  if (got < 0) return io::ErrnoStatus(errno, "receiving from the keeper's socket");
  if (got == 0) return absl::UnavailableError("the other end of the keeper's socket is gone");
  ReceivedKeeperMessage received;
  if (const cmsghdr* control = CMSG_FIRSTHDR(&header);
      control != nullptr && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS &&
      control->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(control), sizeof(fd));
    received.descriptor = Descriptor(fd);
  }
  if (got != sizeof(packet) || packet.magic != kMagic) {
    return absl::FailedPreconditionError(
        "the other end of the keeper's socket speaks another version: detach the volumes that have "
        "the frontend loop with the version that attached them");
  }
  received.message.act = static_cast<KeeperAct>(packet.act);
  received.message.name = Get(packet.name);
  received.message.note = Get(packet.note);
  return received;
}

absl::StatusOr<Descriptor> ListenAsKeeper(const std::string& path) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  ASSIGN_OR_RETURN(Descriptor listener, NewSocket());
  // Whoever listened there is gone: the caller holds the lock.
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return io::ErrnoStatus(errno, absl::StrCat("removal of ", path));
  }
  const mode_t mask = umask(S_IXUSR | S_IRWXG | S_IRWXO);
  const int bound =
      bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = errno;
  umask(mask);
  if (bound != 0) return io::ErrnoStatus(error, absl::StrCat("binding of ", path));
  if (listen(listener.get(), kListenBacklog) != 0) {
    return io::ErrnoStatus(errno, absl::StrCat("listening on ", path));
  }
  return listener;
}

absl::StatusOr<Descriptor> ConnectToKeeper(const std::string& path) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  ASSIGN_OR_RETURN(Descriptor connection, NewSocket());
  if (connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
      0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return absl::NotFoundError(absl::StrCat("no keelson-fuse-keeper listens on ", path));
    }
    return io::ErrnoStatus(errno, absl::StrCat("connecting to ", path));
  }
  if (!PeerIsSameUser(connection.get())) {
    return absl::PermissionDeniedError(absl::StrCat("another user listens on ", path));
  }
  return connection;
}

bool PeerIsSameUser(int socket) {
  ucred peer = {};
  socklen_t size_bytes = sizeof(peer);
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size_bytes) == 0 &&
         peer.uid == geteuid();
}

}  // namespace keelson::service
