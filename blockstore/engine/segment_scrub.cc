// Segment: the scrub: everything that the InSync members have is read and compared.

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/segment.h"
#include "blockstore/engine/segment_fan_out.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/pool.h"
#include "blockstore/pool/superblock.h"

namespace keelson::engine {

using pool::BlockBits;
using pool::kBlockBytes;
using pool::kBlocksPerExtent;
using pool::kExtentBytes;
using pool::kExtentsPerRegion;
using pool::kRegionBytes;
using replica::RangeLock;

namespace {

// A wait is looked at so often: the attachment may be ending.
constexpr std::int64_t kLookNanos = 100'000'000;

std::uint32_t ZeroCrc32c() {
  static constexpr std::array<std::byte, kBlockBytes> kZeroes{};
  static const std::uint32_t crc32c = pool::Crc32c(kZeroes);
  return crc32c;
}

}  // namespace

// A region that is scrubbed.
struct Segment::ScrubRegion {
  std::optional<std::uint32_t> number;
  std::set<pool::SnapshotId> noted;   // the layers that may hold something of it
  std::set<pool::SnapshotId> listed;  // the snapshots that there were when this was asked for
  bool skipped = false;               // in part
};

// What one member shows of an extent, from the oldest layer on up to the one looked at.
struct Segment::ScrubView {
  Leg leg;
  bool left = false;  // it does not answer any more
  replica::VerifyAnswer answer;
  std::array<std::uint32_t, kBlocksPerExtent> crc32c{};
  BlockBits unknown;  // it cannot be read
};

absl::Status Segment::StartScrub(ScrubOptions options) {
  if (!health().ok()) return health();
  if (scrub_ && scrub_->running) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", in_force_.volume_name,
                     " is being scrubbed already; `keelctl volume status` shows how far it is"));
  }
  scrub_.emplace();
  scrub_->running = true;
  scrub_->size_bytes = in_force_.size_bytes;
  if (gate_.Spawn(RunScrub(options))) return absl::OkStatus();
  scrub_.reset();
  return Detaching();
}

io::Task<void> Segment::RunScrub(ScrubOptions options) {
  co_await reactor_->Yield();
  KEEL_LOG_INFO("event=scrub_started volume={} segment={}", in_force_.volume_name,
                in_force_.segment);
  absl::Status status = co_await ScrubAll(options);
  scrub_->running = false;
  scrub_->ended_early = std::string(status.message());
  if (status.ok()) scrub_->position_bytes = scrub_->size_bytes;
  KEEL_LOG_INFO(
      "event=scrub_ended volume={} segment={} regions={} skipped={} read_bytes={} "
      "status=\"{}\"",
      in_force_.volume_name, in_force_.segment, scrub_->regions, scrub_->regions_skipped,
      scrub_->read_bytes, status.ToString());
  if (scrub_->bad_blocks == 0 && scrub_->different_blocks == 0) co_return;
  KEEL_LOG_WARN("event=scrub_found volume={} segment={} bad={} repaired={} different={}",
                in_force_.volume_name, in_force_.segment, scrub_->bad_blocks,
                scrub_->repaired_blocks, scrub_->different_blocks);
}

absl::Status Segment::ScrubHealth() const {
  if (!health_.ok()) return health_;
  if (!closing_) return absl::OkStatus();
  return absl::CancelledError(absl::StrCat("volume ", in_force_.volume_name, " is detached"));
}

io::Task<absl::Status> Segment::ScrubAll(ScrubOptions options) {
  std::int64_t due_ns = reactor_->NowNanos();
  ScrubRegion region;
  for (std::uint32_t first = 0;; first = *region.number + 1) {
    CO_RETURN_IF_ERROR(co_await FindScrubRegion(first, &region));
    if (!region.number || *region.number * kRegionBytes >= scrub_->size_bytes) break;
    scrub_->position_bytes = *region.number * kRegionBytes;
    for (std::uint32_t i = 0; i < kExtentsPerRegion; ++i) {
      const std::uint32_t extent = *region.number * kExtentsPerRegion + i;
      if (extent * kExtentBytes >= scrub_->size_bytes) break;
      const std::uint64_t read_before = scrub_->read_bytes;
      const std::int64_t began_ns = reactor_->NowNanos();
      CO_RETURN_IF_ERROR(co_await ScrubExtent(extent, &region));
      const std::int64_t now_ns = reactor_->NowNanos();
      const auto read_bytes = static_cast<double>(scrub_->read_bytes - read_before);
      counters_.scrub_read_bytes += scrub_->read_bytes - read_before;
      if (options.bytes_per_second > 0) {
        due_ns = std::max(due_ns, began_ns) +
                 static_cast<std::int64_t>(1e9 * read_bytes /
                                           static_cast<double>(options.bytes_per_second));
      }
      // Beside clients it works for half of the time at most.
      if (in_flight_ > 0) due_ns = std::max(due_ns, now_ns + (now_ns - began_ns));
      while (reactor_->NowNanos() < due_ns && ScrubHealth().ok()) {
        co_await WaitUntil(std::min(due_ns, reactor_->NowNanos() + kLookNanos));
      }
      co_await reactor_->Yield();
    }
    ++scrub_->regions;
    if (region.skipped) ++scrub_->regions_skipped;
    if (*region.number == UINT32_MAX) break;
  }
  co_return ScrubHealth();
}

