#include "blockstore/replica/layer_copy.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"

namespace keelson::replica {
namespace {

using pool::BlockBits;
using pool::ExtentState;
using pool::kBlockBytes;
using pool::kBlocksPerExtent;
using pool::kExtentBytes;
using pool::kExtentsPerRegion;
using pool::kNoExtent;

pool::Generation NoteOf(LayerSpan span, std::uint32_t region) {
  pool::Generation note;
  for (const Layer* layer = span.top; layer != span.end; layer = layer->parent()) {
    note = std::max(note, layer->notes().Get(region));
  }
  return note;
}

void SetChecksums(pool::ChecksumBlock* checksums, const BlockBits& blocks,
                  std::span<const std::byte> packed) {
  for (std::uint32_t block = 0; block < kBlocksPerExtent; ++block) {
    if (!blocks.Test(block)) continue;
    checksums->crc32c[block] = pool::Crc32c(packed.first(kBlockBytes));
    packed = packed.subspan(kBlockBytes);
  }
  checksums->known = checksums->known | blocks;
}

}  // namespace

// What the span says about the blocks of an extent.
ExtentContent LayerCopy::ContentOf(LayerSpan span, std::uint32_t extent) {
  ExtentContent content;
  for (const Layer* layer = span.top; layer != span.end; layer = layer->parent()) {
    ExtentState state;
    if (!layer->Find(extent, &state)) continue;
    const BlockBits decided = content.data | content.zeroed;
    content.data = content.data | (state.present & ~decided);
    content.zeroed = content.zeroed | (state.zeroed & ~decided);
  }
  return content;
}

bool LayerCopy::IsBoundary(const SnapshotState& snapshot) const {
  return !replica_->configuration_.has_value() || replica_->configuration_->Has(snapshot.id);
}

absl::StatusOr<LayerCopy::Target> LayerCopy::Find(pool::SnapshotId id) const {
  const Layer* older = nullptr;
  for (const SnapshotState& snapshot : replica_->snapshots_) {
    if (snapshot.id == id) return Target{snapshot.layer, older};
    if (IsBoundary(snapshot)) older = snapshot.layer;
  }
  if (id.is_nil()) return Target{replica_->head_, older};
  return absl::FailedPreconditionError(absl::StrCat(
      "replica ", replica_->id_.ToString(), " of volume ", replica_->name_, " has no snapshot ",
      id.ToString(), ": it has to accept the configuration first"));
}

std::vector<RegionNote> LayerCopy::Notes(pool::Generation above, std::uint32_t first_region,
                                         std::size_t count_max) const {
  // By region, then by the configuration's order of layers.
  std::map<std::uint32_t, std::vector<RegionNote>> by_region;
  const auto collect = [&](const pool::SnapshotId& id, LayerSpan span) {
    std::vector<std::uint32_t> regions;
    for (const Layer* layer = span.top; layer != span.end; layer = layer->parent()) {
      const std::vector<std::uint32_t> noted = layer->notes().Above(above);
      regions.insert(regions.end(), std::lower_bound(noted.begin(), noted.end(), first_region),
                     noted.end());
    }
    std::sort(regions.begin(), regions.end());
    regions.erase(std::unique(regions.begin(), regions.end()), regions.end());
    for (const std::uint32_t region : regions) {
      by_region[region].push_back({region, id, NoteOf(span, region)});
    }
  };
  const Layer* older = nullptr;
  for (const SnapshotState& snapshot : replica_->snapshots_) {
    if (!IsBoundary(snapshot)) continue;
    collect(snapshot.id, {snapshot.layer, older});
    older = snapshot.layer;
  }
  collect(pool::SnapshotId(), {replica_->head_, older});
  std::vector<RegionNote> notes;
  for (const auto& [region, of_region] : by_region) {
    if (!notes.empty() && notes.size() + of_region.size() > count_max) break;
    notes.insert(notes.end(), of_region.begin(), of_region.end());
  }
  return notes;
}

io::Task<absl::StatusOr<ExtentContent>> LayerCopy::Read(pool::SnapshotId layer,
                                                        std::uint32_t extent,
                                                        std::span<std::byte> into) {
  // Shared with writers; the layers of the target stay while it is held.
  RangeLock::Hold hold(&replica_->extent_locks_, extent * kExtentBytes, (extent + 1) * kExtentBytes,
                       RangeLock::kShared);
  co_await hold;
  pool::ReadFence::Pass pass(&pool_->read_fence());
  CO_ASSIGN_OR_RETURN(const Target target, Find(layer));
  ExtentContent content = ContentOf(target.span(), extent);
  // Nothing lies below the oldest: there a zeroed mark says the same as absence.
  if (target.oldest()) content.zeroed = BlockBits();
  if (content.data.Count() * kBlockBytes > into.size()) {
    co_return absl::InvalidArgumentError(
        absl::StrCat("a buffer of ", into.size(), " bytes is too small for an extent's data"));
  }
  CO_RETURN_IF_ERROR(co_await ReadBlocks(target.span(), extent, content.data, into.data()));
  co_return content;
}

io::Task<absl::Status> LayerCopy::ReadBlocks(LayerSpan span, std::uint32_t extent, BlockBits wanted,
                                             std::byte* packed) {
  // The caller is inside the read fence since before it knew which blocks there are.
  ExtentReads reads(pool_, replica_->name_);
  for (std::uint32_t block = 0; block < kBlocksPerExtent;) {
    const std::uint32_t first = block;
    std::uint32_t count = wanted.RunLength(block, kBlocksPerExtent - block);
    if (wanted.Test(first)) {
      const BlockSource source = FindSource(span, extent, first, count);
      count = source.count;
      if (source.where != Layer::Where::kPresent) {
        std::memset(packed, 0, count * kBlockBytes);
      } else {
        if (reads.full()) CO_RETURN_IF_ERROR(co_await reads.Run());
        pool::ChecksumRef checksums = pool_->checksums().Resident(source.pool_extent);
        if (!checksums) {
          CO_ASSIGN_OR_RETURN(checksums, co_await LoadChecksums(pool_, source, extent));
        }
        reads.Add(source, first, packed, std::move(checksums));
      }
      packed += count * kBlockBytes;
    }
    block += count;
  }
  co_return co_await reads.Run();
}

io::Task<absl::Status> LayerCopy::Begin(pool::SnapshotId layer, std::uint32_t region,
                                        pool::Generation generation) {
  const std::uint64_t begin = region * pool::kRegionBytes;
  RangeLock::Hold hold(&replica_->extent_locks_, begin, begin + pool::kRegionBytes,
                       RangeLock::kExclusive);
  co_await hold;
  if (!pool_->health().ok()) co_return pool_->health();
  if (SeededBug(kCopyWithoutNote)) generation = {pool::Epoch{1, 0, {}}, 1};
  CO_ASSIGN_OR_RETURN(const Target target, Find(layer));
  // They describe what is there until it is copied over, and go back to the store after that.
  CO_RETURN_IF_ERROR(co_await replica_->PinChecksums(target.top, region));
  co_return co_await VoidChecksums(target.top, region * kExtentsPerRegion, kExtentsPerRegion,
                                   generation);
}

io::Task<absl::Status> LayerCopy::VoidChecksums(Layer* layer, std::uint32_t first,
                                                std::uint32_t count, pool::Generation generation) {
  const std::uint32_t region = first / kExtentsPerRegion;
  pool::MetaBatch batch;
  const pool::Generation note = layer->notes().Want(region, generation);
  batch.Put(pool::Table::kNotes, pool::EncodeNoteKey(layer->number(), region),
            pool::EncodeGeneration(note));
  // The note alone does not do it: it may be as high already as the records'.
  for (std::uint32_t extent = first; extent < first + count; ++extent) {
    const std::uint32_t pool_extent = layer->PoolExtent(extent);
    if (pool_extent == kNoExtent) continue;
    if (!SeededBug(kChecksumsSurviveCopy)) {
      batch.Delete(pool::Table::kSums, pool::EncodeSumKey(pool_extent));
    }
    store_->copied_extents().SetVoid({layer->number(), extent});
  }
  absl::Status committed = co_await pool_->meta().Commit(&batch, /*synced=*/true);
  if (!committed.ok()) {
    pool_->Fail(committed);
    co_return committed;
  }
  layer->notes().Set(region, note);
  // Again: they may have been stored, under the old note, while this one was being written.
  replica_->RedirtyChecksums(layer, region);
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<LayerCopy::Target>> LayerCopy::FindMerged(pool::SnapshotId id) {
  while (true) {
    absl::StatusOr<Target> target = Find(id);
    if (!target.ok()) co_return target;
    const LayerSpan rest = target->rest();
    bool mergeable = false;
    for (const Layer* layer = rest.top; layer != rest.end; layer = layer->parent()) {
      mergeable |= !layer->referenced() && layer->child_count() == 1;
    }
    if (!mergeable || !store_->cleaning()) co_return target;
    co_await store_->CleanupStep();
  }
}

LayerCopy::Plan LayerCopy::MakePlan(const Target& target, std::uint32_t extent,
                                    const ExtentContent& content) const {
  Plan plan;
  plan.present = content.data;
  const BlockBits absent = ~(content.data | content.zeroed);
  if (target.oldest()) {
    // Whatever lies below is not to be seen.
    plan.zeroed = (absent | content.zeroed) & VisibleData(target.top->parent(), extent);
    return plan;
  }
  // Absent blocks are those of the older configured layers. Where the rest of this one, which is
  // not ours to change, says otherwise, they are repeated here.
  const ExtentContent rest = ContentOf(target.rest(), extent);
  const BlockBits older = VisibleData(target.end, extent);
  plan.taken = absent & (rest.data | rest.zeroed) & older;
  plan.present = plan.present | plan.taken;
  plan.zeroed = content.zeroed | (absent & rest.data & ~older);
  return plan;
}

io::Task<absl::Status> LayerCopy::Write(pool::SnapshotId id, std::uint32_t extent,
                                        ExtentContent content, std::span<const std::byte> packed) {
  if ((content.data & content.zeroed).Any() ||
      packed.size() != content.data.Count() * kBlockBytes) {
    co_return absl::InvalidArgumentError(absl::StrCat(
        "the content of extent ", extent, " of volume ", replica_->name_,
        " contradicts itself: ", packed.size(), " bytes for ", content.data.Count(), " blocks"));
  }
  absl::StatusOr<Target> found = co_await FindMerged(id);
  if (!found.ok()) co_return found.status();
  RangeLock::Hold hold(&replica_->extent_locks_, extent * kExtentBytes, (extent + 1) * kExtentBytes,
                       RangeLock::kExclusive);
  co_await hold;
  if (!pool_->health().ok()) co_return pool_->health();
  CO_ASSIGN_OR_RETURN(const Target target, Find(id));
  Layer* layer = target.top;
  if (layer->notes().Get(extent / kExtentsPerRegion) == pool::Generation{}) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("extent ", extent, " of volume ", replica_->name_,
                     " is in a region without a note: BeginCopy comes before WriteCopy"));
  }
  const Plan plan = MakePlan(target, extent, content);
  absl::Status copied = co_await WriteData(target, extent, plan, content.data, packed);
  ExtentState before;
  layer->Find(extent, &before);
  ExtentState after = before;
  if (copied.ok()) {
    after.present = plan.present;
    after.zeroed = plan.zeroed;
    if (SeededBug(kResyncKeepsAbsentBlocks)) {
      after.present = after.present | (before.present & ~plan.zeroed);
    }
  }
  // Also after a failure: an extent that was taken for nothing is given back.
  if (!(after == before) || (before.pool_extent != kNoExtent && !before.present.Any())) {
    replica_->PutState(layer, extent, after);
  }
  absl::Status logged = co_await pool_->changes().Logged();
  co_return copied.ok() ? logged : copied;
}

