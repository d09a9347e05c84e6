#pragma once
// Keys and values of the metadata tables (docs/on-disk-format.md, "Metadata"): encoding and
// decoding only, no I/O. Integers in keys are big-endian, so that keys sort by number; in values
// they are little-endian. Every decoder takes bytes from a disk: anything malformed is DATA_LOSS,
// never a crash.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "blockstore/pool/block_bits.h"
#include "blockstore/pool/ids.h"

namespace keelson::pool {

// Table kMap: where one extent of a layer lies.
struct MapKey {
  LayerNumber layer;
  std::uint32_t extent = 0;  // index in the replica, not in the pool
  auto operator<=>(const MapKey&) const = default;
  template <typename H>
  friend H AbslHashValue(H state, const MapKey& key) {
    return H::combine(std::move(state), key.layer, key.extent);
  }
};

inline constexpr std::uint32_t kNoExtent = UINT32_MAX;

// The blocks of one extent that belong to a layer: `present` ones have data in `pool_extent`,
// `zeroed` ones read as zeroes whatever the parent holds. No block is both. All others are absent:
// read from the parent layer, or zero.
struct ExtentState {
  std::uint32_t pool_extent = kNoExtent;  // kNoExtent: nothing is present
  BlockBits present;
  BlockBits zeroed;
  bool operator==(const ExtentState&) const = default;
};

std::string EncodeMapKey(const MapKey& key);
absl::StatusOr<MapKey> DecodeMapKey(std::string_view bytes);
void AppendExtentState(const ExtentState& state, std::string* out);
absl::StatusOr<ExtentState> DecodeExtentState(std::string_view bytes);

// Table kSums: the checksums of one pool extent, by the extent's index in the pool.
struct SumRecord {
  MapKey owner;           // whose data they describe; others' are stale
  Generation generation;  // they hold for every write up to this one
  BlockBits known;
  std::array<std::uint32_t, kBlocksPerExtent> crc32c{};
};
std::string EncodeSumKey(std::uint32_t pool_extent);
absl::StatusOr<std::uint32_t> DecodeSumKey(std::string_view bytes);
void EncodeSumRecord(const SumRecord& record, std::string* out);  // replaces *out
absl::Status DecodeSumRecord(std::string_view bytes, SumRecord* out);

// Table kNotes: the generation that last may have changed a region in a layer.
std::string EncodeNoteKey(LayerNumber layer, std::uint32_t region);
absl::StatusOr<std::pair<LayerNumber, std::uint32_t>> DecodeNoteKey(std::string_view bytes);
std::string EncodeGeneration(const Generation& generation);
absl::StatusOr<Generation> DecodeGeneration(std::string_view bytes);

// Table kLog: changes of maps since the last flush, valid in the incarnation that wrote them, and
// so only in its boot (R4).
struct LogEntry {
  MapKey key;
  bool gone = false;  // the extent left the layer's map
  ExtentState state;
};
std::string EncodeLogKey(std::uint64_t sequence);
absl::StatusOr<std::uint64_t> DecodeLogKey(std::string_view bytes);
void BeginLogRecord(const Uuid& incarnation, std::string* out);  // replaces *out
void AppendLogEntry(const LogEntry& entry, std::string* out);
struct LogRecord {
  Uuid incarnation;
  std::vector<LogEntry> entries;
};
absl::StatusOr<LogRecord> DecodeLogRecord(std::string_view bytes);

// Table kObjects: protobuf records (records.proto) under these keys.
inline constexpr std::string_view kPoolKey = "pool";
inline constexpr std::string_view kStampKey = "stamp";  // u64: counts flush batches
inline constexpr std::string_view kReplicaPrefix = "replica/";
inline constexpr std::string_view kLayerPrefix = "layer/";
// Of a replica, by its number:
inline constexpr std::string_view kCleanPrefix = "clean/";      // Generation: clean in this pool
inline constexpr std::string_view kPromisePrefix = "promise/";  // Generation: epoch, counter 0
inline constexpr std::string_view kConfigurationPrefix = "configuration/";
inline constexpr std::string_view kProgressPrefix = "progress/";
std::string ObjectKey(std::string_view prefix, std::uint64_t number);
absl::StatusOr<std::uint64_t> DecodeObjectKey(std::string_view prefix, std::string_view key);
std::string EncodeU64(std::uint64_t value);
absl::StatusOr<std::uint64_t> DecodeU64(std::string_view bytes);

}  // namespace keelson::pool
