#include "blockstore/replica/session.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/layer_copy.h"

namespace keelson::replica {
namespace {

using pool::kBlockBytes;
using pool::kExtentBytes;
using pool::kExtentsPerRegion;

std::string ShowEpoch(const pool::Epoch& epoch) {
  return absl::StrCat(epoch.attachment, ".", epoch.restart, " of engine ", epoch.engine.ToString());
}

// What the engine hears of an error below: INTERNAL unless it is one it acts upon.
absl::Status PortStatus(absl::Status status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
      return status;
    default:
      return absl::InternalError(status.message());
  }
}

}  // namespace

// Counts one call of the session, so that whoever ends the session waits for it, and decides its
// answer: a call that outlived its session has no known outcome.
class Session::Call {
 public:
  explicit Call(Session* session) : session_(session), replica_(session->replica_) {
    ++session_->running_;
    ++replica_->session_calls_;
    session_->heard_ns_ = session_->store_->pool().reactor().NowNanos();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    // Whoever is woken first may free the session, but not the replica: this call still counts.
    Replica* replica = replica_;
    if (--session_->running_ == 0) session_->idle_.WakeAll();
    if (--replica->session_calls_ == 0) replica->session_drained_.WakeAll();
  }
  Replica* replica() const { return replica_; }
  absl::Status Answer(absl::Status status) const {
    return session_->open_ ? PortStatus(std::move(status)) : session_->end_;
  }

 private:
  Session* session_;
  Replica* replica_;
};

std::unique_ptr<ReplicaPort> ReplicaStore::MakePort(pool::ReplicaId id) {
  return std::make_unique<Session>(this, id);
}

Session::~Session() {
  KEEL_CHECK(running_ == 0 && replica_ == nullptr, "a session is closed before it is destroyed");
}

// --- The session itself (R1) ---

io::Task<absl::StatusOr<PrepareAnswer>> Session::Prepare(pool::Epoch epoch,
                                                         std::int64_t /*deadline_ns*/) {
  Replica* replica = store_->Find(id_);
  if (replica == nullptr || replica->deleting_) {
    co_return absl::NotFoundError(absl::StrCat("there is no replica ", id_.ToString(), " in pool ",
                                               store_->pool().id().ToString()));
  }
  const std::int64_t now_ns = store_->pool().reactor().NowNanos();
  const Session* before = replica->session_;
  const bool was_alive = before != nullptr && before->open_ &&
                         before->epoch_.engine != epoch.engine &&
                         now_ns - before->heard_ns_ <= kAliveWithin_ns;
  ++running_;
  ++replica->prepares_;
  absl::StatusOr<PrepareAnswer> answer = co_await TakeOver(replica, epoch, was_alive);
  --replica->prepares_;
  if (--running_ == 0) idle_.WakeAll();
  co_return answer;
}

io::Task<absl::StatusOr<PrepareAnswer>> Session::TakeOver(Replica* replica, pool::Epoch epoch,
                                                          bool was_alive) {
  const std::uint64_t close_count = close_count_;
  io::AsyncMutex::Guard preparing = co_await replica->preparing_.Lock();
  if (epoch < replica->promised_ && !SeededBug(kAcceptLowerEpoch)) {
    co_return absl::AbortedError(absl::StrCat(
        "replica ", id_.ToString(), " of volume ", replica->name_, " has promised epoch ",
        ShowEpoch(replica->promised_), " and serves no lower one: attach the volume again"));
  }
  absl::Status promised = co_await store_->Promise(replica, epoch);
  if (!promised.ok()) co_return PortStatus(std::move(promised));
  const bool fences = replica->session_ != nullptr && replica->session_->epoch_ < epoch;
  const bool ends = !SeededBug(fences ? kHigherEpochKeepsSession : kEqualEpochKeepsSession);
  if (replica->session_ != nullptr && ends) {
    const std::string why = absl::StrCat("the session of replica ", id_.ToString(), " of volume ",
                                         replica->name_, " was ended by epoch ", ShowEpoch(epoch));
    replica->session_->End(fences ? absl::AbortedError(why) : absl::UnavailableError(why));
  }
  // All I/O of the earlier session has ended before the new engine hears of its own.
  while (replica->session_calls_ > 0 && ends && !SeededBug(kPrepareWithoutDrain)) {
    co_await replica->session_drained_.Wait();
  }
  if (replica->session_ != nullptr && ends) replica->session_->replica_ = nullptr;
  replica->session_ = nullptr;
  if (close_count != close_count_) {
    co_return absl::UnavailableError(
        absl::StrCat("the session of replica ", id_.ToString(), " was closed before it was open"));
  }
  if (const absl::Status& health = store_->pool().health(); !health.ok()) {
    co_return PortStatus(health);
  }
  replica->session_ = this;
  replica_ = replica;
  epoch_ = epoch;
  heard_ns_ = store_->pool().reactor().NowNanos();
  open_ = true;
  if (!replica->witness_) store_->StartResum(replica);
  KEEL_LOG_INFO("event=session_opened volume={} replica={} epoch={}", replica->name_,
                id_.ToString(), ShowEpoch(epoch));
  PrepareAnswer answer;
  answer.pool = store_->pool().id();
  answer.replica = id_;
  answer.incarnation = store_->pool().incarnation();
  answer.configuration = replica->configuration_;
  answer.progress = replica->progress_;
  answer.ended_session = was_alive;
  co_return std::move(answer);
}

