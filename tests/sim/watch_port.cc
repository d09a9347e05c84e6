#include "tests/sim/watch_port.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace keelson::sim {

using replica::Configuration;

io::Task<absl::StatusOr<replica::PrepareAnswer>> WatchPort::Prepare(pool::Epoch epoch,
                                                                    std::int64_t deadline_ns) {
  absl::StatusOr<replica::PrepareAnswer> answer = co_await port_->Prepare(epoch, deadline_ns);
  if (answer.ok()) {
    epoch_ = epoch;
    noted_.clear();
    snapshots_.clear();
    watch_->Prepared(member_, epoch, *answer);
  }
  co_return answer;
}

io::Task<absl::Status> WatchPort::Accept(Configuration configuration, std::int64_t deadline_ns) {
  Configuration copy = configuration;
  std::vector<pool::SnapshotId> dropped = Snapshots();
  absl::Status status = co_await port_->Accept(std::move(copy), deadline_ns);
  if (!(configuration.snapshots == snapshots_)) noted_.clear();
  snapshots_ = configuration.snapshots;
  if (!status.ok()) co_return status;
  watch_->Accepted(member_, configuration);
  for (const pool::SnapshotId& kept : Snapshots()) std::erase(dropped, kept);
  watch_->Dropped(member_, dropped);
  co_return status;
}

// That the member has now.
std::vector<pool::SnapshotId> WatchPort::Snapshots() const {
  std::vector<pool::SnapshotId> ids;
  const replica::Replica* const replica = store_->Find(member_);
  if (replica == nullptr) return ids;
  for (const replica::SnapshotState& snapshot : replica->snapshots()) ids.push_back(snapshot.id);
  return ids;
}

io::Task<absl::Status> WatchPort::Write(std::uint64_t offset, std::span<const std::byte> from,
                                        pool::Generation generation, std::int64_t deadline_ns) {
  const pool::Epoch epoch = epoch_;
  const std::int64_t began_ns = world_->now_ns();
  watch_->WriteBegins(member_, generation, from);
  absl::Status status = co_await port_->Write(offset, from, generation, deadline_ns);
  watch_->WriteEnds(member_, from);
  watch_->ChangeEnded(member_, began_ns);
  if (status.ok()) {
    watch_->Changed(member_, epoch, "a write");
    watch_->Applied(member_, generation);
    const std::uint64_t last = (offset + from.size() - 1) / pool::kRegionBytes;
    for (std::uint64_t region = offset / pool::kRegionBytes; region <= last; ++region) {
      noted_[region] = std::max(noted_[region], generation);
    }
    watch_->CheckSealed(member_, generation, Snapshots());
    watch_->Holds(member_, offset / kModelBlockBytes, from);
  }
  co_return status;
}

io::Task<absl::Status> WatchPort::Trim(std::uint64_t offset, std::uint64_t size_bytes,
                                       pool::Generation generation, std::int64_t deadline_ns) {
  const pool::Epoch epoch = epoch_;
  const std::uint64_t began = watch_->Tick();
  const std::int64_t began_ns = world_->now_ns();
  absl::Status status = co_await port_->Trim(offset, size_bytes, generation, deadline_ns);
  watch_->ChangeEnded(member_, began_ns);
  if (status.ok()) {
    watch_->Changed(member_, epoch, "a trim");
    watch_->Applied(member_, generation);
    watch_->CheckSealed(member_, generation, Snapshots());
    watch_->Trimmed(member_, offset / kModelBlockBytes, size_bytes / kModelBlockBytes, began);
  }
  co_return status;
}

io::Task<absl::Status> WatchPort::BeginCopy(pool::SnapshotId layer, std::uint32_t region,
                                            pool::Generation generation, std::int64_t deadline_ns) {
  copying_[{layer, region}] = generation;
  return port_->BeginCopy(layer, region, generation, deadline_ns);
}

