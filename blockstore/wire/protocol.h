#pragma once
// The numbers and the layouts of the data protocol between an engine and the member of a segment
// (docs/protocol.md): what lies on the wire, little-endian. Nothing here does anything; hello.h,
// frame.h and messages.h read and write it.
//
// A connection begins with one Hello from each side, the engine's first. Its layout is the same in
// every version. Then frames: a header, a *message* (small, structured, by the frame's type) and
// *data* (whole blocks, for the types that carry any). Requests are pipelined; each has one
// answer, of the same type and request id, in any order. One connection carries one session.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace keelson::wire {

static_assert(std::endian::native == std::endian::little, "the layouts are little-endian");

inline constexpr std::uint16_t kVersionMin = 1;
inline constexpr std::uint16_t kVersionMax = 1;

// Features of a connection. A side offers what it can do and names what it insists on; what both
// offer is in use. With kFeatureTls in use the engine begins a TLS handshake right after the hellos
// and everything else travels inside it; this version does not offer it.
inline constexpr std::uint64_t kFeatureTls = std::uint64_t{1} << 0;
inline constexpr std::uint64_t kFeaturesKnown = 0;

// Bounds, checked before anything is allocated or received.
inline constexpr std::size_t kHelloTextBytesMax = 1024;
inline constexpr std::size_t kMessageBytesMax = std::size_t{4} << 20;
inline constexpr std::size_t kDataBytesMax = std::size_t{1} << 20;  // larger calls are split
inline constexpr std::size_t kStatusTextBytesMax = 4096;

enum class Role : std::uint16_t { kEngine = 1, kReplica = 2 };

// 64 bytes, then `text_bytes` of text.
struct RawHello {
  std::uint64_t magic;
  std::uint16_t version_min;
  std::uint16_t version_max;
  std::uint16_t version_chosen;  // by the replica; 0: refused, and the text says why
  std::uint16_t role;
  std::uint64_t features_offered;
  std::uint64_t features_required;
  std::uint32_t text_bytes;
  std::uint32_t text_crc32c;
  // Not checked: a later version may use it, and is told apart by its number and its features.
  std::uint8_t reserved[20];
  std::uint32_t crc32c;  // of the bytes before
};
static_assert(sizeof(RawHello) == 64);
static_assert(offsetof(RawHello, features_offered) == 16);
static_assert(offsetof(RawHello, text_bytes) == 32);
static_assert(offsetof(RawHello, crc32c) == 60);
static_assert(std::is_trivially_copyable_v<RawHello>);
inline constexpr std::uint64_t kHelloMagic = 0x454c4c45484c454bULL;  // "KELHELLE"

// ReplicaPort's calls, and two of the connection. The numbers never change their meaning.
enum class FrameType : std::uint16_t {
  kPrepare = 1,
  kAccept = 2,
  kHeartbeat = 3,
  kRead = 4,
  kWrite = 5,
  kTrim = 6,
  kMap = 7,
  kFlush = 8,
  kEndGeneration = 9,
  kNotes = 10,
  kReadCopy = 11,
  kBeginCopy = 12,
  kWriteCopy = 13,
  kRecordProgress = 14,
  // The engine no longer wants an answer soon: a request that has not begun is answered CANCELLED.
  // Has no answer of its own.
  kCancel = 15,
  // The sender ends the connection; the message is a sentence that says why. Has no answer.
  kBye = 16,
  kVerify = 17,
};
inline constexpr std::uint16_t kFrameTypeMax = 17;

inline constexpr std::uint16_t kFlagAnswer = 1 << 0;
// In an answer: the session has ended at the member.
inline constexpr std::uint16_t kFlagSessionEnded = 1 << 1;
// In an answer: ReplicaPort::wants_new_generation.
inline constexpr std::uint16_t kFlagWantsNewGeneration = 1 << 2;
inline constexpr std::uint16_t kFlagsKnown =
    kFlagAnswer | kFlagSessionEnded | kFlagWantsNewGeneration;

struct RawFrameHeader {
  std::uint32_t magic;
  std::uint16_t type;
  std::uint16_t flags;
  std::uint64_t request_id;  // the engine's; of Bye 0
  // The session's epoch, in a Prepare the one that is asked for.
  std::uint64_t attachment;
  std::uint32_t restart;
  std::uint32_t message_bytes;
  std::uint32_t data_bytes;
  std::uint32_t message_crc32c;
  std::uint32_t data_crc32c;
  std::uint32_t reserved;  // 0
  std::uint8_t engine[16];
  std::uint8_t incarnation[16];  // of the pool, as the session knows it; nil in a Prepare
  std::uint32_t reserved_2;      // 0
  std::uint32_t crc32c;          // of the bytes before
};
static_assert(sizeof(RawFrameHeader) == 88);
static_assert(offsetof(RawFrameHeader, attachment) == 16);
static_assert(offsetof(RawFrameHeader, engine) == 48);
static_assert(offsetof(RawFrameHeader, incarnation) == 64);
static_assert(offsetof(RawFrameHeader, crc32c) == 84);
static_assert(std::is_trivially_copyable_v<RawFrameHeader>);
inline constexpr std::uint32_t kFrameMagic = 0x4d52464bU;  // "KFRM"

