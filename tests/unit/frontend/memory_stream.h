#pragma once
// An in-memory connection: MemoryStream is the server's end, MemoryPeer what the test holds of the
// client's end. The peer sends and takes bytes directly, decides how many the server gets at once
// and how many it may send before it must wait. One thread; the peer may outlive the stream.

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "blockstore/io/reactor.h"
#include "blockstore/io/stream.h"

namespace keelson::frontend::testing {

class MemoryStream;

class MemoryPeer {
 public:
  explicit MemoryPeer(io::Reactor* reactor) : reactor_(reactor) {}

  // The server's end. Called once.
  std::unique_ptr<io::Stream> MakeStream();

  void Send(std::string_view bytes);
  // The orderly end of what the client sends; it still receives.
  void CloseSending();
  // The connection is reset: the server's reads and writes fail.
  void Vanish();
  // Everything the server has sent since the last call.
  std::string Receive();

  // At most this many bytes a read, so that messages arrive in pieces.
  void set_read_bytes_max(std::size_t bytes) { read_bytes_max_ = bytes; }
  // How many unreceived bytes fit before the server's writes wait.
  void set_window_bytes(std::size_t bytes) { window_bytes_ = bytes; }

  bool closed_by_server() const { return shut_down_; }
  std::size_t unread_bytes() const { return to_server_.size() - read_bytes_; }
  std::size_t write_calls() const { return write_calls_; }

 private:
  friend class MemoryStream;
  // One waiting coroutine of the server with its deadline.
  struct Waiting {
    std::coroutine_handle<> handle;
    io::TimerNode timer;
    bool timed_out = false;
  };
  struct WaitAwaiter;

  WaitAwaiter WaitFor(Waiting* waiting, std::int64_t deadline_ns);
  void Wake(Waiting* waiting);
  bool down() const { return vanished_ || shut_down_; }

  io::Reactor* reactor_;
  std::string to_server_;
  std::size_t read_bytes_ = 0;  // of to_server_, by the server
  std::string to_client_;
  std::size_t read_bytes_max_ = std::numeric_limits<std::size_t>::max();
  std::size_t window_bytes_ = std::numeric_limits<std::size_t>::max();
  std::size_t write_calls_ = 0;
  bool sending_closed_ = false;
  bool vanished_ = false;
  bool shut_down_ = false;
  Waiting reader_;
  Waiting writer_;
};

}  // namespace keelson::frontend::testing
