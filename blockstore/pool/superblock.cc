#include "blockstore/pool/superblock.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace keelson::pool {
namespace {

constexpr std::uint64_t kSuperblockMagic = 0x314c4f4f504b454bULL;  // "KEKPOOL1"
constexpr std::uint64_t kMarkMagic = 0x314b52414d4b454bULL;        // "KEKMARK1"

// Little-endian on disk; the program runs on little-endian machines only (checked below).
struct SuperblockOnDisk {
  std::uint64_t magic;
  std::uint32_t crc32c;  // of the whole block with this field zero
  std::uint32_t format_version;
  std::uint8_t pool_id[16];
  std::uint64_t incompatible_features;
  std::uint64_t compatible_features;
  std::uint64_t extent_count;
  std::uint32_t extent_bytes;
  std::uint32_t block_bytes;
};
static_assert(sizeof(SuperblockOnDisk) == 64);
static_assert(offsetof(SuperblockOnDisk, pool_id) == 16);
static_assert(offsetof(SuperblockOnDisk, extent_bytes) == 56);
static_assert(std::is_trivially_copyable_v<SuperblockOnDisk>);

struct MarkOnDisk {
  std::uint64_t magic;
  std::uint32_t crc32c;
  std::uint32_t reserved;
  std::uint8_t pool_id[16];
  std::uint64_t stamp;
};
static_assert(sizeof(MarkOnDisk) == 40);
static_assert(offsetof(MarkOnDisk, stamp) == 32);
static_assert(std::is_trivially_copyable_v<MarkOnDisk>);

static_assert(std::endian::native == std::endian::little, "the formats are little-endian");

template <typename T>
std::uint32_t BlockCrc(std::span<const std::byte> block) {
  std::array<std::byte, kHeaderBlockBytes> copy{};
  std::copy_n(block.begin(), kHeaderBlockBytes, copy.begin());
  std::memset(copy.data() + offsetof(T, crc32c), 0, sizeof(std::uint32_t));
  return Crc32c(copy);
}

template <typename T>
void Seal(T* on_disk, std::span<std::byte> block) {
  std::fill(block.begin(), block.end(), std::byte{0});
  on_disk->crc32c = 0;
  std::memcpy(block.data(), on_disk, sizeof(T));
  on_disk->crc32c = BlockCrc<T>(block);
  std::memcpy(block.data(), on_disk, sizeof(T));
}

}  // namespace

std::uint32_t Crc32c(std::span<const std::byte> bytes) {
  // const_cast: isa-l's prototype lacks the const its documentation promises.
  auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~0U);
}

void EncodeSuperblock(const Superblock& superblock, std::span<std::byte> block) {
  SuperblockOnDisk on_disk{};
  on_disk.magic = kSuperblockMagic;
  on_disk.format_version = superblock.format_version;
  std::copy(superblock.pool_id.bytes.begin(), superblock.pool_id.bytes.end(), on_disk.pool_id);
  on_disk.incompatible_features = superblock.incompatible_features;
  on_disk.compatible_features = superblock.compatible_features;
  on_disk.extent_count = superblock.extent_count;
  on_disk.extent_bytes = static_cast<std::uint32_t>(kExtentBytes);
  on_disk.block_bytes = static_cast<std::uint32_t>(kBlockBytes);
  Seal(&on_disk, block);
}

void EncodeMark(const Mark& mark, std::span<std::byte> block) {
  MarkOnDisk on_disk{};
  on_disk.magic = kMarkMagic;
  std::copy(mark.pool_id.bytes.begin(), mark.pool_id.bytes.end(), on_disk.pool_id);
  on_disk.stamp = mark.stamp;
  Seal(&on_disk, block);
}

absl::StatusOr<Superblock> DecodeSuperblock(std::span<const std::byte> block) {
  SuperblockOnDisk on_disk{};
  std::memcpy(&on_disk, block.data(), sizeof on_disk);
  if (on_disk.magic != kSuperblockMagic) {
    return absl::FailedPreconditionError(
        "it does not begin with a Keelson superblock: it is not a pool, or something else has been "
        "written over it");
  }
  if (on_disk.crc32c != BlockCrc<SuperblockOnDisk>(block)) {
    return absl::DataLossError("the superblock's checksum does not match");
  }
  if (on_disk.format_version > kFormatVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the pool has format version ", on_disk.format_version,
                     ", this program knows versions up to ", kFormatVersion,
                     ": use a newer keelson-blockstore"));
  }
  if ((on_disk.incompatible_features & ~kKnownIncompatibleFeatures) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the pool uses features this program does not know (bits 0x",
                     absl::Hex(on_disk.incompatible_features & ~kKnownIncompatibleFeatures),
                     "): use a newer keelson-blockstore"));
  }
  if (on_disk.extent_bytes != kExtentBytes || on_disk.block_bytes != kBlockBytes ||
      on_disk.extent_count == 0 || on_disk.extent_count >= UINT32_MAX) {
    return absl::DataLossError("the superblock's geometry is impossible");
  }
  Superblock superblock;
  superblock.format_version = on_disk.format_version;
  superblock.incompatible_features = on_disk.incompatible_features;
  superblock.compatible_features = on_disk.compatible_features;
  superblock.extent_count = on_disk.extent_count;
  std::copy(std::begin(on_disk.pool_id), std::end(on_disk.pool_id),
            superblock.pool_id.bytes.begin());
  return superblock;
}

absl::StatusOr<Mark> DecodeMark(std::span<const std::byte> block) {
  if (std::all_of(block.begin(), block.end(), [](std::byte b) { return b == std::byte{0}; })) {
    return absl::NotFoundError("no mark has been written");
  }
  MarkOnDisk on_disk{};
  std::memcpy(&on_disk, block.data(), sizeof on_disk);
  if (on_disk.magic != kMarkMagic || on_disk.crc32c != BlockCrc<MarkOnDisk>(block)) {
    return absl::DataLossError("the mark is damaged");
  }
  Mark mark;
  std::copy(std::begin(on_disk.pool_id), std::end(on_disk.pool_id), mark.pool_id.bytes.begin());
  mark.stamp = on_disk.stamp;
  return mark;
}

}  // namespace keelson::pool
