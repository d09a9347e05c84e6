#include "blockstore/engine/remote_replica.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"

namespace keelson::engine {
namespace {

// How many pieces of one large call are under way together.
constexpr std::size_t kPiecesMax = 32;

// "127.0.0.1:4711" or "[::1]:4711".
absl::StatusOr<io::Address> ParseAddress(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  std::uint32_t port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(text.substr(colon + 1), &port) || port == 0 || port > 65535) {
    return absl::UnavailableError(
        absl::StrCat("\"", text, "\" is not an address of the form host:port"));
  }
  io::Address address;
  address.host = text.substr(0, colon);
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  address.port = static_cast<std::uint16_t>(port);
  return address;
}

// The status of a call in pieces: an end of the session outweighs what one piece met.
absl::Status Worse(const absl::Status& a, const absl::Status& b) {
  const auto rank = [](const absl::Status& status) {
    switch (status.code()) {
      case absl::StatusCode::kOk:
        return 0;
      case absl::StatusCode::kUnavailable:
        return 2;
      case absl::StatusCode::kDeadlineExceeded:
        return 3;
      case absl::StatusCode::kAborted:
        return 4;
      default:
        return 1;
    }
  };
  return rank(b) > rank(a) ? b : a;
}

}  // namespace

RemoteReplica::RemoteReplica(io::Reactor* reactor, replica::Member member)
    : reactor_(reactor),
      member_(std::move(member)),
      name_(absl::StrCat("replica ", member_.replica.ToString(), " at ", member_.address)) {}

RemoteReplica::~RemoteReplica() = default;

absl::Status RemoteReplica::NotPrepared() const {
  return absl::UnavailableError(absl::StrCat(name_, " has no session; prepare it first"));
}

// --- Lifecycle ---

io::Task<absl::StatusOr<replica::PrepareAnswer>> RemoteReplica::Prepare(pool::Epoch epoch,
                                                                        std::int64_t deadline_ns) {
  const io::AsyncMutex::Guard guard = co_await lifecycle_.Lock();
  const std::uint64_t closes = closes_;
  co_await EndSession(absl::UnavailableError(absl::StrCat(name_, " is being prepared again")));
  absl::StatusOr<std::unique_ptr<io::Stream>> stream = co_await Connect(deadline_ns);
  CO_RETURN_IF_ERROR(stream.status());
  if (closes != closes_) {
    co_return absl::UnavailableError(absl::StrCat(name_, " was closed while it was connected to"));
  }
  auto session = std::make_unique<RemoteSession>(reactor_, *std::move(stream), name_);
  opening_ = session.get();
  absl::StatusOr<replica::PrepareAnswer> answer =
      co_await session->Open(member_.pool, member_.replica, epoch, deadline_ns);
  opening_ = nullptr;
  if (answer.ok()) {
    session_ = std::move(session);
  } else {
    co_await session->Drain();
  }
  co_return answer;
}

io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> RemoteReplica::Connect(
    std::int64_t deadline_ns) {
  CO_ASSIGN_OR_RETURN(const io::Address address, ParseAddress(member_.address));
  absl::StatusOr<std::unique_ptr<io::Stream>> stream =
      co_await reactor_->Connect(address, deadline_ns);
  if (stream.ok() || absl::IsDeadlineExceeded(stream.status())) co_return stream;
  co_return absl::UnavailableError(
      absl::StrCat(name_, " is not reached: ", std::string(stream.status().message())));
}

io::Task<void> RemoteReplica::EndSession(absl::Status why) {
  if (session_ == nullptr) co_return;
  session_->Leave(why);
  co_await session_->Drain();
  session_.reset();
}

io::Task<void> RemoteReplica::Close() {
  const absl::Status why =
      absl::UnavailableError(absl::StrCat("the session of ", name_, " was closed"));
  ++closes_;
  if (opening_ != nullptr) opening_->End(why);
  if (session_ != nullptr) session_->Leave(why);
  const io::AsyncMutex::Guard guard = co_await lifecycle_.Lock();
  co_await EndSession(why);
}

// --- Requests ---

template <typename Request>
io::Task<absl::Status> RemoteReplica::Call(wire::FrameType type, Request request,
                                           std::int64_t deadline_ns) {
  if (session_ == nullptr) co_return NotPrepared();
  RemoteCall call(session_.get(), type);
  call.urgent = type == wire::FrameType::kHeartbeat;
  wire::Encode(call.head(), request, &call.encoded);
  call.Start(deadline_ns);
  co_await call.Done();
  co_return call.status();
}

io::Task<absl::Status> RemoteReplica::Heartbeat(std::int64_t deadline_ns) {
  return Call(wire::FrameType::kHeartbeat, wire::HeartbeatRequest{}, deadline_ns);
}

io::Task<absl::Status> RemoteReplica::Trim(std::uint64_t offset, std::uint64_t size_bytes,
                                           pool::Generation generation, std::int64_t deadline_ns) {
  return Call(wire::FrameType::kTrim, wire::TrimRequest{offset, size_bytes, generation},
              deadline_ns);
}

