#include "blockstore/replica/region_notes.h"

#include <algorithm>
#include <utility>

#include "blockstore/io/status.h"

namespace keelson::replica {

pool::Generation RegionNotes::Get(std::uint32_t region) const {
  auto it = notes_.find(region);
  return it == notes_.end() ? pool::Generation{} : it->second.durable;
}

bool RegionNotes::Touch(std::uint32_t first, std::uint32_t last,
                        const pool::Generation& generation) {
  bool noted = true;
  for (std::uint32_t region = first; region <= last; ++region) {
    Note& note = notes_[region];
    note.touched = generation;
    if (note.durable < generation) noted = false;
  }
  return noted;
}

io::Task<absl::Status> RegionNotes::Ensure(std::uint32_t first, std::uint32_t last,
                                           pool::Generation generation) {
  while (!Touch(first, last, generation)) {
    if (!pool_->health().ok()) co_return pool_->health();
    for (std::uint32_t region = first; region <= last; ++region) {
      if (notes_[region].wanted >= generation) continue;  // durable, or on its way
      Want(region, generation);
      queue_.push_back(region);
    }
    if (!running_) {
      running_ = true;
      gate_.Spawn(Run());
    }
    co_await waiters_.Wait();
  }
  co_return pool_->health();
}

io::Task<void> RegionNotes::Run() {
  co_await pool_->reactor().Yield();  // gathers the regions asked for in this turn of the loop
  while (!queue_.empty()) {
    const std::vector<std::uint32_t> regions = std::exchange(queue_, {});
    std::vector<pool::Generation> generations;
    generations.reserve(regions.size());
    pool::MetaBatch batch;
    for (std::uint32_t region : regions) {
      generations.push_back(notes_[region].wanted);
      batch.Put(pool::Table::kNotes, pool::EncodeNoteKey(layer_, region),
                pool::EncodeGeneration(generations.back()));
    }
    absl::Status status = co_await pool_->meta().Commit(&batch, /*synced=*/true);
    if (status.ok()) {
      for (std::size_t i = 0; i < regions.size(); ++i) Set(regions[i], generations[i]);
    } else {
      pool_->Fail(std::move(status));
    }
    waiters_.WakeAll();
  }
  running_ = false;
}

std::vector<std::uint32_t> RegionNotes::Touched(const pool::Generation& generation) const {
  std::vector<std::uint32_t> regions;
  for (const auto& [region, note] : notes_) {
    // Not one whose first writer is still taking its checksums into memory (Replica::NoteRegions):
    // a later note would make the stored ones void under its hands.
    if (note.touched == generation && note.wanted >= generation) regions.push_back(region);
  }
  std::sort(regions.begin(), regions.end());
  if (regions.size() > kCarriedMax) regions.resize(kCarriedMax);
  return regions;
}

io::Task<absl::Status> RegionNotes::CarryOver(pool::Generation closing, pool::Generation next) {
  if (!pool_->health().ok()) co_return pool_->health();
  const std::vector<std::uint32_t> regions = Touched(closing);
  if (regions.empty()) co_return absl::OkStatus();
  pool::MetaBatch batch;
  std::vector<pool::Generation> wanted;
  wanted.reserve(regions.size());
  for (std::uint32_t region : regions) {
    wanted.push_back(Want(region, next));
    batch.Put(pool::Table::kNotes, pool::EncodeNoteKey(layer_, region),
              pool::EncodeGeneration(wanted.back()));
  }
  absl::Status status = co_await pool_->meta().Commit(&batch, /*synced=*/true);
  if (!status.ok()) {
    pool_->Fail(status);
    waiters_.WakeAll();
    co_return status;
  }
  for (std::size_t i = 0; i < regions.size(); ++i) Set(regions[i], wanted[i]);
  waiters_.WakeAll();  // a writer of `next` may wait for just this
  co_return absl::OkStatus();
}

std::vector<std::uint32_t> RegionNotes::Above(const pool::Generation& generation) const {
  std::vector<std::uint32_t> regions;
  for (const auto& [region, note] : notes_) {
    if (note.durable > generation) regions.push_back(region);
  }
  std::sort(regions.begin(), regions.end());
  return regions;
}

std::vector<std::uint32_t> RegionNotes::Regions() const {
  std::vector<std::uint32_t> regions;
  for (const auto& [region, note] : notes_) regions.push_back(region);
  std::sort(regions.begin(), regions.end());
  return regions;
}

}  // namespace keelson::replica
