#pragma once
// NbdClient: a blocking NBD client of a few calls, with simple replies, written from the protocol's
// document and not from our server's code. For tests, on the test's thread.

#include <cstdint>
#include <memory>
#include <string>

namespace keelson::service {

class NbdClient {
 public:
  // Connects to the export of `uri` (nbd+unix:///NAME?socket=PATH). nullptr: refused.
  static std::unique_ptr<NbdClient> Connect(const std::string& uri);
  ~NbdClient();

  std::uint64_t size_bytes() const { return size_bytes_; }
  bool read_only() const { return (flags_ & 2) != 0; }

  // Each returns the NBD error number of the reply: 0 is success, -1 that the connection is gone.
  int Write(std::uint64_t offset, const std::string& data);
  int Read(std::uint64_t offset, std::uint32_t size_bytes, std::string* data);
  int Flush();

 private:
  explicit NbdClient(int fd) : fd_(fd) {}
  bool Handshake(const std::string& name);
  int Request(std::uint16_t command, std::uint64_t offset, std::uint32_t size_bytes,
              const std::string& payload);
  bool Send(const std::string& bytes);
  bool Receive(std::size_t size_bytes, std::string* bytes);

  int fd_;
  std::uint64_t size_bytes_ = 0;
  std::uint16_t flags_ = 0;
  std::uint64_t cookie_ = 0;
};

}  // namespace keelson::service
