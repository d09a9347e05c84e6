// Bytes of a disk into every decoder of the pool's formats: none may crash, and what a decoder
// accepts must encode to bytes that decode to the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "blockstore/io/check.h"
#include "blockstore/pool/format.h"
#include "blockstore/pool/superblock.h"
#include "blockstore/replica/configuration.h"

namespace keelson::pool {
namespace {

void TryExtentState(std::string_view bytes) {
  const absl::StatusOr<ExtentState> state = DecodeExtentState(bytes);
  if (!state.ok()) return;
  std::string encoded;
  AppendExtentState(*state, &encoded);
  const absl::StatusOr<ExtentState> again = DecodeExtentState(encoded);
  KEEL_CHECK(again.ok() && *again == *state, "an accepted map entry survives a round trip");
}

void TrySumRecord(std::string_view bytes) {
  SumRecord record;
  if (!DecodeSumRecord(bytes, &record).ok()) return;
  std::string encoded;
  EncodeSumRecord(record, &encoded);
  KEEL_CHECK(encoded == bytes, "a checksum record has one encoding");
}

void TryLogRecord(std::string_view bytes) {
  const absl::StatusOr<LogRecord> record = DecodeLogRecord(bytes);
  if (!record.ok()) return;
  std::string encoded;
  BeginLogRecord(record->incarnation, &encoded);
  for (const LogEntry& entry : record->entries) AppendLogEntry(entry, &encoded);
  const absl::StatusOr<LogRecord> again = DecodeLogRecord(encoded);
  KEEL_CHECK(again.ok() && again->entries.size() == record->entries.size(),
             "an accepted log record survives a round trip");
}

// The fuzzer cannot guess a checksum: it gets one, so that what lies behind it is reached too.
void TryHeader(std::string_view bytes) {
  alignas(8) std::byte block[kHeaderBlockBytes] = {};
  std::memcpy(block, bytes.data(), std::min(bytes.size(), sizeof block));
  (void)DecodeSuperblock(block);
  (void)DecodeMark(block);
  std::memset(block + 8, 0, 4);
  const std::uint32_t crc = Crc32c(block);
  std::memcpy(block + 8, &crc, sizeof crc);
  const absl::StatusOr<Superblock> superblock = DecodeSuperblock(block);
  KEEL_CHECK(!superblock.ok() || superblock->extent_count > 0, "an accepted pool has extents");
  (void)DecodeMark(block);
}

void TryConfiguration(std::string_view bytes) {
  const absl::StatusOr<replica::Configuration> configuration = replica::ParseConfiguration(bytes);
  if (!configuration.ok()) return;
  const absl::StatusOr<replica::Configuration> again =
      replica::ParseConfiguration(replica::Serialize(*configuration));
  KEEL_CHECK(again.ok() && *again == *configuration,
             "an accepted configuration survives a round trip");
  (void)replica::ToString(*configuration);
}

}  // namespace
}  // namespace keelson::pool

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  keelson::pool::TryExtentState(bytes);
  keelson::pool::TrySumRecord(bytes);
  keelson::pool::TryLogRecord(bytes);
  keelson::pool::TryHeader(bytes);
  keelson::pool::TryConfiguration(bytes);
  (void)keelson::pool::DecodeMapKey(bytes);
  (void)keelson::pool::DecodeNoteKey(bytes);
  (void)keelson::pool::DecodeGeneration(bytes);
  (void)keelson::pool::DecodeObjectKey(keelson::pool::kLayerPrefix, bytes);
  return 0;
}