io::Task<absl::Status> Segment::FindScrubRegion(std::uint32_t first, ScrubRegion* found) {
  for (;;) {
    CO_RETURN_IF_ERROR(ScrubHealth());
    *found = ScrubRegion();
    for (const replica::ConfiguredSnapshot& snapshot : in_force_.snapshots) {
      found->listed.insert(snapshot.id);
    }
    bool answered = false;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      MemberSlot* slot = slots_[i].get();
      if (!slot->in_sync || !slot->connected) continue;
      const std::uint64_t session = slot->session;
      absl::StatusOr<std::vector<replica::RegionNote>> notes =
          co_await slot->port->Notes(pool::Generation(), first, 1, Deadline());
      if (!notes.ok()) {
        MemberFailed(slot, session, notes.status());
        continue;
      }
      answered = true;
      for (const replica::RegionNote& note : *notes) {
        if (found->number && note.region > *found->number) break;
        if (!found->number || note.region < *found->number) found->noted.clear();
        found->number = note.region;
        found->noted.insert(note.layer);
      }
    }
    if (answered) co_return absl::OkStatus();
    co_await WaitUntil(reactor_->NowNanos() + kLookNanos);
  }
}

io::Task<absl::Status> Segment::ScrubExtent(std::uint32_t extent, ScrubRegion* region) {
  const std::uint64_t begin = extent * kExtentBytes;
  // No write is under way here, so that the members are equal; reads go on.
  RangeLock::Hold hold(&ranges_, begin, begin + kExtentBytes, RangeLock::kShared);
  co_await hold;
  CO_RETURN_IF_ERROR(ScrubHealth());
  if (AnyUnreconciled(begin, kExtentBytes)) {
    region->skipped = true;  // nothing there says who is right (R17)
    co_return absl::OkStatus();
  }
  std::vector<ScrubView> views;
  for (const auto& slot : slots_) {
    const replica::Member* record = Record(*slot);
    if (!slot->connected || !slot->in_sync || record == nullptr ||
        record->state != replica::MemberState::kInSync) {
      continue;
    }
    ScrubView& view = views.emplace_back();
    view.leg = {slot.get(), slot->session, absl::OkStatus(), 0};
    view.crc32c.fill(ZeroCrc32c());
  }
  std::vector<pool::SnapshotId> layers;
  for (const replica::ConfiguredSnapshot& snapshot : in_force_.snapshots) {
    // One that was taken meanwhile may have got what was noted for the head.
    if (region->noted.contains(snapshot.id) || !region->listed.contains(snapshot.id)) {
      layers.push_back(snapshot.id);
    }
  }
  layers.emplace_back();
  for (const pool::SnapshotId& layer : layers) {
    co_await ScrubLayer(layer, extent, &views, region);
    if (AnyUnreconciled(begin, kExtentBytes)) break;
  }
  co_return absl::OkStatus();
}

io::Task<void> Segment::ScrubLayer(pool::SnapshotId layer, std::uint32_t extent,
                                   std::vector<ScrubView>* views, ScrubRegion* region) {
  bool any_bad = false;
  for (ScrubView& view : *views) {
    if (view.left) continue;
    absl::StatusOr<replica::VerifyAnswer> answer =
        co_await view.leg.slot->port->Verify(layer, extent, BlockBits(), {}, Deadline());
    if (!answer.ok()) {
      view.left = region->skipped = true;
      // What it could not do for a scrub is no reason to lose it.
      if (!IsMembersOwn(answer.status())) {
        MemberFailed(view.leg.slot, view.leg.session, answer.status());
      }
      continue;
    }
    view.answer = *answer;
    scrub_->read_bytes += view.answer.content.data.Count() * kBlockBytes;
    any_bad = any_bad || view.answer.bad.Any();
  }
  if (any_bad) {
    // Not from the reactor's buffers: those who hold all of them may wait for this extent.
    pool::HeaderBlock buffer(kExtentBytes);
    for (ScrubView& target : *views) {
      for (ScrubView& source : *views) {
        if (&source == &target) continue;
        co_await Mend(layer, extent, &target, &source, buffer.span());
      }
    }
  }
  for (const ScrubView& view : *views) {
    if (!view.left) CountBad(layer, extent, view);
  }
  Compare(layer, extent, views);
}

