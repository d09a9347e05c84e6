// The reading half of messages.h; encode.cc is the other.
#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/wire/messages.h"
#include "blockstore/wire/raw.h"

namespace keelson::wire {
namespace {

constexpr std::uint32_t kStatusCodeMax =
    static_cast<std::uint32_t>(absl::StatusCode::kUnauthenticated);

absl::Status Bad(std::string_view what) { return absl::InvalidArgumentError(std::string(what)); }

template <typename Raw>
absl::Status Load(Message message, FrameType type, Raw* raw) {
  if (message.size() != sizeof(Raw)) {
    return absl::InvalidArgumentError(absl::StrCat("the message of a ",
                                                   std::string(FrameTypeName(type)), " frame has ",
                                                   message.size(), " bytes and not ", sizeof(Raw)));
  }
  *raw = LoadRaw<Raw>(message.data());
  return absl::OkStatus();
}

absl::Status LoadNothing(Message message, FrameType type) {
  if (message.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("a ", std::string(FrameTypeName(type)),
                                                 " frame has a message of ", message.size(),
                                                 " bytes"));
}

// Whole blocks, at least one, that end where a 63-bit offset still reaches.
absl::Status CheckRange(FrameType type, std::uint64_t offset, std::uint64_t size_bytes) {
  constexpr std::uint64_t kEndMax = std::uint64_t{1} << 63;
  if (size_bytes > 0 && offset % pool::kBlockBytes == 0 && size_bytes % pool::kBlockBytes == 0 &&
      offset < kEndMax && size_bytes <= kEndMax - offset) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("a ", std::string(FrameTypeName(type)), " of ",
                                                 size_bytes, " bytes at ", offset,
                                                 " is not one of whole blocks"));
}

absl::Status CheckReserved(FrameType type, std::uint64_t reserved) {
  if (reserved == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("a ", std::string(FrameTypeName(type)),
                                                 " frame uses reserved bits of its message"));
}

absl::Status CheckContent(const replica::ExtentContent& content, std::size_t data_bytes) {
  if ((content.data & content.zeroed).Any()) {
    return Bad("an extent has blocks that are both data and zeroed");
  }
  if (data_bytes != content.data.Count() * pool::kBlockBytes) {
    return absl::InvalidArgumentError(absl::StrCat("an extent of ", content.data.Count(),
                                                   " data blocks came with ", data_bytes,
                                                   " bytes of data"));
  }
  return absl::OkStatus();
}

absl::StatusOr<replica::Configuration> ParseConfigurationBytes(Message bytes) {
  return replica::ParseConfiguration({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace

absl::Status Parse(Message message, PrepareRequest* out) {
  RawPrepare raw;
  RETURN_IF_ERROR(Load(message, FrameType::kPrepare, &raw));
  out->pool = pool::PoolId(LoadUuid(raw.pool));
  out->replica = pool::ReplicaId(LoadUuid(raw.replica));
  return absl::OkStatus();
}

absl::Status Parse(Message message, AcceptRequest* out) {
  ASSIGN_OR_RETURN(out->configuration, ParseConfigurationBytes(message));
  return absl::OkStatus();
}

absl::Status Parse(Message message, HeartbeatRequest* /*out*/) {
  return LoadNothing(message, FrameType::kHeartbeat);
}

absl::Status Parse(Message message, ReadRequest* out) {
  RawRead raw;
  RETURN_IF_ERROR(Load(message, FrameType::kRead, &raw));
  RETURN_IF_ERROR(CheckReserved(FrameType::kRead, raw.reserved));
  RETURN_IF_ERROR(CheckRange(FrameType::kRead, raw.offset, raw.size_bytes));
  if (raw.size_bytes > kDataBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a Read of ", raw.size_bytes, " bytes; the most is ", kDataBytesMax));
  }
  out->offset = raw.offset;
  out->size_bytes = raw.size_bytes;
  return absl::OkStatus();
}

absl::Status Parse(Message message, std::size_t data_bytes, WriteRequest* out) {
  RawWrite raw;
  RETURN_IF_ERROR(Load(message, FrameType::kWrite, &raw));
  RETURN_IF_ERROR(CheckReserved(FrameType::kWrite, raw.generation.reserved));
  RETURN_IF_ERROR(CheckRange(FrameType::kWrite, raw.offset, data_bytes));
  out->offset = raw.offset;
  out->generation = FromRaw(raw.generation);
  return absl::OkStatus();
}

absl::Status Parse(Message message, TrimRequest* out) {
  RawTrim raw;
  RETURN_IF_ERROR(Load(message, FrameType::kTrim, &raw));
  RETURN_IF_ERROR(CheckReserved(FrameType::kTrim, raw.generation.reserved));
  RETURN_IF_ERROR(CheckRange(FrameType::kTrim, raw.offset, raw.size_bytes));
  out->offset = raw.offset;
  out->size_bytes = raw.size_bytes;
  out->generation = FromRaw(raw.generation);
  return absl::OkStatus();
}

absl::Status Parse(Message message, MapRequest* out) {
  RawMap raw;
  RETURN_IF_ERROR(Load(message, FrameType::kMap, &raw));
  RETURN_IF_ERROR(CheckReserved(FrameType::kMap, raw.reserved));
  RETURN_IF_ERROR(CheckRange(FrameType::kMap, raw.offset, raw.size_bytes));
  if (raw.runs_max == 0 || raw.runs_max > kRunsPerAnswerMax) {
    return absl::InvalidArgumentError(absl::StrCat("a Map asks for ", raw.runs_max, " runs"));
  }
  out->offset = raw.offset;
  out->size_bytes = raw.size_bytes;
  out->runs_max = raw.runs_max;
  return absl::OkStatus();
}

absl::Status Parse(Message message, FlushRequest* /*out*/) {
  return LoadNothing(message, FrameType::kFlush);
}

absl::Status Parse(Message message, EndGenerationRequest* out) {
  RawEndGeneration raw;
  RETURN_IF_ERROR(Load(message, FrameType::kEndGeneration, &raw));
  RETURN_IF_ERROR(CheckReserved(FrameType::kEndGeneration, raw.generation.reserved));
  out->generation = FromRaw(raw.generation);
  return absl::OkStatus();
}

absl::Status Parse(Message message, NotesRequest* out) {
  RawNotes raw;
  RETURN_IF_ERROR(Load(message, FrameType::kNotes, &raw));
  RETURN_IF_ERROR(CheckReserved(FrameType::kNotes, raw.above.reserved));
  if (raw.count_max == 0 || raw.count_max > kNotesPerAnswerMax) {
    return absl::InvalidArgumentError(absl::StrCat("a Notes asks for ", raw.count_max, " notes"));
  }
  out->above = FromRaw(raw.above);
  out->first_region = raw.first_region;
  out->count_max = raw.count_max;
  return absl::OkStatus();
}

absl::Status Parse(Message message, ReadCopyRequest* out) {
  RawReadCopy raw;
  RETURN_IF_ERROR(Load(message, FrameType::kReadCopy, &raw));
  RETURN_IF_ERROR(CheckReserved(FrameType::kReadCopy, raw.reserved));
  out->layer = pool::SnapshotId(LoadUuid(raw.layer));
  out->extent = raw.extent;
  return absl::OkStatus();
}

absl::Status Parse(Message message, BeginCopyRequest* out) {
  RawBeginCopy raw;
  RETURN_IF_ERROR(Load(message, FrameType::kBeginCopy, &raw));
  RETURN_IF_ERROR(CheckReserved(FrameType::kBeginCopy, raw.reserved | raw.generation.reserved));
  out->layer = pool::SnapshotId(LoadUuid(raw.layer));
  out->region = raw.region;
  out->generation = FromRaw(raw.generation);
  return absl::OkStatus();
}

absl::Status Parse(Message message, std::size_t data_bytes, WriteCopyRequest* out) {
  RawWriteCopy raw;
  RETURN_IF_ERROR(Load(message, FrameType::kWriteCopy, &raw));
  RETURN_IF_ERROR(CheckReserved(FrameType::kWriteCopy, raw.reserved));
  out->layer = pool::SnapshotId(LoadUuid(raw.layer));
  out->extent = raw.extent;
  out->content = FromRaw(raw.content);
  return CheckContent(out->content, data_bytes);
}

absl::Status Parse(Message message, RecordProgressRequest* out) {
  RawProgress raw;
  RETURN_IF_ERROR(Load(message, FrameType::kRecordProgress, &raw));
  RETURN_IF_ERROR(
      CheckReserved(FrameType::kRecordProgress, raw.reserved | raw.generation.reserved));
  out->progress = FromRaw(raw);
  return absl::OkStatus();
}

absl::Status Parse(Message message, std::size_t data_bytes, VerifyRequest* out) {
  RawVerify raw;
  RETURN_IF_ERROR(Load(message, FrameType::kVerify, &raw));
  RETURN_IF_ERROR(CheckReserved(FrameType::kVerify, raw.reserved));
  out->layer = pool::SnapshotId(LoadUuid(raw.layer));
  out->extent = raw.extent;
  out->offered = LoadBits(raw.offered);
  if (data_bytes == out->offered.Count() * pool::kBlockBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("a Verify that offers ", out->offered.Count(),
                                                 " blocks came with ", data_bytes,
                                                 " bytes of data"));
}

absl::Status Parse(Message message, CancelRequest* out) {
  RawCancel raw;
  RETURN_IF_ERROR(Load(message, FrameType::kCancel, &raw));
  out->request_id = raw.request_id;
  return absl::OkStatus();
}

std::string ByeReason(Message message) {
  const std::size_t size = std::min(message.size(), kStatusTextBytesMax);
  return absl::CHexEscape(std::string(reinterpret_cast<const char*>(message.data()), size));
}

absl::StatusOr<AnswerParts> ParseAnswer(Message message) {
  if (message.size() < sizeof(RawStatus)) return Bad("an answer has no status");
  const auto raw = LoadRaw<RawStatus>(message.data());
  message = message.subspan(sizeof(RawStatus));
  if (raw.code > kStatusCodeMax) {
    return absl::InvalidArgumentError(absl::StrCat("there is no status code ", raw.code));
  }
  if (raw.text_bytes > kStatusTextBytesMax || raw.text_bytes > message.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("an answer announces a status text of ", raw.text_bytes, " bytes"));
  }
  const auto code = static_cast<absl::StatusCode>(raw.code);
  AnswerParts parts;
  if (code != absl::StatusCode::kOk) {
    if (raw.text_bytes != message.size()) return Bad("an answer with an error has a result");
    parts.status = absl::Status(
        code, std::string(reinterpret_cast<const char*>(message.data()), raw.text_bytes));
    return parts;
  }
  parts.result = message.subspan(raw.text_bytes);
  return parts;
}

absl::Status ParseResult(Message result, replica::PrepareAnswer* out) {
  if (result.size() < sizeof(RawPrepareResult)) return Bad("the answer to Prepare is too short");
  const auto raw = LoadRaw<RawPrepareResult>(result.data());
  result = result.subspan(sizeof(raw));
  if (raw.has_configuration > 1 || raw.ended_session > 1 || raw.progress.reserved != 0 ||
      raw.progress.generation.reserved != 0) {
    return Bad("the answer to Prepare uses reserved bits");
  }
  out->pool = pool::PoolId(LoadUuid(raw.pool));
  out->replica = pool::ReplicaId(LoadUuid(raw.replica));
  out->incarnation = LoadUuid(raw.incarnation);
  out->progress = FromRaw(raw.progress);
  out->ended_session = raw.ended_session != 0;
  out->configuration.reset();
  if (raw.has_configuration == 0) {
    return result.empty() ? absl::OkStatus()
                          : Bad("the answer to Prepare has bytes behind its end");
  }
  ASSIGN_OR_RETURN(out->configuration, ParseConfigurationBytes(result));
  return absl::OkStatus();
}

absl::Status ParseResult(Message result, std::vector<replica::DataRun>* out) {
  if (result.size() % sizeof(RawDataRun) != 0) return Bad("the answer to Map ends inside a run");
  out->clear();
  out->reserve(result.size() / sizeof(RawDataRun));
  for (; !result.empty(); result = result.subspan(sizeof(RawDataRun))) {
    const auto raw = LoadRaw<RawDataRun>(result.data());
    if (raw.hole > 1 || raw.reserved != 0) return Bad("the answer to Map uses reserved bits");
    if (raw.size_bytes == 0) return Bad("the answer to Map has an empty run");
    out->push_back({raw.size_bytes, raw.hole != 0});
  }
  return absl::OkStatus();
}

absl::Status ParseResult(Message result, std::vector<replica::RegionNote>* out) {
  if (result.size() % sizeof(RawRegionNote) != 0) {
    return Bad("the answer to Notes ends inside a note");
  }
  out->clear();
  out->reserve(result.size() / sizeof(RawRegionNote));
  for (; !result.empty(); result = result.subspan(sizeof(RawRegionNote))) {
    const auto raw = LoadRaw<RawRegionNote>(result.data());
    if (raw.reserved != 0 || raw.generation.reserved != 0) {
      return Bad("the answer to Notes uses reserved bits");
    }
    if (!out->empty() && raw.region < out->back().region) {
      return Bad("the answer to Notes is not in the order of the regions");
    }
    replica::RegionNote note;
    note.region = raw.region;
    note.layer = pool::SnapshotId(LoadUuid(raw.layer));
    note.generation = FromRaw(raw.generation);
    out->push_back(note);
  }
  return absl::OkStatus();
}

absl::Status ParseResult(Message result, std::size_t data_bytes, replica::ExtentContent* out) {
  if (result.size() != sizeof(RawExtentContent)) {
    return Bad("the answer to ReadCopy has another size than an extent's content");
  }
  *out = FromRaw(LoadRaw<RawExtentContent>(result.data()));
  return CheckContent(*out, data_bytes);
}

absl::Status ParseResult(Message result, replica::VerifyAnswer* out) {
  if (result.size() != sizeof(RawVerifyResult)) return Bad("the answer to Verify has another size");
  const auto raw = LoadRaw<RawVerifyResult>(result.data());
  out->content = FromRaw(raw.content);
  out->bad = LoadBits(raw.bad);
  out->mended = LoadBits(raw.mended);
  std::copy(std::begin(raw.crc32c), std::end(raw.crc32c), out->crc32c.begin());
  if ((out->content.data & out->content.zeroed).Any() || !out->content.data.Contains(out->bad) ||
      !out->bad.Contains(out->mended)) {
    return Bad("the answer to Verify contradicts itself");
  }
  return absl::OkStatus();
}

}  // namespace keelson::wire
