#include "blockstore/pool/format.h"

#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"

namespace keelson::pool {
namespace {

constexpr std::uint8_t kMapVersion = 1;
constexpr std::uint8_t kSumVersion = 1;
constexpr std::uint8_t kLogVersion = 1;

// Flags of a map value.
constexpr std::uint8_t kHasData = 1;    // pool_extent is set
constexpr std::uint8_t kFull = 2;       // all 256 blocks present: no bitmap follows
constexpr std::uint8_t kHasZeroed = 4;  // a bitmap of zeroed blocks follows
constexpr std::uint8_t kKnownMapFlags = kHasData | kFull | kHasZeroed;

template <typename T>
void AppendBig(T value, std::string* out) {
  for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8) {
    out->push_back(static_cast<char>(value >> shift));
  }
}
template <typename T>
T LoadBig(std::string_view bytes, std::size_t at) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value << 8 | static_cast<std::uint8_t>(bytes[at + i]));
  }
  return value;
}
template <typename T>
void AppendLittle(const T& value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}
// Reads values one after another; `ok()` is false once any was missing.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  template <typename T>
  T Take() {
    T value{};
    if (rest_.size() < sizeof(T)) {
      ok_ = false;
      rest_ = {};
      return value;
    }
    std::memcpy(&value, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return value;
  }
  std::string_view TakeBytes(std::size_t size) {
    if (rest_.size() < size) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && rest_.empty(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

absl::Status Malformed(std::string_view what, std::string_view bytes) {
  return absl::DataLossError(absl::StrCat("the metadata store holds a malformed ",
                                          std::string(what), " of ", bytes.size(), " bytes"));
}

void AppendBits(const BlockBits& bits, std::string* out) {
  for (std::uint64_t word : bits.words()) AppendLittle(word, out);
}
BlockBits TakeBits(Reader* reader) {
  BlockBits bits;
  for (std::uint64_t& word : bits.words()) word = reader->Take<std::uint64_t>();
  return bits;
}

absl::StatusOr<ExtentState> TakeExtentState(Reader* reader, std::string_view bytes) {
  const auto version = reader->Take<std::uint8_t>();
  const auto flags = reader->Take<std::uint8_t>();
  const auto reserved = reader->Take<std::uint16_t>();
  const auto pool_extent = reader->Take<std::uint32_t>();
  if (!reader->ok() || version != kMapVersion || reserved != 0 || (flags & ~kKnownMapFlags) != 0) {
    return Malformed("map entry", bytes);
  }
  ExtentState state;
  if (flags & kHasData) {
    state.pool_extent = pool_extent;
    state.present = flags & kFull ? BlockBits::All() : TakeBits(reader);
  }
  if (flags & kHasZeroed) state.zeroed = TakeBits(reader);
  const bool extent_matches =
      (flags & kHasData) ? pool_extent != kNoExtent : pool_extent == kNoExtent && !(flags & kFull);
  if (!reader->ok() || !extent_matches || (state.present & state.zeroed).Any()) {
    return Malformed("map entry", bytes);
  }
  return state;
}

constexpr std::size_t kGenerationBytes = 40;

void AppendGeneration(const Generation& generation, std::string* out) {
  AppendLittle(generation.epoch.attachment, out);
  AppendLittle(generation.epoch.restart, out);
  AppendLittle(std::uint32_t{0}, out);
  out->append(generation.epoch.engine.view());
  AppendLittle(generation.counter, out);
}
absl::StatusOr<Generation> TakeGeneration(Reader* reader, std::string_view bytes) {
  Generation generation;
  generation.epoch.attachment = reader->Take<std::uint64_t>();
  generation.epoch.restart = reader->Take<std::uint32_t>();
  const auto reserved = reader->Take<std::uint32_t>();
  const std::string_view engine = reader->TakeBytes(16);
  generation.counter = reader->Take<std::uint64_t>();
  if (!reader->ok() || reserved != 0) return Malformed("generation", bytes);
  std::memcpy(generation.epoch.engine.bytes.data(), engine.data(), engine.size());
  return generation;
}

}  // namespace

std::string EncodeMapKey(const MapKey& key) {
  std::string out;
  AppendBig(key.layer.value, &out);
  AppendBig(key.extent, &out);
  return out;
}

absl::StatusOr<MapKey> DecodeMapKey(std::string_view bytes) {
  if (bytes.size() != 12) return Malformed("map key", bytes);
  return MapKey{{LoadBig<std::uint64_t>(bytes, 0)}, LoadBig<std::uint32_t>(bytes, 8)};
}

void AppendExtentState(const ExtentState& state, std::string* out) {
  std::uint8_t flags = 0;
  const bool full = state.present.IsAll();
  if (state.pool_extent != kNoExtent) flags |= kHasData;
  if (full) flags |= kFull;
  if (state.zeroed.Any()) flags |= kHasZeroed;
  AppendLittle(kMapVersion, out);
  AppendLittle(flags, out);
  AppendLittle(std::uint16_t{0}, out);
  AppendLittle(state.pool_extent, out);
  if ((flags & kHasData) && !full) AppendBits(state.present, out);
  if (flags & kHasZeroed) AppendBits(state.zeroed, out);
}

absl::StatusOr<ExtentState> DecodeExtentState(std::string_view bytes) {
  Reader reader(bytes);
  absl::StatusOr<ExtentState> state = TakeExtentState(&reader, bytes);
  if (state.ok() && !reader.at_end()) return Malformed("map entry", bytes);
  return state;
}

std::string EncodeSumKey(std::uint32_t pool_extent) {
  std::string out;
  AppendBig(pool_extent, &out);
  return out;
}

absl::StatusOr<std::uint32_t> DecodeSumKey(std::string_view bytes) {
  if (bytes.size() != 4) return Malformed("checksum key", bytes);
  return LoadBig<std::uint32_t>(bytes, 0);
}

void EncodeSumRecord(const SumRecord& record, std::string* out) {
  out->clear();
  AppendLittle(kSumVersion, out);
  out->append(3, '\0');
  AppendLittle(record.owner.extent, out);
  AppendLittle(record.owner.layer.value, out);
  AppendGeneration(record.generation, out);
  AppendBits(record.known, out);
  out->append(reinterpret_cast<const char*>(record.crc32c.data()), sizeof record.crc32c);
}

absl::Status DecodeSumRecord(std::string_view bytes, SumRecord* out) {
  Reader reader(bytes);
  const auto version = reader.Take<std::uint8_t>();
  const std::string_view reserved = reader.TakeBytes(3);
  out->owner.extent = reader.Take<std::uint32_t>();
  out->owner.layer.value = reader.Take<std::uint64_t>();
  if (!reader.ok() || version != kSumVersion || reserved != std::string_view("\0\0\0", 3)) {
    return Malformed("checksum record", bytes);
  }
  ASSIGN_OR_RETURN(out->generation, TakeGeneration(&reader, bytes));
  out->known = TakeBits(&reader);
  const std::string_view sums = reader.TakeBytes(sizeof out->crc32c);
  if (!reader.at_end()) return Malformed("checksum record", bytes);
  std::memcpy(out->crc32c.data(), sums.data(), sums.size());
  return absl::OkStatus();
}

std::string EncodeNoteKey(LayerNumber layer, std::uint32_t region) {
  std::string out;
  AppendBig(layer.value, &out);
  AppendBig(region, &out);
  return out;
}

absl::StatusOr<std::pair<LayerNumber, std::uint32_t>> DecodeNoteKey(std::string_view bytes) {
  if (bytes.size() != 12) return Malformed("region note key", bytes);
  return std::pair{LayerNumber{LoadBig<std::uint64_t>(bytes, 0)}, LoadBig<std::uint32_t>(bytes, 8)};
}

std::string EncodeGeneration(const Generation& generation) {
  std::string out;
  out.reserve(kGenerationBytes);
  AppendGeneration(generation, &out);
  return out;
}

absl::StatusOr<Generation> DecodeGeneration(std::string_view bytes) {
  if (bytes.size() != kGenerationBytes) return Malformed("generation", bytes);
  Reader reader(bytes);
  return TakeGeneration(&reader, bytes);
}

std::string EncodeLogKey(std::uint64_t sequence) {
  std::string out;
  AppendBig(sequence, &out);
  return out;
}

absl::StatusOr<std::uint64_t> DecodeLogKey(std::string_view bytes) {
  if (bytes.size() != 8) return Malformed("log key", bytes);
  return LoadBig<std::uint64_t>(bytes, 0);
}

void BeginLogRecord(const Uuid& incarnation, std::string* out) {
  out->clear();
  AppendLittle(kLogVersion, out);
  out->append(7, '\0');
  out->append(incarnation.view());
}

void AppendLogEntry(const LogEntry& entry, std::string* out) {
  AppendLittle(entry.key.layer.value, out);
  AppendLittle(entry.key.extent, out);
  AppendLittle(std::uint32_t{entry.gone ? 1U : 0U}, out);
  if (!entry.gone) AppendExtentState(entry.state, out);
}

absl::StatusOr<LogRecord> DecodeLogRecord(std::string_view bytes) {
  Reader reader(bytes);
  const auto version = reader.Take<std::uint8_t>();
  const std::string_view reserved = reader.TakeBytes(7);
  const std::string_view incarnation = reader.TakeBytes(16);
  if (!reader.ok() || version != kLogVersion || reserved != std::string_view("\0\0\0\0\0\0\0", 7)) {
    return Malformed("log record", bytes);
  }
  LogRecord record;
  std::memcpy(record.incarnation.bytes.data(), incarnation.data(), incarnation.size());
  while (!reader.at_end()) {
    LogEntry entry;
    entry.key.layer.value = reader.Take<std::uint64_t>();
    entry.key.extent = reader.Take<std::uint32_t>();
    const auto gone = reader.Take<std::uint32_t>();
    if (!reader.ok() || gone > 1) return Malformed("log record", bytes);
    entry.gone = gone == 1;
    if (!entry.gone) {
      ASSIGN_OR_RETURN(entry.state, TakeExtentState(&reader, bytes));
    }
    record.entries.push_back(entry);
  }
  return record;
}

std::string ObjectKey(std::string_view prefix, std::uint64_t number) {
  std::string out(prefix);
  AppendBig(number, &out);
  return out;
}

absl::StatusOr<std::uint64_t> DecodeObjectKey(std::string_view prefix, std::string_view key) {
  if (!key.starts_with(prefix) || key.size() != prefix.size() + 8) {
    return Malformed("object key", key);
  }
  return LoadBig<std::uint64_t>(key, prefix.size());
}

std::string EncodeU64(std::uint64_t value) {
  std::string out;
  AppendLittle(value, &out);
  return out;
}

absl::StatusOr<std::uint64_t> DecodeU64(std::string_view bytes) {
  if (bytes.size() != 8) return Malformed("number", bytes);
  Reader reader(bytes);
  return reader.Take<std::uint64_t>();
}

}  // namespace keelson::pool