io::Task<void> Segment::Mend(pool::SnapshotId layer, std::uint32_t extent, ScrubView* target,
                             ScrubView* source, std::span<std::byte> buffer) {
  if (target->left || source->left) co_return;
  BlockBits wanted =
      target->answer.still_bad() & source->answer.content.data & ~source->answer.still_bad();
  if (!wanted.Any()) co_return;
  co_await ReadWanted(layer, extent, source, &wanted, buffer);
  if (!wanted.Any()) co_return;
  absl::StatusOr<replica::VerifyAnswer> answer = co_await target->leg.slot->port->Verify(
      layer, extent, wanted, buffer.first(wanted.Count() * kBlockBytes), Deadline());
  if (!answer.ok()) {
    target->left = !IsMembersOwn(answer.status());
    if (target->left) MemberFailed(target->leg.slot, target->leg.session, answer.status());
    co_return;
  }
  target->answer.mended = target->answer.mended | (answer->mended & target->answer.bad);
  for (std::uint32_t block = 0; block < kBlocksPerExtent; ++block) {
    if (answer->mended.Test(block)) target->answer.crc32c[block] = answer->crc32c[block];
  }
}

io::Task<void> Segment::ReadWanted(pool::SnapshotId layer, std::uint32_t extent, ScrubView* source,
                                   BlockBits* wanted, std::span<std::byte> into) {
  MemberSlot* slot = source->leg.slot;
  if (!source->answer.still_bad().Any()) {
    absl::StatusOr<replica::ExtentContent> content =
        co_await slot->port->ReadCopy(layer, extent, into, Deadline());
    std::size_t from = 0, to = 0;
    const BlockBits there = content.ok() ? content->data : BlockBits();
    *wanted = *wanted & there;
    for (std::uint32_t block = 0; block < kBlocksPerExtent; ++block) {
      if (!there.Test(block)) continue;
      if (wanted->Test(block)) {
        std::memmove(&into[to], &into[from], kBlockBytes);
        to += kBlockBytes;
      }
      from += kBlockBytes;
    }
    co_return;
  }
  // It has lost other blocks of the extent itself. What the head shows can be read one by one.
  std::size_t to = 0;
  for (std::uint32_t block = 0; block < kBlocksPerExtent; ++block) {
    if (!wanted->Test(block)) continue;
    const std::span<std::byte> bytes = into.subspan(to, kBlockBytes);
    absl::Status read =
        co_await slot->port->Read(extent * kExtentBytes + block * kBlockBytes, bytes, Deadline());
    if (read.ok() && pool::Crc32c(bytes) == source->answer.crc32c[block]) {
      to += kBlockBytes;
    } else {
      *wanted = *wanted & ~BlockBits::Range(block, 1);
    }
  }
}

void Segment::CountBad(pool::SnapshotId layer, std::uint32_t extent, const ScrubView& view) {
  const replica::VerifyAnswer& answer = view.answer;
  if (!answer.bad.Any()) return;
  scrub_->bad_blocks += answer.bad.Count();
  scrub_->repaired_blocks += answer.mended.Count();
  scrub_->unrepairable_blocks += answer.still_bad().Count();
  counters_.scrub_bad_blocks += answer.bad.Count();
  counters_.scrub_repaired_blocks += answer.mended.Count();
  for (std::uint32_t block = 0; block < kBlocksPerExtent; ++block) {
    if (!answer.bad.Test(block)) continue;
    const auto kind = answer.mended.Test(block) ? ScrubFinding::Kind::kRepaired
                                                : ScrubFinding::Kind::kUnrepairable;
    AddFinding(kind, layer, extent, block, *view.leg.slot);
  }
}

void Segment::Compare(pool::SnapshotId layer, std::uint32_t extent, std::vector<ScrubView>* views) {
  // Two members may say the same in two ways (a block that one has, another finds in an older
  // layer), so what they show is compared, and only where this layer says something new.
  const ScrubView* model = nullptr;
  for (ScrubView& view : *views) {
    if (view.left) continue;
    const replica::VerifyAnswer& answer = view.answer;
    for (std::uint32_t block = 0; block < kBlocksPerExtent; ++block) {
      if (answer.content.zeroed.Test(block)) view.crc32c[block] = ZeroCrc32c();
      if (answer.content.data.Test(block)) view.crc32c[block] = answer.crc32c[block];
    }
    const BlockBits decided = answer.content.data | answer.content.zeroed;
    view.unknown = (view.unknown & ~decided) | answer.still_bad();
    if (model == nullptr) {
      model = &view;
      continue;
    }
    const BlockBits look = (decided | model->answer.content.data | model->answer.content.zeroed) &
                           ~view.unknown & ~model->unknown;
    for (std::uint32_t block = 0; block < kBlocksPerExtent; ++block) {
      if (!look.Test(block) || view.crc32c[block] == model->crc32c[block]) continue;
      ++scrub_->different_blocks;
      ++counters_.scrub_different_blocks;
      AddFinding(ScrubFinding::Kind::kDifferent, layer, extent, block, *view.leg.slot);
    }
  }
}

void Segment::AddFinding(ScrubFinding::Kind kind, pool::SnapshotId layer, std::uint32_t extent,
                         std::uint32_t block, const MemberSlot& slot) {
  if (scrub_->findings.size() == kScrubFindingsMax) return;
  ScrubFinding& finding = scrub_->findings.emplace_back();
  finding.kind = kind;
  finding.offset = extent * kExtentBytes + block * kBlockBytes;
  finding.layer = layer;
  finding.replica = slot.member.replica;
}

}  // namespace keelson::engine
