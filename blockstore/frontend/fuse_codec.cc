#include "blockstore/frontend/fuse_codec.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "blockstore/engine/block_device.h"
#include "blockstore/io/status.h"

namespace keelson::frontend {
namespace {

using engine::kBlockSize;

// The argument behind the header, or false when the request is too short for it.
template <typename T>
bool Argument(std::span<const std::byte> head, std::size_t at, T* out) {
  if (head.size() < at + sizeof(T)) return false;
  std::memcpy(out, head.data() + at, sizeof(T));
  return true;
}

// The kernel's fuse_init_in has grown; these are the parts of it that are used.
struct InitArguments {
  std::uint32_t major;
  std::uint32_t minor;
  std::uint32_t max_readahead;
  std::uint32_t flags;
};

bool ParseInit(std::span<const std::byte> head, FuseRequestHeader* request) {
  InitArguments init;
  constexpr std::size_t kAt = sizeof(fuse_in_header);
  if (!Argument(head, kAt, &init)) return false;
  request->minor = init.major == fuse::kMajor ? init.minor : 0;
  std::uint32_t flags2 = 0;
  if ((init.flags & FUSE_INIT_EXT) != 0 && !Argument(head, kAt + sizeof(init), &flags2)) {
    return false;
  }
  request->kernel_resends = (flags2 & fuse::kFlags2HasResend) != 0;
  return true;
}

bool ParseArguments(std::span<const std::byte> head, std::size_t size_bytes,
                    FuseRequestHeader* request) {
  constexpr std::size_t kAt = sizeof(fuse_in_header);
  switch (request->command) {
    case FuseCommand::kInit:
      return ParseInit(head, request);
    case FuseCommand::kOpen: {
      fuse_open_in open;
      if (!Argument(head, kAt, &open)) return false;
      request->flags = open.flags;
      return true;
    }
    case FuseCommand::kRead: {
      fuse_read_in read;
      if (!Argument(head, kAt, &read)) return false;
      request->offset = read.offset;
      request->length = read.size;
      return true;
    }
    case FuseCommand::kWrite: {
      fuse_write_in write;
      if (!Argument(head, kAt, &write)) return false;
      request->offset = write.offset;
      request->length = write.size;
      request->flags = write.flags;
      return write.size == size_bytes - fuse::kHeadBytes;
    }
    case FuseCommand::kFallocate: {
      fuse_fallocate_in fallocate;
      if (!Argument(head, kAt, &fallocate)) return false;
      request->offset = fallocate.offset;
      request->length = fallocate.length;
      request->flags = fallocate.mode;
      return true;
    }
    default:
      return true;
  }
}

FuseCommand CommandOf(std::uint32_t opcode) {
  switch (opcode) {
    case FUSE_INIT:
      return FuseCommand::kInit;
    case FUSE_GETATTR:
      return FuseCommand::kGetAttr;
    case FUSE_OPEN:
      return FuseCommand::kOpen;
    case FUSE_READ:
      return FuseCommand::kRead;
    case FUSE_WRITE:
      return FuseCommand::kWrite;
    case FUSE_FSYNC:
      return FuseCommand::kFsync;
    case FUSE_FALLOCATE:
      return FuseCommand::kFallocate;
    case FUSE_STATFS:
      return FuseCommand::kStatFs;
    case FUSE_RELEASE:
      return FuseCommand::kRelease;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
      return FuseCommand::kForget;
    case FUSE_DESTROY:
      return FuseCommand::kDestroy;
    default:
      return FuseCommand::kUnsupported;
  }
}

template <typename Body>
FuseReply Encode(std::uint64_t unique, const Body& body) {
  FuseReply reply;
  static_assert(sizeof(fuse_out_header) + sizeof(Body) <= sizeof(reply.bytes));
  reply.size_bytes = sizeof(fuse_out_header) + sizeof(Body);
  const fuse_out_header header = {static_cast<std::uint32_t>(reply.size_bytes), 0, unique};
  std::memcpy(reply.bytes.data(), &header, sizeof(header));
  std::memcpy(reply.bytes.data() + sizeof(header), &body, sizeof(body));
  return reply;
}

FuseReply EncodeHeader(const fuse_out_header& header) {
  FuseReply reply;
  reply.size_bytes = sizeof(header);
  std::memcpy(reply.bytes.data(), &header, sizeof(header));
  return reply;
}

bool Aligned(const FuseRequestHeader& request) {
  return request.offset % kBlockSize == 0 && request.length % kBlockSize == 0;
}

bool Inside(const FuseRequestHeader& request, std::uint64_t size_bytes) {
  return request.length <= size_bytes && request.offset <= size_bytes - request.length;
}

int CheckWrite(const FuseRequestHeader& request, const FuseFileRules& rules) {
  if (rules.read_only) return EROFS;
  if (request.length == 0 || request.length > fuse::kPayloadBytesMax || !Aligned(request)) {
    return EINVAL;
  }
  return Inside(request, rules.size_bytes) ? 0 : ENOSPC;
}

int CheckFallocate(const FuseRequestHeader& request, const FuseFileRules& rules) {
  // Both make the range read as zeroes. Reserving space is nothing that a thin volume does.
  constexpr std::uint32_t kZeroes = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  if ((request.flags & kZeroes) == 0) return EOPNOTSUPP;
  if ((request.flags & ~(kZeroes | FALLOC_FL_KEEP_SIZE)) != 0) return EOPNOTSUPP;
  if (rules.read_only) return EROFS;
  if (request.length == 0 || !Aligned(request)) return EINVAL;
  return Inside(request, rules.size_bytes) ? 0 : ENOSPC;
}

}  // namespace

std::optional<FuseRequestHeader> ParseFuseRequest(std::span<const std::byte> head,
                                                  std::size_t size_bytes) {
  fuse_in_header header;
  if (!Argument(head, 0, &header)) return std::nullopt;
  FuseRequestHeader request;
  request.opcode = header.opcode;
  request.unique = header.unique;
  request.command = CommandOf(header.opcode);
  const bool sound = header.len == size_bytes && ParseArguments(head, size_bytes, &request);
  // A forget is never answered, whatever it says.
  if (!sound && request.command != FuseCommand::kForget) request.command = FuseCommand::kMalformed;
  return request;
}

int CheckFuseRequest(const FuseRequestHeader& request, const FuseFileRules& rules) {
  switch (request.command) {
    case FuseCommand::kInit:
      return request.minor >= fuse::kMinorMin ? 0 : EPROTO;
    case FuseCommand::kOpen:
      return rules.read_only && (request.flags & O_ACCMODE) != O_RDONLY ? EROFS : 0;
    case FuseCommand::kRead:
      return request.length > fuse::kPayloadBytesMax || !Aligned(request) ? EINVAL : 0;
    case FuseCommand::kWrite:
      return CheckWrite(request, rules);
    case FuseCommand::kFallocate:
      return CheckFallocate(request, rules);
    case FuseCommand::kUnsupported:
      return ENOSYS;
    case FuseCommand::kMalformed:
      return EINVAL;
    case FuseCommand::kGetAttr:
    case FuseCommand::kFsync:
    case FuseCommand::kStatFs:
    case FuseCommand::kRelease:
    case FuseCommand::kForget:
    case FuseCommand::kDestroy:
      return 0;
  }
  return EINVAL;
}

std::uint64_t ReadableBytes(const FuseRequestHeader& request, std::uint64_t file_bytes) {
  if (request.offset >= file_bytes) return 0;
  return std::min(request.length, file_bytes - request.offset);
}

int FuseErrorOf(const absl::Status& status) {
  const int error = io::StatusErrno(status);
  // For the user of a block device there is no such thing as a server that shuts down.
  return error == ESHUTDOWN ? EIO : error;
}

FuseReply EncodeFuseResult(std::uint64_t unique, int error) {
  return EncodeHeader({sizeof(fuse_out_header), -error, unique});
}

FuseReply EncodeFuseDataHeader(std::uint64_t unique, std::uint32_t data_bytes) {
  const auto length = static_cast<std::uint32_t>(sizeof(fuse_out_header) + data_bytes);
  return EncodeHeader({length, 0, unique});
}

FuseReply EncodeFuseInit(const FuseRequestHeader& request) {
  fuse_init_out init = {};
  init.major = fuse::kMajor;
  init.minor = std::min(request.minor, fuse::kMinor);
  init.flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES | FUSE_INIT_EXT;
  init.flags2 = request.kernel_resends ? fuse::kFlags2HasResend : 0;
  init.max_background = fuse::kBackgroundMax;
  init.congestion_threshold = fuse::kBackgroundMax;
  init.max_write = fuse::kPayloadBytesMax;
  init.max_pages = fuse::kPayloadPagesMax;
  init.time_gran = 1;
  return Encode(request.unique, init);
}

FuseReply EncodeFuseAttributes(std::uint64_t unique, const FuseFileRules& file) {
  fuse_attr_out out = {};  // no validity: whoever asks gets the size of now
  out.attr.ino = fuse::kRootNode;
  out.attr.size = file.size_bytes;
  out.attr.blocks = file.size_bytes / 512;
  out.attr.mode = S_IFREG | (file.read_only ? S_IRUSR : S_IRUSR | S_IWUSR);
  out.attr.nlink = 1;
  out.attr.blksize = kBlockSize;
  return Encode(unique, out);
}

FuseReply EncodeFuseOpen(std::uint64_t unique) {
  fuse_open_out open = {};
  // No page of the volume is cached below the block device. NOFLUSH: a close asks for nothing, so
  // nobody who ends waits for us.
  open.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH;
  return Encode(unique, open);
}

FuseReply EncodeFuseStatFs(std::uint64_t unique, std::uint64_t file_bytes) {
  fuse_statfs_out out = {};
  out.st.bsize = kBlockSize;  // the loop driver's granularity of discards
  out.st.frsize = kBlockSize;
  out.st.blocks = file_bytes / kBlockSize;
  out.st.files = 1;
  out.st.namelen = 255;
  return Encode(unique, out);
}

FuseReply EncodeFuseWritten(std::uint64_t unique, std::uint32_t written_bytes) {
  fuse_write_out out = {};
  out.size = written_bytes;
  return Encode(unique, out);
}

FuseReply EncodeFuseResend() {
  return EncodeHeader({sizeof(fuse_out_header), fuse::kNotifyResend, 0});
}

}  // namespace keelson::frontend
