#pragma once
// The one writer of an NBD connection in the transmission phase. Replies are queued as they become
// ready and sent many at a time: one WriteAll carries every reply that is ready, headers and
// payloads as they lie in memory. Owned by the session; its reactor's thread only.
//
// A client that does not take its replies within the deadline, or whose socket fails, breaks the
// writer: the stream is shut down, and this reply and all later ones are dropped.

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>

#include "blockstore/frontend/nbd_request.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/task.h"

namespace keelson::frontend {

class NbdReplyWriter {
 public:
  // All outlive the writer.
  NbdReplyWriter(io::Reactor* reactor, io::Stream* stream, NbdRequestPool* requests,
                 std::int64_t send_timeout_ns)
      : reactor_(reactor),
        stream_(stream),
        requests_(requests),
        send_timeout_ns_(send_timeout_ns),
        work_(reactor) {}

  // Queues the reply in `request`, which the writer releases when the reply has left.
  void Push(NbdRequest* request);

  // co_await writer.Send(request): queues a part of the reply and waits until it has left; the
  // request stays the caller's. False: the writer is broken.
  auto Send(NbdRequest* request) {
    struct Awaiter {
      NbdReplyWriter* writer;
      NbdRequest* request;
      bool await_ready() const noexcept { return false; }
      bool await_suspend(std::coroutine_handle<> handle) {
        if (writer->broken_) return false;
        request->sent = handle;
        writer->Push(request);
        return true;
      }
      bool await_resume() const noexcept { return !writer->broken_; }
    };
    return Awaiter{this, request};
  }

  // Sends until Finish was called and the queue is empty.
  io::Task<void> Run();
  void Finish();

  // Gives the connection up.
  void Fail();
  bool broken() const { return broken_; }
  // It was the deadline that broke it.
  bool stalled() const { return stalled_; }

 private:
  static constexpr std::size_t kRepliesPerWrite = 64;
  // Keeps one WriteAll short enough for its deadline to mean a stall and not a slow network.
  static constexpr std::size_t kBytesPerWrite = std::size_t{1} << 20;

  struct Queue {
    NbdRequest* head = nullptr;
    NbdRequest* tail = nullptr;
    void Append(NbdRequest* request);
    NbdRequest* Pop();
  };

  // Moves ready replies to batch_ and describes them in parts_; returns the number of parts.
  std::size_t Gather();
  void Complete(Queue* queue);

  io::Reactor* reactor_;
  io::Stream* stream_;
  NbdRequestPool* requests_;
  const std::int64_t send_timeout_ns_;
  io::Parking work_;
  Queue ready_;
  Queue continued_;  // of the unfinished reply: at most one entry
  Queue batch_;      // being sent
  std::array<iovec, 2 * kRepliesPerWrite> parts_;
  bool unfinished_ = false;  // the last reply sent wants its continuation next
  bool finished_ = false;
  bool broken_ = false;
  bool stalled_ = false;
};

}  // namespace keelson::frontend
