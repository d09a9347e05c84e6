#include "tests/unit/service/nbd_client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace keelson::service {
namespace {

constexpr std::uint32_t kOptionGo = 7;
constexpr std::uint32_t kReplyAck = 1;
constexpr std::uint32_t kReplyInfo = 3;
constexpr std::uint16_t kRead = 0;
constexpr std::uint16_t kWrite = 1;
constexpr std::uint16_t kFlush = 3;

// `size_bytes` bytes of `value`, most significant first.
std::string Big(std::uint64_t value, int size_bytes) {
  std::string bytes;
  for (int shift = (size_bytes - 1) * 8; shift >= 0; shift -= 8) {
    bytes.push_back(static_cast<char>(value >> shift));
  }
  return bytes;
}

std::uint64_t Number(const std::string& bytes, std::size_t at, std::size_t size_bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size_bytes; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

}  // namespace

std::unique_ptr<NbdClient> NbdClient::Connect(const std::string& uri) {
  const std::string scheme = "nbd+unix:///";
  const std::string query = "?socket=";
  const std::size_t mark = uri.find(query);
  if (uri.rfind(scheme, 0) != 0 || mark == std::string::npos) return nullptr;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = uri.substr(mark + query.size());
  if (path.size() >= sizeof(address.sun_path)) return nullptr;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto client = std::unique_ptr<NbdClient>(new NbdClient(fd));
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      !client->Handshake(uri.substr(scheme.size(), mark - scheme.size()))) {
    return nullptr;
  }
  return client;
}

NbdClient::~NbdClient() { close(fd_); }

bool NbdClient::Handshake(const std::string& name) {
  std::string greeting;
  if (!Receive(18, &greeting) || greeting.substr(0, 16) != "NBDMAGICIHAVEOPT") return false;
  const std::string payload = Big(name.size(), 4) + name + Big(0, 2);
  if (!Send(Big(3, 4) + "IHAVEOPT" + Big(kOptionGo, 4) + Big(payload.size(), 4) + payload)) {
    return false;
  }
  for (;;) {
    std::string header;
    std::string body;
    if (!Receive(20, &header)) return false;
    const std::uint64_t reply = Number(header, 12, 4);
    if (!Receive(Number(header, 16, 4), &body)) return false;
    if (reply == kReplyAck) return true;
    if (reply != kReplyInfo) return false;
    if (body.size() == 12 && Number(body, 0, 2) == 0) {
      size_bytes_ = Number(body, 2, 8);
      flags_ = static_cast<std::uint16_t>(Number(body, 10, 2));
    }
  }
}

int NbdClient::Request(std::uint16_t command, std::uint64_t offset, std::uint32_t size_bytes,
                       const std::string& payload) {
  const std::uint64_t cookie = ++cookie_;
  std::string reply;
  if (!Send(Big(0x25609513, 4) + Big(0, 2) + Big(command, 2) + Big(cookie, 8) + Big(offset, 8) +
            Big(size_bytes, 4) + payload) ||
      !Receive(16, &reply) || Number(reply, 0, 4) != 0x67446698 || Number(reply, 8, 8) != cookie) {
    return -1;
  }
  return static_cast<int>(Number(reply, 4, 4));
}

int NbdClient::Write(std::uint64_t offset, const std::string& data) {
  return Request(kWrite, offset, static_cast<std::uint32_t>(data.size()), data);
}

int NbdClient::Read(std::uint64_t offset, std::uint32_t size_bytes, std::string* data) {
  const int error = Request(kRead, offset, size_bytes, "");
  if (error != 0) return error;
  return Receive(size_bytes, data) ? 0 : -1;
}

int NbdClient::Flush() { return Request(kFlush, 0, 0, ""); }

bool NbdClient::Send(const std::string& bytes) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t got = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (got <= 0) return false;
    sent += static_cast<std::size_t>(got);
  }
  return true;
}

bool NbdClient::Receive(std::size_t size_bytes, std::string* bytes) {
  bytes->resize(size_bytes);
  std::size_t received = 0;
  while (received < size_bytes) {
    const ssize_t got = recv(fd_, bytes->data() + received, size_bytes - received, 0);
    if (got <= 0) return false;
    received += static_cast<std::size_t>(got);
  }
  return true;
}

}  // namespace keelson::service
