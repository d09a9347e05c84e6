#pragma once
// RemoteSession: one connection of an engine to a member on another node, from the handshake to its
// end, and RemoteCall: one request on it. Owned by RemoteReplica; its reactor's thread only.
//
// Requests are pipelined and answered in any order. One coroutine reads answers, the data of a read
// straight into the caller's buffer; one sends (FrameWriter), straight from the caller's buffer.
// The session ends when a call is late, the stream fails, the peer breaks the protocol or leaves,
// or its owner says so. Then the stream is shut down, both coroutines end, and only after that the
// calls outstanding complete: nothing touches a caller's buffer once its call has completed.

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/frame_reader.h"
#include "blockstore/engine/frame_writer.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/sync.h"
#include "blockstore/replica/replica_port.h"
#include "blockstore/wire/messages.h"

namespace keelson::engine {

class RemoteSession;

// Lives in the caller's frame: made, `encoded`, started, awaited to its end, read.
class RemoteCall : public OutFrame {
 public:
  // The session outlives the call: its Drain waits for it.
  RemoteCall(RemoteSession* session, wire::FrameType type);
  ~RemoteCall();
  RemoteCall(const RemoteCall&) = delete;
  RemoteCall& operator=(const RemoteCall&) = delete;

  // What the request's frame begins with; the id is this call's.
  wire::FrameHead head() const;

  // Where the data of the answer goes; a Read's is filled exactly.
  std::span<std::byte> into;
  // Sent before others, and not counted among them (heartbeats).
  bool urgent = false;

  // Sends the frame in `encoded`; the session ends if it is not answered by then.
  void Start(std::int64_t deadline_ns);
  // co_await call.Done(): until it has completed. Once, after Start.
  auto Done() {
    struct Awaiter {
      RemoteCall* call;
      bool await_ready() const noexcept { return call->done_; }
      void await_suspend(std::coroutine_handle<> handle) noexcept { call->waiter_ = handle; }
      void await_resume() const noexcept {}
    };
    return Awaiter{this};
  }

  // After it is done: the member's answer, or why there is none.
  const absl::Status& status() const { return status_; }
  // The bytes of the result, for wire::ParseResult.
  std::span<const std::byte> result() const {
    return std::as_bytes(std::span(result_.data(), result_.size()));
  }
  std::size_t data_bytes() const { return data_bytes_; }
  // The result could not be read: ends the session. The status of the call then.
  absl::Status Refuse(const absl::Status& what);

 private:
  friend class RemoteSession;

  RemoteSession* session_;
  const wire::FrameType type_;
  const std::uint64_t id_;
  std::int64_t deadline_ns_ = 0;
  absl::Status status_;
  std::string result_;
  std::size_t data_bytes_ = 0;
  bool admitted_ = false;  // counted against calls_max
  bool answered_ = false;  // status_ and result_ are the answer
  bool late_ = false;
  bool done_ = false;
  std::coroutine_handle<> waiter_;
  RemoteCall* previous_ = nullptr;  // of all that are outstanding, oldest first
  RemoteCall* next_ = nullptr;
  RemoteCall* next_in_bucket_ = nullptr;
};

class RemoteSession {
 public:
  // `name` is for messages: the member and its address. The reactor outlives the session.
  RemoteSession(io::Reactor* reactor, std::unique_ptr<io::Stream> stream, std::string name);
  ~RemoteSession();

  // Handshake and Prepare. On an error the session is over; Drain it. Called once, first.
  io::Task<absl::StatusOr<replica::PrepareAnswer>> Open(pool::PoolId pool, pool::ReplicaId replica,
                                                        pool::Epoch epoch,
                                                        std::int64_t deadline_ns);
  // Prepared, and neither ended here nor, as far as is known, at the member.
  bool open() const { return prepared_ && refusal_.ok(); }
  // As the member's latest answer said.
  bool wants_new_generation() const { return open() && wants_new_generation_; }

  // Ends it in good order: tells the member, if that can be done at once.
  void Leave(const absl::Status& why);
  // Ends it now. No effect on the status when it has ended already.
  void End(const absl::Status& why);
  // Completes when nothing of it runs and no RemoteCall is left. After Leave or End; called once.
  io::Task<void> Drain();

 private:
  friend class RemoteCall;
  // The member takes 256 requests at a time; what is above this waits here, so that heartbeats
  // find room.
  static constexpr std::size_t kCallsMax = 240;
  static constexpr std::size_t kBuckets = 256;

  io::Task<absl::Status> Handshake(std::int64_t deadline_ns);
  io::Task<void> RunWriter();
  io::Task<void> RunReader();
  // Serves until the connection is over; the status says why, as the calls shall see it.
  io::Task<absl::Status> ReadAnswers();
  absl::StatusOr<RemoteCall*> Match(const wire::FrameHeader& header);
  absl::Status TakeAnswer(const wire::FrameHeader& header, RemoteCall* call);

  // --- remote_call.cc: the calls outstanding ---
  void Start(RemoteCall* call);
  void Send(RemoteCall* call);
  void SendWaiting();
  void OnAnswered(RemoteCall* call);
  void Complete(RemoteCall* call);
  void CompleteAll();
  RemoteCall* Find(std::uint64_t id) const;
  static void OnReturned(void* owner, OutFrame* frame);
  RemoteCall** Bucket(std::uint64_t id) { return &buckets_[id % kBuckets]; }
  void ArmTimer(std::int64_t when_ns);
  void OnTimer();

  void OnLoopEnded();

  absl::Status Lost(const absl::Status& what) const;
  absl::Status Broke(const absl::Status& what) const;

  io::Reactor* reactor_;
  std::unique_ptr<io::Stream> stream_;
  const std::string name_;
  FrameReader reader_;
  FrameWriter writer_;
  io::Gate gate_;          // the two loops
  std::size_t loops_ = 0;  // that run
  bool shut_down_ = false;

  pool::Epoch epoch_;
  pool::Uuid incarnation_;
  bool prepared_ = false;
  bool wants_new_generation_ = false;
  absl::Status refusal_;  // what later calls get; OK while the session is open
  absl::Status ended_;    // what those outstanding get; OK while there is a connection
  OutFrame bye_;

  std::uint64_t last_id_ = 0;
  std::size_t users_ = 0;  // RemoteCalls that exist
  io::WaitList unused_;
  std::size_t in_flight_ = 0;  // admitted calls
  RemoteCall* first_ = nullptr;
  RemoteCall* last_ = nullptr;
  // The oldest that was not sent for want of room, and every later one that is not urgent.
  RemoteCall* first_waiting_ = nullptr;
  std::array<RemoteCall*, kBuckets> buckets_{};
  io::TimerNode timer_;  // not later than the earliest deadline
};

}  // namespace keelson::engine
