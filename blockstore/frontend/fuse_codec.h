#pragma once
// The bytes of FUSE requests and answers, without I/O: a parser of what one read of /dev/fuse gave,
// and encoders of the answers of a file system that is one file. Pure functions; nothing allocates.
// The kernel is on the other side, and is trusted no more than any peer: every length is checked.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "blockstore/frontend/fuse_protocol.h"

namespace keelson::frontend {

enum class FuseCommand : std::uint8_t {
  kInit,
  kGetAttr,
  kOpen,
  kRead,
  kWrite,
  kFsync,
  kFallocate,
  kStatFs,
  kRelease,
  kForget,  // has no answer
  kDestroy,
  kUnsupported,  // answered with ENOSYS, after which the kernel does not ask again
  kMalformed,    // answered with EINVAL
};
inline constexpr std::size_t kFuseCommandCount = 13;

struct FuseRequestHeader {
  FuseCommand command = FuseCommand::kUnsupported;
  std::uint32_t opcode = 0;  // as the kernel said
  std::uint64_t unique = 0;
  std::uint64_t offset = 0;     // kRead, kWrite, kFallocate
  std::uint64_t length = 0;     // the same
  std::uint32_t flags = 0;      // open(2) flags (kOpen, kWrite), or fallocate(2) mode
  std::uint32_t minor = 0;      // kInit: of the kernel's protocol
  bool kernel_resends = false;  // kInit
};

// `head` is the first kHeadBytes of a request of `size_bytes`, or all of it if it is shorter.
// nullopt: not even a header; there is nobody to answer.
std::optional<FuseRequestHeader> ParseFuseRequest(std::span<const std::byte> head,
                                                  std::size_t size_bytes);

// What requests are judged by.
struct FuseFileRules {
  std::uint64_t size_bytes = 0;
  bool read_only = false;
};
// The errno that answers `request` without anything being done, or 0. A kRead that passes may reach
// over the end of the file; see ReadableBytes.
int CheckFuseRequest(const FuseRequestHeader& request, const FuseFileRules& rules);
// How much of a checked kRead is inside of the file.
std::uint64_t ReadableBytes(const FuseRequestHeader& request, std::uint64_t file_bytes);
// The errno for a failed call of the device.
int FuseErrorOf(const absl::Status& status);

// The whole of an answer without a payload of its own, or what precedes the data of a read.
struct FuseReply {
  std::array<std::byte, sizeof(fuse_out_header) + sizeof(fuse_attr_out)> bytes;
  std::size_t size_bytes = 0;
  std::span<const std::byte> span() const { return std::span(bytes).first(size_bytes); }
};
// `error` is a positive errno, or 0 for an answer without a body.
FuseReply EncodeFuseResult(std::uint64_t unique, int error);
// Of a read: `data_bytes` follow.
FuseReply EncodeFuseDataHeader(std::uint64_t unique, std::uint32_t data_bytes);
FuseReply EncodeFuseInit(const FuseRequestHeader& request);
FuseReply EncodeFuseAttributes(std::uint64_t unique, const FuseFileRules& file);
FuseReply EncodeFuseOpen(std::uint64_t unique);
FuseReply EncodeFuseStatFs(std::uint64_t unique, std::uint64_t file_bytes);
FuseReply EncodeFuseWritten(std::uint64_t unique, std::uint32_t written_bytes);
// Not an answer: asks the kernel to send again what was taken and not answered.
FuseReply EncodeFuseResend();

}  // namespace keelson::frontend
