#pragma once
// CopiedExtents: what resync copies did to the stored checksums of extents (R17). An ordinary write
// raises its region's note; that takes the stored checksums out of force and keeps new ones from
// being stored until its generation is flushed. A copy carries the source's note, which may be old,
// so for extents that copies change both are kept here. Memory only: what a crash forgets is copied
// again. One reactor. Owned by ReplicaStore.

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "blockstore/pool/format.h"

namespace keelson::replica {

class CopiedExtents {
 public:
  // No checksum record in force is stored for the extent; a copy may change it.
  void SetVoid(const pool::MapKey& key) { void_.insert(key); }
  bool IsVoid(const pool::MapKey& key) const { return void_.contains(key); }
  // A record of its checksums went into a batch.
  void Stored(const pool::MapKey& key) { void_.erase(key); }

  // A copy changed the extent. Its checksums are not stored before a flush that begins later has
  // ended.
  void Changed(const pool::MapKey& key) { unflushed_[key] = next_++; }
  bool MayStore(const pool::MapKey& key) const { return !unflushed_.contains(key); }
  // A flush covers the changes before the Mark at its beginning.
  std::uint64_t Mark() const { return next_; }
  void Flushed(std::uint64_t mark) {
    absl::erase_if(unflushed_, [mark](const auto& entry) { return entry.second < mark; });
  }

  // The layer is gone.
  void Forget(pool::LayerNumber layer) {
    absl::erase_if(void_, [layer](const pool::MapKey& key) { return key.layer == layer; });
    absl::erase_if(unflushed_, [layer](const auto& entry) { return entry.first.layer == layer; });
  }

 private:
  absl::flat_hash_set<pool::MapKey> void_;
  absl::flat_hash_map<pool::MapKey, std::uint64_t> unflushed_;  // when it was changed last
  std::uint64_t next_ = 0;
};

}  // namespace keelson::replica
