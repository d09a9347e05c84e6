#pragma once
// RemoteVolume: a volume that another node's engine serves, as a BlockDevice for the frontends of
// this node (R16; docs/protocol.md "Other nodes"). A client of that node's daemon: it pipelines,
// and when its connection is lost it connects again and sends again, in order, what was not
// answered.
//
// Owned by the service; one reactor. Lifecycle: Start, I/O, Close; then it may be destroyed.
// While there is no engine, calls wait, for the outage limit at most; then they fail, and later
// ones at once, with UNAVAILABLE, until one is reached again. Other errors are the engine's. Data
// goes from and to the caller's buffers; nobody looks at them once a call has completed.

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/block_device.h"
#include "blockstore/frontend/client_name.h"
#include "blockstore/frontend/nbd_client.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/parking.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/sync.h"

namespace keelson::frontend {

struct RemoteVolumeOptions {
  std::int64_t outage_limit_ns = 60'000'000'000;  // 0: for ever
  std::int64_t connect_timeout_ns = 3'000'000'000;
  // What an earlier session of this node has under way ends before a new one begins.
  std::int64_t handshake_timeout_ns = 10'000'000'000;
  std::int64_t retry_interval_ns = 200'000'000;
  // When nothing has come for the first, it is asked for a sign of life; for the second, it is
  // lost.
  std::int64_t ping_after_ns = 5'000'000'000;
  std::int64_t silence_limit_ns = 15'000'000'000;
};

// Where the engine is, and what it knows this client by.
struct RemoteTarget {
  io::Address address;
  engine::Ticket ticket;
  std::uint64_t attachment = 0;
};

// A call on its way. Lives in the caller's frame until it has completed.
struct RemoteRequest {
  NbdRequestHeader header;  // its cookie names its slot
  std::span<std::byte> into;
  std::span<const std::byte> from;
  std::uint64_t covers = 0;    // of a flush: the writes that were answered before it
  std::uint64_t sequence = 0;  // in the order of the calls
  NbdRequestBytes encoded;
  bool queued = false;    // the writer has it, or it is being sent
  bool answered = false;  // `status` is the answer
  bool done = false;
  absl::Status status;
  std::coroutine_handle<> waiter;
  RemoteRequest* next = nullptr;
};

class RemoteVolume final : public engine::BlockDevice {
 public:
  // The reactor outlives it. `name` is the volume's.
  RemoteVolume(io::Reactor* reactor, std::string name, RemoteTarget target,
               const RemoteVolumeOptions& options);
  ~RemoteVolume() override;

  // Begins to connect. Called once.
  void Start();
  // Goes on with the engine at `target`, in place; the limit of an outage begins anew.
  void Repoint(RemoteTarget target);
  // Every call that waits and every later one fails, with `why`. Only Close is left to do.
  void End(const absl::Status& why);
  // End, and completes when nothing of it runs.
  io::Task<void> Close();

  const RemoteTarget& target() const { return target_; }
  // To the present target.
  bool connected() const { return connected_; }
  // It has been, once at least: size and mode are known.
  bool known() const { return size_bytes_ > 0; }
  bool ended() const { return !ended_.ok(); }
  // OK while calls are answered or wait; why they fail otherwise.
  absl::Status health() const;
  // Why it is not connected; empty when it is.
  std::string problem() const { return connected_ ? "" : problem_; }
  std::uint64_t reconnects() const { return connections_ > 0 ? connections_ - 1 : 0; }
  std::size_t requests_in_flight() const { return in_flight_; }
  // Asks the engine for the size that the volume has now, on a connection of its own.
  io::Task<absl::Status> RefreshSize();

  std::uint64_t size_bytes() const override { return size_bytes_; }
  bool read_only() const override { return read_only_; }
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into) override;
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               bool fua) override;
  io::Task<absl::Status> Flush() override;
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes, bool fua) override;
  // Which blocks are holes only the engine knows: all of it is said to be data.
  io::Task<absl::StatusOr<std::vector<engine::BlockRun>>> Status(std::uint64_t offset,
                                                                 std::uint64_t size_bytes,
                                                                 std::size_t runs_max) override;

 private:
  // Fewer than a connection may have at the engine (NbdOptions), so that pings find room.
  static constexpr std::size_t kSlots = 100;
  static constexpr std::size_t kRequestsPerWrite = 64;
  static constexpr std::size_t kBytesPerWrite = std::size_t{1} << 20;

  struct Queue {
    RemoteRequest* head = nullptr;
    RemoteRequest* tail = nullptr;
    void Append(RemoteRequest* request);
    RemoteRequest* Pop();
  };
  struct Done;  // awaits a request

  // --- remote_volume.cc: the calls ---
  io::Task<absl::Status> Call(nbd::Command command, std::uint16_t flags, std::uint64_t offset,
                              std::uint32_t length, std::span<std::byte> into,
                              std::span<const std::byte> from);
  absl::Status CheckRange(std::uint64_t offset, std::uint64_t size_bytes, bool writes) const;
  void Admit();
  void Complete(RemoteRequest* request);
  void CompleteAll(const absl::Status& status);

  // --- remote_connection.cc: the connection ---
  io::Task<void> Run();
  io::Task<absl::Status> Connect();
  absl::Status Judge(const NbdExportInfo& info, const EngineState& state);
  io::Task<void> Serve();
  io::Task<void> WriteRequests();
  io::Task<absl::Status> ReadReplies();
  std::size_t Gather(std::array<iovec, 2 * kRequestsPerWrite>* parts);
  absl::StatusOr<RemoteRequest*> Match(std::uint64_t cookie);
  void Push(RemoteRequest* request);
  void SendAgain();
  void OnOutage();
  io::Task<void> Pause(std::int64_t until_ns);
  void OnPingTimer();
  void EndConnection();
  absl::Status Lost(const absl::Status& why) const;

  io::Reactor* reactor_;
  const std::string name_;
  const RemoteVolumeOptions options_;
  RemoteTarget target_;
  std::uint64_t target_changes_ = 0;
  std::uint64_t size_bytes_ = 0;
  bool read_only_ = false;
  absl::Status ended_;    // what every call gets for ever
  absl::Status failing_;  // what every call gets until an engine is reached
  bool closing_ = false;
  std::string problem_ = "it has not been reached yet";

  std::array<RemoteRequest*, kSlots> slots_{};
  std::vector<std::uint8_t> free_slots_;
  Queue waiting_;  // without a slot
  std::size_t in_flight_ = 0;
  std::uint64_t last_sequence_ = 0;
  std::uint64_t answered_writes_ = 0;  // that were not durable when they were answered
  std::uint64_t flushed_writes_ = 0;   // of those

  std::unique_ptr<io::Stream> stream_;
  std::unique_ptr<NbdReader> reader_;
  bool connected_ = false;
  std::uint64_t connections_ = 0;
  std::optional<EngineNumber> last_engine_;
  std::int64_t outage_since_ns_ = 0;
  Queue ready_;  // to be sent
  Queue batch_;  // being sent
  RemoteRequest ping_;
  bool pinged_ = false;  // and not answered
  bool heard_ = false;   // this connection has had an answer
  bool silent_ = false;  // it was ended for its silence
  std::uint64_t seen_bytes_ = 0;
  std::int64_t heard_ns_ = 0;  // when the last byte was seen
  io::TimerNode ping_timer_;
  io::Parking work_;  // the writer's
  bool writing_ = false;
  io::WaitList writer_ended_;
  io::Parking wake_;  // Run's pauses
  io::TimerNode pause_timer_;
  bool running_ = false;
  io::Gate gate_;
};

}  // namespace keelson::frontend
