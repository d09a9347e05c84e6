#pragma once
// RegionNotes: for each 4 MiB region of one layer, the generation that last may have changed it
// there, durable before the change (rule R5). The note of a replica's region is that of the newest
// layer that has one. A note never says that a region is complete or clean; it bounds what may
// differ after a crash, and says which stored checksums still hold (R17). One reactor. Owned by its
// Layer.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/sync.h"
#include "blockstore/pool/pool.h"

namespace keelson::replica {

class RegionNotes {
 public:
  RegionNotes(pool::Pool* pool, pool::LayerNumber layer) : pool_(pool), layer_(layer) {}

  // The note of a region; the default Generation if it was never changed.
  pool::Generation Get(std::uint32_t region) const;
  // Loaded from the store, or made durable by a batch of the caller's.
  void Set(std::uint32_t region, const pool::Generation& generation) {
    Note& note = notes_[region];
    note.durable = std::max(note.durable, generation);
    note.wanted = std::max(note.wanted, generation);
  }
  // Raises the region to at least `generation` and returns what the caller's batch must store for
  // it; the caller calls Set with that when the batch is durable.
  pool::Generation Want(std::uint32_t region, const pool::Generation& generation) {
    Note& note = notes_[region];
    note.wanted = std::max(note.wanted, generation);
    return note.wanted;
  }

  // True when all regions first..last are noted with `generation` or later; also remembers that
  // this generation writes them. The I/O path's question: no allocation when the answer is yes.
  bool Touch(std::uint32_t first, std::uint32_t last, const pool::Generation& generation);
  // Makes it so. Many callers share one synced batch.
  io::Task<absl::Status> Ensure(std::uint32_t first, std::uint32_t last,
                                pool::Generation generation);
  // Notes for `next` the regions that generation `closing` wrote (at most kCarriedMax of them), in
  // one batch, so that a steady workload does not wait region by region when a generation begins.
  io::Task<absl::Status> CarryOver(pool::Generation closing, pool::Generation next);
  // The regions CarryOver would take, in order.
  std::vector<std::uint32_t> Touched(const pool::Generation& generation) const;
  static constexpr std::size_t kCarriedMax = 2048;

  // The regions whose note is above `generation`, in order.
  std::vector<std::uint32_t> Above(const pool::Generation& generation) const;
  std::vector<std::uint32_t> Regions() const;
  io::Task<void> Close() { co_await gate_.Close(); }

 private:
  struct Note {
    pool::Generation durable;
    // The highest asked for. Every batch writes this, never less: commits are ordered, so what is
    // stored only rises.
    pool::Generation wanted;
    pool::Generation touched;
  };
  io::Task<void> Run();

  pool::Pool* pool_;  // outlives the notes
  pool::LayerNumber layer_;
  absl::flat_hash_map<std::uint32_t, Note> notes_;
  std::vector<std::uint32_t> queue_;
  bool running_ = false;
  io::WaitList waiters_;
  io::Gate gate_;
};

}  // namespace keelson::replica
