#pragma once
// SegmentEngine: the one writer of one segment: attaches under an epoch, sends writes to every
// copy, degrades, takes members back, keeps generations and the read lease (docs/protocol.md). The
// Engine makes a volume out of one or more of them.
//
// One reactor. Lifecycle: Attach, I/O, Close; then it may be destroyed. Ranges are checked by the
// Engine: offsets and sizes are multiples of 4 KiB and lie in the segment.
//
// Errors of a data call: RESOURCE_EXHAUSTED (no member has space), DATA_LOSS (no copy of the block
// is good), INTERNAL (the last copy's disk failed the call), ABORTED (fenced: another engine has
// the segment), UNAVAILABLE (detached, or the backlog limit passed). After ABORTED, UNAVAILABLE,
// and a failed flush every later call fails: only a new attachment goes on.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/scrub.h"
#include "blockstore/engine/slow_member.h"
#include "blockstore/io/reactor.h"
#include "blockstore/replica/configuration.h"
#include "blockstore/replica/replica_port.h"

namespace keelson::engine {

struct SegmentOptions {
  std::int64_t generation_interval_ns = 5'000'000'000;
  // A read is answered under a lease of this length; grace is longer by more than clocks drift.
  std::int64_t lease_ns = 1'000'000'000;
  std::int64_t grace_ns = 1'200'000'000;
  // A member that does not answer a heartbeat for so long is taken for failed.
  std::int64_t member_timeout_ns = 1'500'000'000;
  // And one that does not answer a request that its disk has a part in.
  std::int64_t request_timeout_ns = 5'000'000'000;
  // How long an attach waits for InSync members that do not answer before it goes on without them.
  std::int64_t member_wait_ns = 3'000'000'000;
  // How long an attach asks for a majority and an InSync member before it fails; 0: for ever.
  std::int64_t attach_limit_ns = 10'000'000'000;
  // How long I/O waits for a majority or the last copy before the attachment ends; 0: for ever.
  std::int64_t backlog_limit_ns = 60'000'000'000;
  std::int64_t reconnect_interval_ns = 200'000'000;
  // A resync records its progress, and lets client I/O go first, after this many copied bytes.
  std::uint64_t resync_step_bytes = std::uint64_t{64} << 20;
  std::uint64_t resync_bytes_per_second = 0;  // 0: as fast as it goes
  SlowMemberOptions slow;
  bool read_only = false;
};

// Where the members may be: from the provisioner's record, or from the last attachment.
struct SegmentHint {
  pool::VolumeId volume;
  std::uint32_t segment = 0;
  std::vector<replica::Member> members;
  // R14: not nil when an operator goes on from this one of them alone, with what it has.
  pool::ReplicaId force_from = {};
};

// Makes the port of a member: a local session when its pool is open in this process, else a remote
// one. Outlives the engine.
class PortFactory {
 public:
  virtual ~PortFactory() = default;
  virtual std::unique_ptr<replica::ReplicaPort> MakePort(const replica::Member& member) = 0;
  // Reads go there first when it is InSync.
  virtual bool IsLocal(const replica::Member& member) const = 0;
};

struct MemberStatus {
  replica::Member member;
  bool connected = false;
  // Why it is not connected, or not InSync, or that it is slow; may be empty.
  std::string problem;
  std::uint64_t resync_regions_left = 0;  // while it is Syncing
  std::uint64_t resync_copied_bytes = 0;
};

struct SegmentStatus {
  replica::Configuration configuration;
  std::vector<MemberStatus> members;
  std::uint64_t regions_to_reconcile = 0;
  std::optional<ScrubStatus> scrub;  // the present or the last one of this attachment
  // OK while it serves; what I/O waits for in a sentence otherwise.
  std::string waiting_for;
  absl::Status health;
};

struct SegmentCounters {
  std::uint64_t degrades = 0, rejoins = 0, fenced = 0, read_retries = 0, repairs = 0;
  std::uint64_t resync_copied_bytes = 0, reconciled_regions = 0, generations = 0;
  std::uint64_t slow_demotions = 0;  // members left out for being slow
  // Of all scrubs.
  std::uint64_t scrub_read_bytes = 0, scrub_bad_blocks = 0, scrub_repaired_blocks = 0;
  std::uint64_t scrub_different_blocks = 0;
};

class SegmentEngine {
 public:
  // FAILED_PRECONDITION: no member of the hint has this segment. UNAVAILABLE: no majority, or no
  // InSync member, within the attach limit; the message says who did not answer. ABORTED: a higher
  // epoch is promised.
  static io::Task<absl::StatusOr<std::unique_ptr<SegmentEngine>>> Attach(io::Reactor* reactor,
                                                                         PortFactory* ports,
                                                                         SegmentHint hint,
                                                                         pool::Epoch epoch,
                                                                         SegmentOptions options);
  virtual ~SegmentEngine() = default;

