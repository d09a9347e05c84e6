#pragma once
// MemoryFuse: the kernel's side of a FUSE connection in memory: a queue of requests for the session
// and a list of its answers. MakeChannel gives the session's end. One thread; for a ManualReactor.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "blockstore/frontend/fuse_channel.h"
#include "blockstore/frontend/fuse_protocol.h"
#include "blockstore/io/parking.h"

namespace keelson::frontend::testing {

// An answer as the kernel gets it.
struct FuseAnswer {
  std::uint64_t unique = 0;
  std::int32_t error = 0;  // as sent: 0, a negative errno, or the code of a notification
  std::string body;
};

class MemoryFuse {
 public:
  explicit MemoryFuse(io::Reactor* reactor) : arrived_(reactor) {}

  // REQUIRES: this outlives it.
  std::unique_ptr<FuseChannel> MakeChannel();

  // Queues the bytes of one request, as they are.
  void SendRaw(std::string bytes);
  // Queues a request with a sound header.
  void Send(std::uint32_t opcode, std::uint64_t unique, std::string_view arguments);
  void SendInit(std::uint64_t unique, std::uint32_t minor, bool resends);
  void SendRead(std::uint64_t unique, std::uint64_t offset, std::uint32_t size_bytes);
  void SendWrite(std::uint64_t unique, std::uint64_t offset, std::string_view data,
                 std::uint32_t flags = 0);
  void SendFallocate(std::uint64_t unique, std::uint32_t mode, std::uint64_t offset,
                     std::uint64_t size_bytes);
  // What the next Receive says instead of giving a request.
  void FailReceive(int error) {
    failures_.push_back(error);
    Arrive();
  }
  // The file system is gone: nothing works any more.
  void Vanish() {
    FailReceive(ENODEV);
    gone_ = true;
  }

  std::size_t waiting() const { return requests_.size(); }
  const std::vector<FuseAnswer>& answers() const { return answers_; }
  // The answer to `unique`, or nullptr.
  const FuseAnswer* AnswerTo(std::uint64_t unique) const;

 private:
  friend class MemoryFuseChannel;
  void Arrive() { arrived_.Unpark(); }

  std::deque<std::string> requests_;
  std::deque<int> failures_;
  std::vector<FuseAnswer> answers_;
  bool gone_ = false;
  bool cancelled_ = false;
  io::Parking arrived_;
};

template <typename T>
std::string_view BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// The body of `answer` as a T; zeroes when it is too short.
template <typename T>
T BodyOf(const FuseAnswer* answer) {
  T body = {};
  if (answer != nullptr && answer->body.size() >= sizeof(body)) {
    std::copy_n(answer->body.data(), sizeof(body), reinterpret_cast<char*>(&body));
  }
  return body;
}

}  // namespace keelson::frontend::testing
