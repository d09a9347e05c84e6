#pragma once
// The numbers of the NBD protocol (fixed newstyle, structured replies, base:allocation), named
// after https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, and the limits this
// server sets within it. All integers on the wire are big-endian. Constants only.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace keelson::frontend::nbd {

// --- handshake ---------------------------------------------------------------------------------
inline constexpr std::uint64_t kGreetingMagic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;    // "IHAVEOPT"
inline constexpr std::uint64_t kOptionReplyMagic = 0x0003e889045565a9;

inline constexpr std::uint16_t kHandshakeFixedNewstyle = 1 << 0;
inline constexpr std::uint16_t kHandshakeNoZeroes = 1 << 1;
inline constexpr std::uint32_t kClientFixedNewstyle = 1 << 0;
inline constexpr std::uint32_t kClientNoZeroes = 1 << 1;

enum class Option : std::uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
};

enum class OptionReply : std::uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kErrUnsupported = (1u << 31) + 1,
  kErrPolicy = (1u << 31) + 2,
  kErrInvalid = (1u << 31) + 3,
  kErrUnknown = (1u << 31) + 6,
  kErrTooBig = (1u << 31) + 9,
};

inline constexpr std::uint16_t kInfoExport = 0;
inline constexpr std::uint16_t kInfoName = 1;
inline constexpr std::uint16_t kInfoDescription = 2;
inline constexpr std::uint16_t kInfoBlockSize = 3;

inline constexpr std::size_t kOptionHeaderBytes = 16;
inline constexpr std::size_t kExportNamePaddingBytes = 124;
inline constexpr std::size_t kOptionPayloadBytesMax = std::size_t{64} << 10;
inline constexpr std::size_t kNameBytesMax = 4096;  // the protocol's own limit for any string

inline constexpr std::string_view kAllocationContext = "base:allocation";
inline constexpr std::uint32_t kAllocationContextId = 1;

// --- transmission ------------------------------------------------------------------------------
inline constexpr std::uint16_t kFlagHasFlags = 1 << 0;
inline constexpr std::uint16_t kFlagReadOnly = 1 << 1;
inline constexpr std::uint16_t kFlagSendFlush = 1 << 2;
inline constexpr std::uint16_t kFlagSendFua = 1 << 3;
inline constexpr std::uint16_t kFlagSendTrim = 1 << 5;
inline constexpr std::uint16_t kFlagSendWriteZeroes = 1 << 6;
inline constexpr std::uint16_t kFlagSendDf = 1 << 7;
inline constexpr std::uint16_t kFlagCanMultiConn = 1 << 8;
inline constexpr std::uint16_t kFlagSendCache = 1 << 10;
inline constexpr std::uint16_t kFlagSendFastZero = 1 << 11;

inline constexpr std::uint32_t kRequestMagic = 0x25609513;
inline constexpr std::uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr std::uint32_t kStructuredReplyMagic = 0x668e33ef;

enum class Command : std::uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};
inline constexpr std::size_t kCommandCount = 8;

inline constexpr std::uint16_t kCommandFua = 1 << 0;
inline constexpr std::uint16_t kCommandNoHole = 1 << 1;
inline constexpr std::uint16_t kCommandDf = 1 << 2;
inline constexpr std::uint16_t kCommandReqOne = 1 << 3;
inline constexpr std::uint16_t kCommandFastZero = 1 << 4;

enum class Chunk : std::uint16_t {
  kNone = 0,
  kOffsetData = 1,
  kBlockStatus = 5,
  kError = (1 << 15) + 1,
  kErrorOffset = (1 << 15) + 2,
};
inline constexpr std::uint16_t kChunkDone = 1 << 0;

inline constexpr std::uint32_t kStateHole = 1 << 0;
inline constexpr std::uint32_t kStateZero = 1 << 1;

inline constexpr std::size_t kRequestBytes = 28;
inline constexpr std::size_t kSimpleReplyBytes = 16;
inline constexpr std::size_t kChunkHeaderBytes = 20;

enum class Error : std::uint32_t {
  kNone = 0,
  kPerm = 1,
  kIo = 5,
  kNoMem = 12,
  kInval = 22,
  kNoSpc = 28,
  kOverflow = 75,
  kNotSup = 95,
  kShutdown = 108,
};

// What we advertise as NBD_INFO_BLOCK_SIZE. A block is the unit of copy and presence everywhere
// below, so 4 KiB is both the least and the best size: nothing smaller works, nothing larger saves
// a read-modify-write. 32 MiB is the largest payload that every client may assume.
inline constexpr std::uint32_t kBlockBytesMin = 4096;
inline constexpr std::uint32_t kBlockBytesPreferred = 4096;
inline constexpr std::uint32_t kPayloadBytesMax = 32u << 20;
// The largest piece that is read, written or received at once: one buffer of the pool. Also the
// largest read with DF that is answered (the protocol asks for 64 KiB at least).
inline constexpr std::uint32_t kPieceBytesMax = 1u << 20;

}  // namespace keelson::frontend::nbd