io::Task<absl::Status> RemoteReplica::Flush(std::int64_t deadline_ns) {
  return Call(wire::FrameType::kFlush, wire::FlushRequest{}, deadline_ns);
}

io::Task<absl::Status> RemoteReplica::EndGeneration(pool::Generation generation,
                                                    std::int64_t deadline_ns) {
  return Call(wire::FrameType::kEndGeneration, wire::EndGenerationRequest{generation}, deadline_ns);
}

io::Task<absl::Status> RemoteReplica::BeginCopy(pool::SnapshotId layer, std::uint32_t region,
                                                pool::Generation generation,
                                                std::int64_t deadline_ns) {
  return Call(wire::FrameType::kBeginCopy, wire::BeginCopyRequest{layer, region, generation},
              deadline_ns);
}

io::Task<absl::Status> RemoteReplica::RecordProgress(replica::ResyncProgress progress,
                                                     std::int64_t deadline_ns) {
  return Call(wire::FrameType::kRecordProgress, wire::RecordProgressRequest{progress}, deadline_ns);
}

io::Task<absl::Status> RemoteReplica::Accept(replica::Configuration configuration,
                                             std::int64_t deadline_ns) {
  if (session_ == nullptr) co_return NotPrepared();
  RemoteCall call(session_.get(), wire::FrameType::kAccept);
  const wire::AcceptRequest request{std::move(configuration)};
  const absl::Status encoded = wire::Encode(call.head(), request, &call.encoded);
  CO_RETURN_IF_ERROR(encoded);
  call.Start(deadline_ns);
  co_await call.Done();
  co_return call.status();
}

io::Task<absl::Status> RemoteReplica::Read(std::uint64_t offset, std::span<std::byte> into,
                                           std::int64_t deadline_ns) {
  if (into.size() > wire::kDataBytesMax) {
    co_return co_await ReadLarge(offset, into, deadline_ns);
  }
  if (session_ == nullptr) co_return NotPrepared();
  RemoteCall call(session_.get(), wire::FrameType::kRead);
  const wire::ReadRequest request{offset, static_cast<std::uint32_t>(into.size())};
  wire::Encode(call.head(), request, &call.encoded);
  call.into = into;
  call.Start(deadline_ns);
  co_await call.Done();
  co_return call.status();
}

io::Task<absl::Status> RemoteReplica::ReadLarge(std::uint64_t offset, std::span<std::byte> into,
                                                std::int64_t deadline_ns) {
  absl::Status status;
  while (status.ok() && !into.empty()) {
    if (session_ == nullptr) co_return NotPrepared();
    std::deque<RemoteCall> pieces;
    while (!into.empty() && pieces.size() < kPiecesMax) {
      const std::span<std::byte> piece = into.first(std::min(into.size(), wire::kDataBytesMax));
      into = into.subspan(piece.size());
      RemoteCall& call = pieces.emplace_back(session_.get(), wire::FrameType::kRead);
      const wire::ReadRequest request{offset, static_cast<std::uint32_t>(piece.size())};
      wire::Encode(call.head(), request, &call.encoded);
      call.into = piece;
      call.Start(deadline_ns);
      offset += piece.size();
    }
    for (RemoteCall& call : pieces) {
      co_await call.Done();
      status = Worse(status, call.status());
    }
  }
  co_return status;
}

io::Task<absl::Status> RemoteReplica::Write(std::uint64_t offset, std::span<const std::byte> from,
                                            pool::Generation generation, std::int64_t deadline_ns) {
  if (from.size() > wire::kDataBytesMax) {
    co_return co_await WriteLarge(offset, from, generation, deadline_ns);
  }
  if (session_ == nullptr) co_return NotPrepared();
  RemoteCall call(session_.get(), wire::FrameType::kWrite);
  const wire::WriteRequest request{offset, generation};
  wire::Encode(call.head(), request, from, &call.encoded);
  call.Start(deadline_ns);
  co_await call.Done();
  co_return call.status();
}

io::Task<absl::Status> RemoteReplica::WriteLarge(std::uint64_t offset,
                                                 std::span<const std::byte> from,
                                                 pool::Generation generation,
                                                 std::int64_t deadline_ns) {
  absl::Status status;
  while (status.ok() && !from.empty()) {
    if (session_ == nullptr) co_return NotPrepared();
    std::deque<RemoteCall> pieces;
    while (!from.empty() && pieces.size() < kPiecesMax) {
      const std::span<const std::byte> piece =
          from.first(std::min(from.size(), wire::kDataBytesMax));
      from = from.subspan(piece.size());
      RemoteCall& call = pieces.emplace_back(session_.get(), wire::FrameType::kWrite);
      const wire::WriteRequest request{offset, generation};
      wire::Encode(call.head(), request, piece, &call.encoded);
      call.Start(deadline_ns);
      offset += piece.size();
    }
    for (RemoteCall& call : pieces) {
      co_await call.Done();
      status = Worse(status, call.status());
    }
  }
  co_return status;
}

