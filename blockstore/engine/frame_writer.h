#pragma once
// FrameWriter: the one writer of a connection of the data protocol, on either side. Frames are
// queued as they become ready and sent many at a time: one WriteAll carries all that is ready,
// headers and data as they lie in memory. Owned by the connection; its reactor's thread only.

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "blockstore/io/parking.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/task.h"
#include "blockstore/wire/frame.h"

namespace keelson::engine {

// A frame on its way out. Belongs to whoever pushed it, and stays where it is, with its data
// unchanged, from Push until the writer's `returned` is called with it.
struct OutFrame {
  wire::EncodedFrame encoded;
  bool queued = false;   // the writer has it
  bool started = false;  // the stream has been given it: the peer may know it
  OutFrame* next = nullptr;
};

class FrameWriter {
 public:
  // Called once for each pushed frame, when the stream does not look at it any more: it has left,
  // or was dropped because the connection ended.
  using Returned = void (*)(void* owner, OutFrame* frame);

  // `reactor` and `stream` outlive the writer. One WriteAll may last `timeout_ns`, or for ever with
  // io::kNoDeadline, when the owner has deadlines of its own.
  FrameWriter(io::Reactor* reactor, io::Stream* stream, std::int64_t timeout_ns, Returned returned,
              void* owner)
      : reactor_(reactor),
        stream_(stream),
        timeout_ns_(timeout_ns),
        returned_(returned),
        owner_(owner),
        work_(reactor) {}

  void Push(OutFrame* frame);
  // Before all that are queued and not yet being sent.
  void PushFirst(OutFrame* frame);
  // Nothing is queued and nothing is being sent.
  bool idle() const { return ready_.head == nullptr && !writing_; }

  // Sends until Finish was called and the queue is empty, or Abort was, or the stream fails: the
  // error then. Everything has been returned when it completes; later frames are at once.
  io::Task<absl::Status> Run();
  // The rest may take this long.
  void Finish(std::int64_t timeout_ns);
  // Sends no more. The caller has shut down the stream.
  void Abort();

 private:
  static constexpr std::size_t kFramesPerWrite = 64;
  static constexpr std::size_t kPartsPerFrame = 3;
  // Keeps one WriteAll short enough for a deadline to mean a stall and not a slow network.
  static constexpr std::size_t kBytesPerWrite = std::size_t{1} << 20;

  struct Queue {
    OutFrame* head = nullptr;
    OutFrame* tail = nullptr;
    void Append(OutFrame* frame);
    OutFrame* Pop();
  };

  // Moves ready frames to batch_ and describes them in parts_; returns the number of parts.
  std::size_t Gather();
  void Return(Queue* queue);
  std::int64_t WriteDeadline() const;

  io::Reactor* reactor_;
  io::Stream* stream_;
  std::int64_t timeout_ns_;
  const Returned returned_;
  void* const owner_;
  io::Parking work_;
  Queue ready_;
  Queue batch_;  // being sent
  std::array<iovec, kPartsPerFrame * kFramesPerWrite> parts_;
  bool writing_ = false;
  bool finished_ = false;
  bool aborted_ = false;
};

}  // namespace keelson::engine