  virtual std::uint64_t size_bytes() const = 0;
  virtual io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into) = 0;
  virtual io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from) = 0;
  virtual io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes) = 0;
  virtual io::Task<absl::Status> Flush() = 0;
  virtual io::Task<absl::StatusOr<std::vector<replica::DataRun>>> Map(std::uint64_t offset,
                                                                      std::uint64_t size_bytes,
                                                                      std::size_t runs_max) = 0;

  // R15, in steps, so that several segments make one barrier: Hold (new writes wait, those in
  // flight end and are flushed), Seal (the configuration with the snapshot is in force), Release,
  // Complete. A failed Seal leaves no snapshot once a later configuration is in force.
  //
  // Reads go on while writes are held. HoldWrites is UNAVAILABLE when the copies that the volume
  // asks for are not there, and equal, by `limit_ns` (in the reactor's time); no write waits for
  // that. FAILED_PRECONDITION: they are held already.
  virtual io::Task<absl::Status> HoldWrites(std::int64_t limit_ns) = 0;
  // REQUIRES: writes are held, and are not released before this has completed.
  virtual io::Task<absl::Status> Seal(replica::ConfiguredSnapshot snapshot) = 0;
  // Also while HoldWrites is under way, which then is ABORTED: writes go on at once.
  virtual void ReleaseWrites() = 0;
  virtual io::Task<absl::Status> CompleteSnapshot(pool::SnapshotId id) = 0;
  virtual io::Task<absl::Status> DeleteSnapshot(pool::SnapshotId id) = 0;
  virtual io::Task<absl::Status> Grow(std::uint64_t size_bytes) = 0;
  // Of segment 0, which holds how many segments the volume has.
  virtual io::Task<absl::Status> SetSegmentCount(std::uint32_t count) = 0;

  // R13. `member` has been made at its pool. Completes when the membership is in force; the copying
  // goes on in the background. `witness` is added beside it or, when it is a member, removed; null:
  // neither.
  virtual io::Task<absl::Status> AddMember(replica::Member member,
                                           const replica::Member* witness) = 0;
  // FAILED_PRECONDITION when it is the last InSync member. `min in sync` falls with the copies.
  virtual io::Task<absl::Status> RemoveMember(pool::ReplicaId replica,
                                              const replica::Member* witness) = 0;
  // R7. INVALID_ARGUMENT: not a number of copies that it has.
  virtual io::Task<absl::Status> SetMinInSync(std::uint32_t copies) = 0;

  // Begins a scrub, which goes on in the background; Status shows it. It ends with the attachment.
  // FAILED_PRECONDITION: one runs already.
  virtual absl::Status StartScrub(ScrubOptions options) = 0;

  // Ends the present generation now: it is clean when this completes OK.
  virtual io::Task<absl::Status> RollGeneration() = 0;
  virtual SegmentStatus Status() const = 0;
  virtual const SegmentCounters& counters() const = 0;
  // OK until the attachment has ended in errors, or its last copy has failed and it only reads.
  virtual const absl::Status& health() const = 0;

  // Ends the attachment: waits for calls in flight, makes everything durable and clean (when it
  // can), ends the sessions. Its status says whether it was clean.
  virtual io::Task<absl::Status> Close() = 0;
};

}  // namespace keelson::engine
