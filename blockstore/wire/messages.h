#pragma once
// The messages of the data protocol as values, their encoding into frames, and their reading from
// what a peer sent. Pure functions; any thread. Reading checks everything that can be checked
// without knowing the replica: sizes, alignment, reserved bits, counts, the consistency of a
// message with its data. INVALID_ARGUMENT says what the peer did wrong.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/pool/ids.h"
#include "blockstore/replica/configuration.h"
#include "blockstore/replica/replica_port.h"
#include "blockstore/wire/frame.h"

namespace keelson::wire {

struct PrepareRequest {
  pool::PoolId pool;
  pool::ReplicaId replica;
  bool operator==(const PrepareRequest&) const = default;
};
struct AcceptRequest {
  replica::Configuration configuration;
  bool operator==(const AcceptRequest&) const = default;
};
struct HeartbeatRequest {};
struct ReadRequest {
  std::uint64_t offset = 0;
  std::uint32_t size_bytes = 0;
  bool operator==(const ReadRequest&) const = default;
};
struct WriteRequest {  // as much as the frame has data
  std::uint64_t offset = 0;
  pool::Generation generation;
  bool operator==(const WriteRequest&) const = default;
};
struct TrimRequest {
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  pool::Generation generation;
  bool operator==(const TrimRequest&) const = default;
};
struct MapRequest {
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  std::uint32_t runs_max = 0;  // 1 .. kRunsPerAnswerMax
  bool operator==(const MapRequest&) const = default;
};
struct FlushRequest {};
struct EndGenerationRequest {
  pool::Generation generation;
  bool operator==(const EndGenerationRequest&) const = default;
};
struct NotesRequest {
  pool::Generation above;
  std::uint32_t first_region = 0;
  std::uint32_t count_max = 0;  // 1 .. kNotesPerAnswerMax
  bool operator==(const NotesRequest&) const = default;
};
struct ReadCopyRequest {
  pool::SnapshotId layer;
  std::uint32_t extent = 0;
  bool operator==(const ReadCopyRequest&) const = default;
};
struct BeginCopyRequest {
  pool::SnapshotId layer;
  std::uint32_t region = 0;
  pool::Generation generation;
  bool operator==(const BeginCopyRequest&) const = default;
};
struct WriteCopyRequest {  // the data blocks are the frame's data
  pool::SnapshotId layer;
  std::uint32_t extent = 0;
  replica::ExtentContent content;
};
struct RecordProgressRequest {
  replica::ResyncProgress progress;
  bool operator==(const RecordProgressRequest&) const = default;
};
struct VerifyRequest {  // the blocks offered are the frame's data
  pool::SnapshotId layer;
  std::uint32_t extent = 0;
  pool::BlockBits offered;
};
struct CancelRequest {
  std::uint64_t request_id = 0;
  bool operator==(const CancelRequest&) const = default;
};

// --- Encoding. `head.type` and `head.answer` are set here. ---

void Encode(FrameHead head, const PrepareRequest& request, EncodedFrame* out);
// INVALID_ARGUMENT: it is larger than a message may be.
absl::Status Encode(FrameHead head, const AcceptRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const HeartbeatRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const ReadRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const WriteRequest& request, std::span<const std::byte> data,
            EncodedFrame* out);
void Encode(FrameHead head, const TrimRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const MapRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const FlushRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const EndGenerationRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const NotesRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const ReadCopyRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const BeginCopyRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const WriteCopyRequest& request, std::span<const std::byte> packed,
            EncodedFrame* out);
void Encode(FrameHead head, const RecordProgressRequest& request, EncodedFrame* out);
void Encode(FrameHead head, const VerifyRequest& request, std::span<const std::byte> packed,
            EncodedFrame* out);
void Encode(FrameHead head, const CancelRequest& request, EncodedFrame* out);
void EncodeBye(FrameHead head, std::string_view reason, EncodedFrame* out);

// Answers to the request that `head.type` and `head.request_id` name. A result that is not OK goes
// out by EncodeAnswer for every type, as does the OK of those that have no result.
void EncodeAnswer(FrameHead head, const absl::Status& status, EncodedFrame* out);
void EncodeAnswer(FrameHead head, const replica::PrepareAnswer& answer, EncodedFrame* out);
void EncodeAnswer(FrameHead head, const std::vector<replica::DataRun>& runs, EncodedFrame* out);
void EncodeAnswer(FrameHead head, const std::vector<replica::RegionNote>& notes, EncodedFrame* out);
void EncodeAnswer(FrameHead head, const replica::ExtentContent& content,
                  std::span<const std::byte> packed, EncodedFrame* out);
void EncodeAnswer(FrameHead head, const replica::VerifyAnswer& answer, EncodedFrame* out);
void EncodeReadAnswer(FrameHead head, std::span<const std::byte> data, EncodedFrame* out);

// --- Reading. `data_bytes` is the header's. ---

using Message = std::span<const std::byte>;

absl::Status Parse(Message message, PrepareRequest* out);
absl::Status Parse(Message message, AcceptRequest* out);
absl::Status Parse(Message message, HeartbeatRequest* out);
absl::Status Parse(Message message, ReadRequest* out);
absl::Status Parse(Message message, std::size_t data_bytes, WriteRequest* out);
absl::Status Parse(Message message, TrimRequest* out);
absl::Status Parse(Message message, MapRequest* out);
absl::Status Parse(Message message, FlushRequest* out);
absl::Status Parse(Message message, EndGenerationRequest* out);
absl::Status Parse(Message message, NotesRequest* out);
absl::Status Parse(Message message, ReadCopyRequest* out);
absl::Status Parse(Message message, BeginCopyRequest* out);
absl::Status Parse(Message message, std::size_t data_bytes, WriteCopyRequest* out);
absl::Status Parse(Message message, RecordProgressRequest* out);
absl::Status Parse(Message message, std::size_t data_bytes, VerifyRequest* out);
absl::Status Parse(Message message, CancelRequest* out);
// Printable, whatever the peer sent.
std::string ByeReason(Message message);

// The member's own status of the call, and where its result begins.
struct AnswerParts {
  absl::Status status;
  Message result;  // empty unless the status is OK
};
absl::StatusOr<AnswerParts> ParseAnswer(Message message);

absl::Status ParseResult(Message result, replica::PrepareAnswer* out);
absl::Status ParseResult(Message result, std::vector<replica::DataRun>* out);
absl::Status ParseResult(Message result, std::vector<replica::RegionNote>* out);
absl::Status ParseResult(Message result, std::size_t data_bytes, replica::ExtentContent* out);
absl::Status ParseResult(Message result, replica::VerifyAnswer* out);

}  // namespace keelson::wire