io::Task<absl::Status> LayerCopy::WriteData(Target target, std::uint32_t extent, Plan plan,
                                            BlockBits data, std::span<const std::byte> packed) {
  if (!plan.present.Any()) co_return absl::OkStatus();
  Layer* layer = target.top;
  const pool::MapKey key{layer->number(), extent};
  std::uint32_t pool_extent = layer->PoolExtent(extent);
  if (pool_extent == kNoExtent) {
    CO_ASSIGN_OR_RETURN(pool_extent, co_await replica_->ExtentForWrite(layer, extent));
    store_->copied_extents().SetVoid(key);
  }
  CO_ASSIGN_OR_RETURN(const pool::ChecksumRef checksums,
                      co_await replica_->Checksums(layer, extent, pool_extent));
  pool::HeaderBlock older(plan.taken.Any() ? kExtentBytes : 0);
  if (plan.taken.Any()) {
    pool::ReadFence::Pass pass(&pool_->read_fence());
    const LayerSpan below{target.end, nullptr};
    CO_RETURN_IF_ERROR(co_await ReadBlocks(below, extent, plan.taken, older.span().data()));
  }
  // Last before the first change: another's end of a generation may have stored them again.
  while (!store_->copied_extents().IsVoid(key)) {
    const pool::Generation note = layer->notes().Get(extent / kExtentsPerRegion);
    CO_RETURN_IF_ERROR(co_await VoidChecksums(layer, extent, 1, note));
  }
  // Until a block is written, nothing is known about it.
  checksums->known = checksums->known & plan.present & ~(data | plan.taken);
  pool_->checksums().MarkDirty(checksums.get());
  CO_RETURN_IF_ERROR(co_await WriteBlocks(pool_extent, data, packed));
  CO_RETURN_IF_ERROR(co_await WriteBlocks(pool_extent, plan.taken, older.span()));
  SetChecksums(checksums.get(), data, packed);
  SetChecksums(checksums.get(), plan.taken, older.span());
  // Again: the end of a generation may have stored, meanwhile, that nothing was known.
  pool_->checksums().MarkDirty(checksums.get());
  store_->copied_extents().Changed(key);
  co_return absl::OkStatus();
}

io::Task<absl::Status> LayerCopy::WriteBlocks(std::uint32_t pool_extent, BlockBits blocks,
                                              std::span<const std::byte> packed) {
  for (std::uint32_t block = 0; block < kBlocksPerExtent;) {
    const std::uint32_t first = block;
    const std::uint32_t count = blocks.RunLength(block, kBlocksPerExtent - block);
    block += count;
    if (!blocks.Test(first)) continue;
    absl::Status written = co_await pool_->data().Write(pool::Pool::DataOffset(pool_extent, first),
                                                        packed.first(count * kBlockBytes));
    if (!written.ok()) {
      if (!absl::IsResourceExhausted(written)) ++pool_->counters().io_errors;
      co_return written;
    }
    packed = packed.subspan(count * kBlockBytes);
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::replica