io::Task<absl::Status> WatchPort::WriteCopy(pool::SnapshotId layer, std::uint32_t extent,
                                            replica::ExtentContent content,
                                            std::span<const std::byte> packed,
                                            std::int64_t deadline_ns) {
  const pool::Epoch epoch = epoch_;
  const pool::BlockBits data = content.data;
  const std::int64_t began_ns = world_->now_ns();
  absl::Status status = co_await port_->WriteCopy(layer, extent, content, packed, deadline_ns);
  watch_->ChangeEnded(member_, began_ns);
  if (!status.ok()) co_return status;
  watch_->Changed(member_, epoch, "a copy");
  const std::uint32_t region = extent / pool::kExtentsPerRegion;
  // A copy's note does not lower the one that is there.
  pool::Generation note = copying_[{layer, region}];
  if (layer.is_nil()) note = std::max(note, noted_[region]);
  watch_->Copied(member_, epoch, note, region);
  std::size_t position = 0;
  for (std::uint32_t block = 0; block < pool::kBlocksPerExtent && layer.is_nil(); ++block) {
    const std::uint64_t number = std::uint64_t{extent} * pool::kBlocksPerExtent + block;
    if (!data.Test(block)) {
      watch_->Trimmed(member_, number, 1, watch_->Tick());
      continue;
    }
    watch_->Holds(member_, number, packed.subspan(position, kModelBlockBytes));
    position += kModelBlockBytes;
  }
  co_return status;
}

io::Task<absl::Status> WatchPort::RecordProgress(replica::ResyncProgress progress,
                                                 std::int64_t deadline_ns) {
  const std::int64_t began_ns = world_->now_ns();
  absl::Status status = co_await port_->RecordProgress(progress, deadline_ns);
  if (status.ok()) watch_->ProgressRecorded(member_, began_ns);
  co_return status;
}

io::Task<absl::StatusOr<replica::PrepareAnswer>> EngineSidePort::Prepare(pool::Epoch epoch,
                                                                         std::int64_t deadline_ns) {
  epoch_ = epoch;
  absl::StatusOr<replica::PrepareAnswer> answer = co_await port_->Prepare(epoch, deadline_ns);
  if (answer.ok()) watch_->Answered(member_, epoch, *answer, this);
  recorded_ = answer.ok() && answer->configuration.has_value();
  co_return answer;
}

io::Task<absl::Status> EngineSidePort::Accept(Configuration configuration,
                                              std::int64_t deadline_ns) {
  watch_->Proposed(configuration);
  return port_->Accept(std::move(configuration), deadline_ns);
}

io::Task<absl::Status> EngineSidePort::Heartbeat(std::int64_t deadline_ns) {
  const std::int64_t sent_ns = world_->now_ns();
  absl::Status status = co_await port_->Heartbeat(deadline_ns);
  if (status.ok()) watch_->Beat(member_, epoch_, sent_ns);
  co_return status;
}

io::Task<absl::Status> EngineSidePort::Read(std::uint64_t offset, std::span<std::byte> into,
                                            std::int64_t deadline_ns) {
  absl::Status status = co_await port_->Read(offset, into, deadline_ns);
  if (status.ok()) watch_->Arrived(into.data());
  if (status.ok()) CheckSource();
  co_return status;
}

io::Task<absl::StatusOr<replica::ExtentContent>> EngineSidePort::ReadCopy(
    pool::SnapshotId layer, std::uint32_t extent, std::span<std::byte> into,
    std::int64_t deadline_ns) {
  absl::StatusOr<replica::ExtentContent> content =
      co_await port_->ReadCopy(layer, extent, into, deadline_ns);
  if (content.ok()) CheckSource();
  co_return content;
}

void EngineSidePort::CheckSource() {
  if (recorded_) return;
  watch_->Violate("last-copy-stays",
                  absl::StrCat("replica ", member_.ToString(), " has no record, and was read"));
}

}  // namespace keelson::sim
