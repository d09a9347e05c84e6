#pragma once
// FuseSession: the server of one FUSE file system that is one file: a volume. Requests come from
// the kernel (of the loop device on the file, in the end), are checked, run as coroutines on the
// device, many at a time, and are answered in whatever order they end.
//
// Made and run by service::FuseFrontend on its reactor's thread; not destroyed before Run returned.
//
// What it takes from the kernel is bounded by a number of requests and a number of bytes; the rest
// waits in the kernel. An idle session holds no buffer. A coroutine that holds a buffer never waits
// for another.
//
// How it ends: Leave (the daemon goes, and a successor is to go on: nothing more is taken, what was
// taken is finished; what fails only because the daemon goes is not answered, and the successor has
// the kernel send it again), End (the file is to go), or the kernel says that the file system is
// gone.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "blockstore/engine/block_device.h"
#include "blockstore/frontend/fuse_channel.h"
#include "blockstore/frontend/fuse_codec.h"
#include "blockstore/io/buffer_pool.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/parking.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/sync.h"
#include "blockstore/io/task.h"

namespace keelson::frontend {

struct FuseOptions {
  std::uint32_t requests_in_flight_max = fuse::kBackgroundMax;
  // Pool buffers that one session may hold. Never more than a quarter of the reactor's arena.
  std::size_t held_bytes_max = std::size_t{8} << 20;
};

// Monotonic; shared by the sessions of a reactor and read there.
struct FuseCounters {
  std::array<std::uint64_t, kFuseCommandCount> requests{};  // by FuseCommand
  std::uint64_t read_bytes = 0;                             // answered
  std::uint64_t written_bytes = 0;                          // acknowledged
  std::uint64_t errors = 0;     // requests answered with an error other than "not supported"
  std::uint64_t left = 0;       // requests left to a successor
  std::uint64_t malformed = 0;  // what the kernel sent and we do not understand
};

class FuseSession {
 public:
  // `name` is for messages. `counters` outlives this; `device` is needed until it was replaced.
  FuseSession(io::Reactor* reactor, std::string name, std::unique_ptr<FuseChannel> channel,
              const FuseOptions& options, engine::BlockDevice* device, FuseCounters* counters);

  // Of a connection that an earlier session served: what it learnt when that began. REQUIRES: Run
  // was not called.
  void Adopt(bool kernel_resends);

  // Serves to the end. Called once.
  io::Task<void> Run();
  // From now on `device` is asked. Completes when no request runs on the one before.
  io::Task<void> Replace(engine::BlockDevice* device);
  // Both make Run return when the requests that were taken have ended.
  void Leave();
  void End();

  // The kernel has asked for its first answer, and got it.
  bool initialised() const { return initialised_; }
  bool kernel_resends() const { return kernel_resends_; }
  // The kernel's end is gone while nobody wanted that: nothing can be served any more.
  bool lost() const { return lost_; }

 private:
  // One request in flight.
  struct Request {
    FuseRequestHeader header;
    engine::BlockDevice* device = nullptr;
    io::Buffer buffer;
    std::size_t charged_bytes = 0;
    Request* next = nullptr;
  };

  // --- fuse_session.cc: the connection ---
  // Takes what is there. False: the file system is gone.
  io::Task<bool> Drain();
  bool HasRoom() const;
  // Whether to go on after `result` of a Receive.
  bool NoteReceiveError(int result);
  void Dispatch(std::size_t size_bytes);
  Request* Take(const FuseRequestHeader& header, std::size_t charged_bytes);
  void Release(Request* request);
  void Send(const FuseReply& reply, std::span<const std::byte> data);

  // --- fuse_commands.cc: the requests ---
  // Those that are answered at once. False: it is another one.
  bool AnswerAtOnce(const FuseRequestHeader& header);
  FuseFileRules Rules() const;
  void StartRead(const FuseRequestHeader& header);
  void StartWrite(const FuseRequestHeader& header);
  io::Task<void> RunRead(Request* request, std::uint32_t size_bytes);
  io::Task<void> RunWrite(Request* request);
  io::Task<void> RunFsync(Request* request);
  io::Task<void> RunFallocate(Request* request);
  // The answer of `request` when it is no data. Releases it.
  void Finish(Request* request, const absl::Status& status);

  io::Reactor* reactor_;
  const std::string name_;
  const std::unique_ptr<FuseChannel> channel_;
  const FuseOptions options_;
  const std::size_t held_bytes_max_;
  FuseCounters* counters_;
  engine::BlockDevice* device_;

  bool initialised_ = false;
  bool kernel_resends_ = false;
  bool resend_pending_ = false;  // tell the kernel before anything is taken
  bool stopping_ = false;
  bool leaving_ = false;
  bool lost_ = false;

  std::array<std::byte, fuse::kHeadBytes> head_;  // of the request just received
  io::Buffer payload_;                            // behind it
  std::vector<std::unique_ptr<Request>> nodes_;
  Request* free_ = nullptr;
  std::uint32_t in_flight_ = 0;
  std::size_t held_bytes_ = 0;
  io::Parking changed_;    // for the reader: something was released, or is to end
  io::WaitList replaced_;  // for Replace: something was released
  io::Gate gate_;
};

}  // namespace keelson::frontend
