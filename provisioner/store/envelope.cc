#include "provisioner/store/envelope.h"

#include <isa-l/crc.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace keelson::provisioner {
namespace {

constexpr char kFormat = 1;
constexpr std::size_t kCrcOffset = 1 + sizeof(std::uint64_t);
constexpr std::size_t kHeaderBytes = kCrcOffset + sizeof(std::uint32_t);

template <typename Number>
void AppendLittleEndian(Number number, std::string* bytes) {
  for (std::size_t i = 0; i < sizeof(Number); ++i) {
    bytes->push_back(static_cast<char>((number >> (8 * i)) & 0xff));
  }
}

template <typename Number>
Number ReadLittleEndian(std::string_view bytes) {
  Number number = 0;
  for (std::size_t i = 0; i < sizeof(Number); ++i) {
    number |= static_cast<Number>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return number;
}

std::uint32_t ExtendCrc(std::uint32_t crc, std::string_view bytes) {
  // const_cast: isa-l's prototype lacks the const its documentation promises.
  auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
  return crc32_iscsi(data, static_cast<int>(bytes.size()), crc);
}

// `head`: the bytes before the checksum.
std::uint32_t Crc(std::string_view key, std::string_view head, std::string_view value) {
  return ~ExtendCrc(ExtendCrc(ExtendCrc(~0U, key), head), value);
}

}  // namespace

std::string Envelop(std::string_view key, std::uint64_t revision, std::string_view value) {
  std::string bytes(1, kFormat);
  bytes.reserve(kHeaderBytes + value.size());
  AppendLittleEndian(revision, &bytes);
  AppendLittleEndian(Crc(key, bytes, value), &bytes);
  bytes.append(value);
  return bytes;
}

absl::StatusOr<Enveloped> OpenEnvelope(std::string_view key, std::string_view bytes) {
  if (bytes.size() < kHeaderBytes) {
    return absl::DataLossError(absl::StrCat("it has ", bytes.size(), " bytes, fewer than the ",
                                            kHeaderBytes, " that begin every record"));
  }
  if (bytes[0] != kFormat) {
    return absl::DataLossError(absl::StrCat("it begins with ", static_cast<int>(bytes[0]),
                                            ", which is no format that this program knows"));
  }
  const std::string_view value = bytes.substr(kHeaderBytes);
  const auto stored = ReadLittleEndian<std::uint32_t>(bytes.substr(kCrcOffset));
  if (stored != Crc(key, bytes.substr(0, kCrcOffset), value)) {
    return absl::DataLossError("its checksum is wrong");
  }
  const auto revision = ReadLittleEndian<std::uint64_t>(bytes.substr(1));
  if (revision == 0) return absl::DataLossError("its revision is 0");
  return Enveloped{revision, std::string(value)};
}

}  // namespace keelson::provisioner