void Session::End(absl::Status why) {
  if (!open_) return;
  open_ = false;
  end_ = std::move(why);
}

io::Task<void> Session::Close() {
  ++close_count_;
  End(absl::UnavailableError(
      absl::StrCat("the session of replica ", id_.ToString(), " was closed")));
  while (running_ > 0) co_await idle_.Wait();
  if (replica_ != nullptr) replica_->session_ = nullptr;
  replica_ = nullptr;
  // The call that woke this is on its way out.
  co_await store_->pool().reactor().Yield();
}

absl::Status Session::Check(Needs needs) const {
  if (!open_) {
    return end_.ok() ? absl::UnavailableError(
                           absl::StrCat("replica ", id_.ToString(), " has not been prepared"))
                     : end_;
  }
  if (needs == kData && replica_->witness_) {
    return absl::FailedPreconditionError(absl::StrCat("replica ", id_.ToString(), " of volume ",
                                                      replica_->name_,
                                                      " is a witness and has no data"));
  }
  return absl::OkStatus();
}

absl::Status Session::CheckRange(std::uint64_t offset, std::uint64_t size_bytes) const {
  RETURN_IF_ERROR(Check(kData));
  const std::uint64_t end = replica_->size_bytes_;
  if (offset % kBlockBytes == 0 && size_bytes % kBlockBytes == 0 && size_bytes > 0 &&
      offset <= end && size_bytes <= end - offset) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("volume ", replica_->name_, ": ", size_bytes, " bytes at ", offset,
                   " are not whole 4096-byte blocks within its ", end, " bytes"));
}

absl::Status Session::CheckExtents(std::uint64_t first, std::uint64_t count) const {
  RETURN_IF_ERROR(Check(kData));
  if (first * kExtentBytes < replica_->size_bytes_) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("volume ", replica_->name_, ": extents ", first, " to ", first + count - 1,
                   " lie past the end of its ", replica_->size_bytes_, " bytes"));
}

// --- Votes ---

io::Task<absl::Status> Session::Accept(Configuration configuration, std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(Check(kVote));
  Call call(this);
  absl::Status status = co_await store_->Accept(call.replica(), std::move(configuration));
  co_return call.Answer(std::move(status));
}

io::Task<absl::Status> Session::Heartbeat(std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(Check(kVote));
  heard_ns_ = store_->pool().reactor().NowNanos();
  co_return absl::OkStatus();
}

// --- Data ---

io::Task<absl::Status> Session::Read(std::uint64_t offset, std::span<std::byte> into,
                                     std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(CheckRange(offset, into.size()));
  Call call(this);
  absl::Status status = co_await call.replica()->Read(offset, into);
  co_return call.Answer(std::move(status));
}

io::Task<absl::Status> Session::Write(std::uint64_t offset, std::span<const std::byte> from,
                                      pool::Generation generation, std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(CheckRange(offset, from.size()));
  Call call(this);
  absl::Status status;
  if (generation > call.replica()->generation_) status = co_await BeginGeneration(generation);
  if (status.ok()) status = co_await call.replica()->Write(offset, from, generation);
  co_return call.Answer(std::move(status));
}

io::Task<absl::Status> Session::Trim(std::uint64_t offset, std::uint64_t size_bytes,
                                     pool::Generation generation, std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(CheckRange(offset, size_bytes));
  Call call(this);
  absl::Status status;
  if (generation > call.replica()->generation_) status = co_await BeginGeneration(generation);
  if (status.ok()) status = co_await call.replica()->Trim(offset, size_bytes, generation);
  co_return call.Answer(std::move(status));
}

