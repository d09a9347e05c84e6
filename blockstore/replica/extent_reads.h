#pragma once
// Reads of blocks of one extent through a chain of layers, checked against their checksums: what
// Replica::Read and the resync's reading have in common. One reactor; runs in its caller, which
// holds a pass of the pool's read fence from before it looks into a map until the data has arrived.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "blockstore/pool/pool.h"
#include "blockstore/replica/layer_table.h"

namespace keelson::replica {

// The layers from `top` down to but without `end`; to the root when `end` is null.
struct LayerSpan {
  const Layer* top = nullptr;
  const Layer* end = nullptr;
};

// Where `block` of an extent comes from in the span, and for how many blocks, up to the limit, it
// is so.
struct BlockSource {
  Layer::Where where = Layer::Where::kAbsent;
  const Layer* layer = nullptr;  // of a present block: whose extent it is
  std::uint32_t pool_extent = pool::kNoExtent;
  std::uint32_t count = 0;
};
BlockSource FindSource(LayerSpan span, std::uint32_t extent, std::uint32_t block,
                       std::uint32_t limit);

// The checksums of a present source, when they are not resident. Errors are those of the store.
io::Task<absl::StatusOr<pool::ChecksumRef>> LoadChecksums(pool::Pool* pool, BlockSource source,
                                                          std::uint32_t extent);

// A few reads of the data file in flight together.
class ExtentReads {
 public:
  ExtentReads(pool::Pool* pool, std::string_view volume) : pool_(pool), volume_(volume) {}
  static constexpr std::size_t kReadsMax = 8;

  bool full() const { return count_ == kReadsMax; }
  // Adds the read of a present source, from `block` on; `into` are its blocks' bytes. REQUIRES: not
  // full().
  void Add(const BlockSource& source, std::uint32_t block, std::byte* into,
           pool::ChecksumRef checksums);
  // Reads all that was added, and starts anew. DATA_LOSS: a block does not match its checksum
  // (counted). INTERNAL: the disk failed the read.
  io::Task<absl::Status> Run();

 private:
  // With what is needed to check what arrives.
  struct Fetch {
    io::IoOp op;
    pool::ChecksumRef checksums;
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };
  static std::uint32_t FirstMismatch(const Fetch& fetch);
  absl::Status Mismatch(const Fetch& fetch, std::uint32_t bad) const;

  pool::Pool* pool_;         // outlives this
  std::string_view volume_;  // for messages; outlives this
  std::array<Fetch, kReadsMax> fetches_;
  std::size_t count_ = 0;
};

}  // namespace keelson::replica