// --- Messages of requests. Heartbeat and Flush have none; Accept's is a ConfigurationRecord
// (records.proto); Bye's is text. Reserved fields are 0 and checked. ---

struct RawGeneration {
  std::uint64_t attachment;
  std::uint64_t counter;
  std::uint32_t restart;
  std::uint32_t reserved;
  std::uint8_t engine[16];
};
static_assert(sizeof(RawGeneration) == 40);
static_assert(offsetof(RawGeneration, engine) == 24);

struct RawPrepare {
  std::uint8_t pool[16];
  std::uint8_t replica[16];
};
static_assert(sizeof(RawPrepare) == 32);

struct RawRead {
  std::uint64_t offset;
  std::uint32_t size_bytes;
  std::uint32_t reserved;
};
static_assert(sizeof(RawRead) == 16);

struct RawWrite {  // with data
  std::uint64_t offset;
  RawGeneration generation;
};
static_assert(sizeof(RawWrite) == 48);

struct RawTrim {
  std::uint64_t offset;
  std::uint64_t size_bytes;
  RawGeneration generation;
};
static_assert(sizeof(RawTrim) == 56);

struct RawMap {
  std::uint64_t offset;
  std::uint64_t size_bytes;
  std::uint32_t runs_max;
  std::uint32_t reserved;
};
static_assert(sizeof(RawMap) == 24);

struct RawEndGeneration {
  RawGeneration generation;
};
static_assert(sizeof(RawEndGeneration) == 40);

struct RawNotes {
  RawGeneration above;
  std::uint32_t first_region;
  std::uint32_t count_max;
};
static_assert(sizeof(RawNotes) == 48);

struct RawReadCopy {
  std::uint8_t layer[16];
  std::uint32_t extent;
  std::uint32_t reserved;
};
static_assert(sizeof(RawReadCopy) == 24);

struct RawBeginCopy {
  std::uint8_t layer[16];
  RawGeneration generation;
  std::uint32_t region;
  std::uint32_t reserved;
};
static_assert(sizeof(RawBeginCopy) == 64);

struct RawExtentContent {
  std::uint64_t data[4];
  std::uint64_t zeroed[4];
};
static_assert(sizeof(RawExtentContent) == 64);

struct RawWriteCopy {  // with data
  std::uint8_t layer[16];
  RawExtentContent content;
  std::uint32_t extent;
  std::uint32_t reserved;
};
static_assert(sizeof(RawWriteCopy) == 88);

struct RawProgress {
  RawGeneration generation;
  std::uint32_t position;
  std::uint32_t reserved;
};
static_assert(sizeof(RawProgress) == 48);

struct RawVerify {  // with data
  std::uint8_t layer[16];
  std::uint64_t offered[4];
  std::uint32_t extent;
  std::uint32_t reserved;
};
static_assert(sizeof(RawVerify) == 56);

struct RawCancel {
  std::uint64_t request_id;
};
static_assert(sizeof(RawCancel) == 8);

// --- Messages of answers: RawStatus, the text of the error, then the result when the code is OK.
// Read's and ReadCopy's blocks are the frame's data. ---

struct RawStatus {
  std::uint32_t code;  // absl::StatusCode
  std::uint32_t text_bytes;
};
static_assert(sizeof(RawStatus) == 8);

struct RawPrepareResult {  // then the bytes of a ConfigurationRecord, when there is one
  std::uint8_t pool[16];
  std::uint8_t replica[16];
  std::uint8_t incarnation[16];
  RawProgress progress;
  std::uint32_t has_configuration;
  std::uint32_t ended_session;
};
static_assert(sizeof(RawPrepareResult) == 104);

struct RawDataRun {  // any number
  std::uint64_t size_bytes;
  std::uint32_t hole;
  std::uint32_t reserved;
};
static_assert(sizeof(RawDataRun) == 16);

struct RawRegionNote {  // any number
  std::uint8_t layer[16];
  RawGeneration generation;
  std::uint32_t region;
  std::uint32_t reserved;
};
static_assert(sizeof(RawRegionNote) == 64);

struct RawVerifyResult {
  RawExtentContent content;
  std::uint64_t bad[4];
  std::uint64_t mended[4];
  std::uint32_t crc32c[256];
};
static_assert(sizeof(RawVerifyResult) == 1152);

// What one answer may hold; a member that is asked for more answers less.
inline constexpr std::size_t kRunsPerAnswerMax = 65'000;
inline constexpr std::size_t kNotesPerAnswerMax = 60'000;  // and the rest of the last region
static_assert(sizeof(RawStatus) + kRunsPerAnswerMax * sizeof(RawDataRun) <= kMessageBytesMax);
static_assert(sizeof(RawStatus) + (kNotesPerAnswerMax + 1001) * sizeof(RawRegionNote) <=
              kMessageBytesMax);

}  // namespace keelson::wire
