#pragma once
// The first mebibyte of a pool's data file (docs/on-disk-format.md, "Header"): two copies of the
// superblock, which never change after the pool is made, and two alternating *marks*, each saying
// how far the metadata store had durably got. A metadata store that is behind the newest mark is
// not the one this data belongs to (lost, restored from a copy): the pool refuses to open. Encoding
// and decoding only; no I/O.

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "blockstore/pool/ids.h"

namespace keelson::pool {

inline constexpr std::uint64_t kDataStart = kExtentBytes;  // extent 0 begins here
inline constexpr std::size_t kHeaderBlockBytes = 4096;     // of each of the four header blocks
inline constexpr std::uint64_t kSuperblockOffsets[2] = {0, 4096};
inline constexpr std::uint64_t kMarkOffsets[2] = {8192, 12288};
inline constexpr std::uint32_t kFormatVersion = 1;

// Features a program must know to open the pool at all; none is defined yet.
inline constexpr std::uint64_t kKnownIncompatibleFeatures = 0;

struct Superblock {
  PoolId pool_id;
  std::uint32_t format_version = kFormatVersion;
  std::uint64_t incompatible_features = 0;
  std::uint64_t compatible_features = 0;
  std::uint64_t extent_count = 0;  // the data area is extent_count MiB
};

struct Mark {
  PoolId pool_id;
  std::uint64_t stamp = 0;
};

// `block` is kHeaderBlockBytes.
void EncodeSuperblock(const Superblock& superblock, std::span<std::byte> block);
void EncodeMark(const Mark& mark, std::span<std::byte> block);

// FAILED_PRECONDITION: not a superblock of ours (foreign data), or a format version or incompatible
// feature this program does not know. DATA_LOSS: ours by its magic, but the checksum does not
// match.
absl::StatusOr<Superblock> DecodeSuperblock(std::span<const std::byte> block);
// NOT_FOUND: never written (zeroes). DATA_LOSS: damaged or torn.
absl::StatusOr<Mark> DecodeMark(std::span<const std::byte> block);

// CRC32C (Castagnoli, as in RFC 3720), the checksum of every format of ours.
std::uint32_t Crc32c(std::span<const std::byte> bytes);

}  // namespace keelson::pool