io::Task<absl::Status> Session::BeginGeneration(pool::Generation generation) {
  Replica* replica = replica_;
  const pool::Generation closing = std::exchange(replica->generation_, generation);
  // Where writes went just now they will go on: noted here, they need not wait for it one by one.
  // Not when the old generation has been ended already (its checksums are stored, and a note would
  // void them for nothing), is being ended, or the head is being sealed.
  if (closing <= replica->clean_generation_ || replica->rolling_.locked()) {
    co_return absl::OkStatus();
  }
  io::AsyncMutex::Guard rolling = co_await replica->rolling_.Lock();
  co_return co_await replica->head_->notes().CarryOver(closing, generation);
}

io::Task<absl::Status> Session::Flush(std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(Check(kData));
  Call call(this);
  absl::Status status;
  if (!SeededBug(kFlushNotDurable)) status = co_await store_->pool().changes().Flush();
  co_return call.Answer(std::move(status));
}

io::Task<absl::Status> Session::EndGeneration(pool::Generation generation,
                                              std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(Check(kData));
  Call call(this);
  absl::Status status = co_await store_->EndGeneration(call.replica(), generation);
  co_return call.Answer(std::move(status));
}

bool Session::wants_new_generation() const {
  // While a crash's regions are still being read the end of a generation lets go of nothing.
  return open_ && !replica_->witness_ && ReplicaStore::Resummed(*replica_) &&
         store_->pool().checksums().dirty_count() > kDirtyChecksumsMax;
}

io::Task<absl::StatusOr<std::vector<DataRun>>> Session::Map(std::uint64_t offset,
                                                            std::uint64_t size_bytes,
                                                            std::size_t runs_max,
                                                            std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(CheckRange(offset, size_bytes));
  absl::Status logged = replica_->CheckLogged(offset, size_bytes);
  if (!logged.ok()) co_return PortStatus(std::move(logged));
  std::vector<DataRun> runs;
  while (size_bytes > 0 && runs.size() < runs_max) {
    const Replica::DataRun run = replica_->FindData(offset, size_bytes);
    runs.push_back({run.size_bytes, run.hole});
    offset += run.size_bytes;
    size_bytes -= run.size_bytes;
  }
  co_return std::move(runs);
}

// --- Resync and reconcile ---

io::Task<absl::StatusOr<std::vector<RegionNote>>> Session::Notes(pool::Generation above,
                                                                 std::uint32_t first_region,
                                                                 std::size_t count_max,
                                                                 std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(Check(kData));
  const LayerCopy copy(store_, replica_);
  co_return copy.Notes(above, first_region, count_max);
}

io::Task<absl::StatusOr<ExtentContent>> Session::ReadCopy(pool::SnapshotId layer,
                                                          std::uint32_t extent,
                                                          std::span<std::byte> into,
                                                          std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(CheckExtents(extent, 1));
  Call call(this);
  LayerCopy copy(store_, call.replica());
  absl::StatusOr<ExtentContent> content = co_await copy.Read(layer, extent, into);
  absl::Status status = call.Answer(content.status());
  if (!status.ok()) co_return status;
  co_return *content;
}

io::Task<absl::Status> Session::BeginCopy(pool::SnapshotId layer, std::uint32_t region,
                                          pool::Generation generation,
                                          std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(CheckExtents(std::uint64_t{region} * kExtentsPerRegion, kExtentsPerRegion));
  Call call(this);
  LayerCopy copy(store_, call.replica());
  absl::Status status = co_await copy.Begin(layer, region, generation);
  co_return call.Answer(std::move(status));
}

io::Task<absl::Status> Session::WriteCopy(pool::SnapshotId layer, std::uint32_t extent,
                                          ExtentContent content, std::span<const std::byte> packed,
                                          std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(CheckExtents(extent, 1));
  Call call(this);
  LayerCopy copy(store_, call.replica());
  absl::Status status = co_await copy.Write(layer, extent, content, packed);
  co_return call.Answer(std::move(status));
}

io::Task<absl::Status> Session::RecordProgress(ResyncProgress progress,
                                               std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(Check(kData));
  Call call(this);
  absl::Status status = co_await store_->RecordProgress(call.replica(), progress);
  co_return call.Answer(std::move(status));
}

// --- Scrub ---

io::Task<absl::StatusOr<VerifyAnswer>> Session::Verify(pool::SnapshotId layer, std::uint32_t extent,
                                                       pool::BlockBits offered,
                                                       std::span<const std::byte> packed,
                                                       std::int64_t /*deadline_ns*/) {
  CO_RETURN_IF_ERROR(CheckExtents(extent, 1));
  Call call(this);
  LayerCopy copy(store_, call.replica());
  absl::StatusOr<VerifyAnswer> answer = co_await copy.Verify(layer, extent, offered, packed);
  absl::Status status = call.Answer(answer.status());
  if (!status.ok()) co_return status;
  co_return *answer;
}

}  // namespace keelson::replica
