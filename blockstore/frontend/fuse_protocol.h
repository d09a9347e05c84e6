#pragma once
// What is used of the kernel's FUSE protocol: <linux/fuse.h>, the few numbers that the header of
// the oldest distribution we build on lacks, and the limits that this server sets. All integers are
// in the machine's own order. Constants only.

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

namespace keelson::frontend::fuse {

// Linux 5.8, the first whose loop driver has LOOP_CONFIGURE, speaks 7.31.
inline constexpr std::uint32_t kMajor = 7;
inline constexpr std::uint32_t kMinorMin = 31;
inline constexpr std::uint32_t kMinor = 38;

// Linux 6.9: the kernel can be told to send again what was taken and not answered.
inline constexpr std::uint32_t kFlags2HasResend = 1u << (39 - 32);
inline constexpr std::int32_t kNotifyResend = 7;

// A volume is a file system whose root is the file itself.
inline constexpr std::uint64_t kRootNode = 1;

// What precedes the payload of a write, and is at least as long as all that is used of any other
// request.
inline constexpr std::size_t kHeadBytes = sizeof(fuse_in_header) + sizeof(fuse_write_in);
// The most data of one request. Larger ones of the block layer arrive in parts, at the same time.
inline constexpr std::uint32_t kPayloadBytesMax = 256u << 10;
inline constexpr std::uint16_t kPayloadPagesMax = kPayloadBytesMax / 4096;
// How many requests the kernel has on their way to us; more wait in the loop driver.
inline constexpr std::uint16_t kBackgroundMax = 128;

}  // namespace keelson::frontend::fuse