io::Task<absl::StatusOr<std::vector<replica::DataRun>>> RemoteReplica::Map(
    std::uint64_t offset, std::uint64_t size_bytes, std::size_t runs_max,
    std::int64_t deadline_ns) {
  if (session_ == nullptr) co_return NotPrepared();
  RemoteCall call(session_.get(), wire::FrameType::kMap);
  const auto runs = static_cast<std::uint32_t>(std::min(runs_max, wire::kRunsPerAnswerMax));
  const wire::MapRequest request{offset, size_bytes, runs};
  wire::Encode(call.head(), request, &call.encoded);
  call.Start(deadline_ns);
  co_await call.Done();
  CO_RETURN_IF_ERROR(call.status());
  std::vector<replica::DataRun> result;
  absl::Status read = wire::ParseResult(call.result(), &result);
  if (read.ok() && result.size() > runs) {
    read = absl::InvalidArgumentError("it answered Map with more runs than it was asked for");
  }
  if (!read.ok()) co_return call.Refuse(read);
  co_return result;
}

io::Task<absl::StatusOr<std::vector<replica::RegionNote>>> RemoteReplica::Notes(
    pool::Generation above, std::uint32_t first_region, std::size_t count_max,
    std::int64_t deadline_ns) {
  // One answer holds a bounded number; fewer than asked for means that there are no more.
  std::vector<replica::RegionNote> all;
  while (all.size() < count_max) {
    if (session_ == nullptr) co_return NotPrepared();
    const auto count =
        static_cast<std::uint32_t>(std::min(count_max - all.size(), wire::kNotesPerAnswerMax));
    RemoteCall call(session_.get(), wire::FrameType::kNotes);
    const wire::NotesRequest request{above, first_region, count};
    wire::Encode(call.head(), request, &call.encoded);
    call.Start(deadline_ns);
    co_await call.Done();
    CO_RETURN_IF_ERROR(call.status());
    std::vector<replica::RegionNote> piece;
    absl::Status read = wire::ParseResult(call.result(), &piece);
    if (read.ok() && !piece.empty() && piece.front().region < first_region) {
      read = absl::InvalidArgumentError("it answered Notes with a region before the first");
    }
    if (!read.ok()) co_return call.Refuse(read);
    all.insert(all.end(), piece.begin(), piece.end());
    if (piece.size() < count || piece.back().region == UINT32_MAX) break;
    first_region = piece.back().region + 1;
  }
  co_return all;
}

io::Task<absl::StatusOr<replica::ExtentContent>> RemoteReplica::ReadCopy(pool::SnapshotId layer,
                                                                         std::uint32_t extent,
                                                                         std::span<std::byte> into,
                                                                         std::int64_t deadline_ns) {
  if (session_ == nullptr) co_return NotPrepared();
  RemoteCall call(session_.get(), wire::FrameType::kReadCopy);
  const wire::ReadCopyRequest request{layer, extent};
  wire::Encode(call.head(), request, &call.encoded);
  call.into = into;
  call.Start(deadline_ns);
  co_await call.Done();
  CO_RETURN_IF_ERROR(call.status());
  replica::ExtentContent content;
  const absl::Status read = wire::ParseResult(call.result(), call.data_bytes(), &content);
  if (!read.ok()) co_return call.Refuse(read);
  co_return content;
}

io::Task<absl::Status> RemoteReplica::WriteCopy(pool::SnapshotId layer, std::uint32_t extent,
                                                replica::ExtentContent content,
                                                std::span<const std::byte> packed,
                                                std::int64_t deadline_ns) {
  if (session_ == nullptr) co_return NotPrepared();
  RemoteCall call(session_.get(), wire::FrameType::kWriteCopy);
  const wire::WriteCopyRequest request{layer, extent, content};
  wire::Encode(call.head(), request, packed, &call.encoded);
  call.Start(deadline_ns);
  co_await call.Done();
  co_return call.status();
}

io::Task<absl::StatusOr<replica::VerifyAnswer>> RemoteReplica::Verify(
    pool::SnapshotId layer, std::uint32_t extent, pool::BlockBits offered,
    std::span<const std::byte> packed, std::int64_t deadline_ns) {
  if (session_ == nullptr) co_return NotPrepared();
  RemoteCall call(session_.get(), wire::FrameType::kVerify);
  const wire::VerifyRequest request{layer, extent, offered};
  wire::Encode(call.head(), request, packed, &call.encoded);
  call.Start(deadline_ns);
  co_await call.Done();
  CO_RETURN_IF_ERROR(call.status());
  replica::VerifyAnswer answer;
  const absl::Status read = wire::ParseResult(call.result(), &answer);
  if (!read.ok()) co_return call.Refuse(read);
  co_return answer;
}

}  // namespace keelson::engine
