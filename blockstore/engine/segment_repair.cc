// Segment: repair of the blocks that a read found bad on one member and good on another (R9).

#include <utility>
#include <vector>

#include "blockstore/engine/segment.h"
#include "blockstore/engine/segment_fan_out.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/pool.h"

namespace keelson::engine {

using pool::BlockBits;
using pool::kBlockBytes;
using pool::kExtentBytes;
using replica::RangeLock;

io::Task<void> Segment::Repair(std::uint64_t offset, std::uint64_t size_bytes,
                               std::uint64_t bad_slots) {
  for (std::uint64_t done = 0; done < size_bytes && health_.ok() && !closing_;
       done += kBlockBytes) {
    co_await RepairBlock(offset + done, bad_slots);
  }
}

io::Task<void> Segment::RepairBlock(std::uint64_t offset, std::uint64_t bad_slots) {
  io::Buffer buffer = co_await reactor_->buffers().Take(kBlockBytes);
  const std::span<std::byte> bytes = buffer.span().first(kBlockBytes);
  RangeLock::Hold hold(&ranges_, offset, offset + kBlockBytes, RangeLock::kExclusive);
  co_await hold;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    MemberSlot* const slot = slots_[i].get();
    // A region that is not reconciled says nothing about who is right (R17).
    if (AnyUnreconciled(offset, kBlockBytes)) co_return;
    if ((bad_slots & slot->bit()) == 0 || !slot->takes_writes() || !slot->in_sync) continue;
    const std::uint64_t session = slot->session;
    absl::Status own = co_await slot->port->Read(offset, bytes, Deadline());
    if (own.ok() || !IsMembersOwn(own)) continue;
    std::uint64_t not_these = slot->bit();
    absl::Status read = co_await ReadFrom(offset, bytes, &not_these);
    if (!read.ok() || !Alive(*slot, session)) continue;
    co_await RepairAt(slot, offset, bytes, std::move(own));
  }
}

io::Task<void> Segment::RepairAt(MemberSlot* slot, std::uint64_t offset,
                                 std::span<const std::byte> bytes, absl::Status why) {
  const std::uint64_t session = slot->session;
  absl::StatusOr<bool> mended = co_await MendInPlace(slot, offset, bytes);
  absl::Status status = mended.status();
  // What does not match its checksum is left alone when these bytes do not either: then the members
  // differ, which a scrub reports. What cannot be read and has no checksum is written anew.
  if (mended.ok() && !*mended && !absl::IsDataLoss(why)) {
    const pool::Generation generation = generations_.Enter();
    status = co_await slot->port->Write(offset, bytes, generation, Deadline());
    generations_.Leave(generation);
    changed_.WakeAll();
    ArmRoll();
    mended = status.ok();
  }
  if (!status.ok()) {
    MemberFailed(slot, session, status);
  } else if (*mended) {
    ++counters_.repairs;
  }
}

io::Task<absl::StatusOr<bool>> Segment::MendInPlace(MemberSlot* slot, std::uint64_t offset,
                                                    std::span<const std::byte> bytes) {
  const auto extent = static_cast<std::uint32_t>(offset / kExtentBytes);
  const auto block = static_cast<std::uint32_t>(offset % kExtentBytes / kBlockBytes);
  const BlockBits offered = BlockBits::Range(block, 1);
  std::vector<pool::SnapshotId> layers(1);  // newest first
  for (auto it = in_force_.snapshots.rbegin(); it != in_force_.snapshots.rend(); ++it) {
    layers.push_back(it->id);
  }
  for (const pool::SnapshotId& layer : layers) {
    absl::StatusOr<replica::VerifyAnswer> answer =
        co_await slot->port->Verify(layer, extent, offered, bytes, Deadline());
    if (!answer.ok()) co_return answer.status();
    if (answer->content.data.Test(block)) co_return !answer->still_bad().Test(block);
    if (answer->content.zeroed.Test(block)) break;
  }
  co_return false;
}

}  // namespace keelson::engine
