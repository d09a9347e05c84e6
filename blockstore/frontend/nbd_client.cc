#include "blockstore/frontend/nbd_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/frontend/nbd_bytes.h"
#include "blockstore/io/status.h"

namespace keelson::frontend {
namespace {

using nbd::Option;
using nbd::OptionReply;

constexpr std::size_t kGreetingBytes = 18;
constexpr std::size_t kReplyHeaderBytes = 20;
// More than any server that is one sends before it acknowledges.
constexpr int kRepliesMax = 64;

absl::Status Broke(std::string_view what) {
  return absl::UnavailableError(
      absl::StrCat("the peer broke the NBD protocol: ", std::string(what)));
}

struct OptionAnswer {
  OptionReply reply = OptionReply::kAck;
  std::string data;
};

io::Task<absl::Status> SendText(io::Stream* stream, std::string bytes, std::int64_t deadline_ns) {
  iovec part{bytes.data(), bytes.size()};
  const std::span<iovec> parts(&part, 1);
  co_return co_await stream->WriteAll(parts, deadline_ns);
}

io::Task<absl::Status> ReceiveGreeting(NbdReader* reader, std::int64_t deadline_ns) {
  std::array<std::byte, kGreetingBytes> greeting;
  const std::span<std::byte> into(greeting);
  CO_RETURN_IF_ERROR(co_await reader->Read(into, deadline_ns));
  const auto flags = Load<std::uint16_t>(greeting.data() + 16);
  constexpr std::uint16_t kNeeded = nbd::kHandshakeFixedNewstyle | nbd::kHandshakeNoZeroes;
  if (Load<std::uint64_t>(greeting.data()) != nbd::kGreetingMagic ||
      Load<std::uint64_t>(greeting.data() + 8) != nbd::kOptionMagic ||
      (flags & kNeeded) != kNeeded) {
    co_return Broke("it is no server of the fixed newstyle handshake");
  }
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<OptionAnswer>> ReceiveOptionReply(NbdReader* reader, Option option,
                                                          std::int64_t deadline_ns) {
  std::array<std::byte, kReplyHeaderBytes> header;
  const std::span<std::byte> into(header);
  CO_RETURN_IF_ERROR(co_await reader->Read(into, deadline_ns));
  const auto length = Load<std::uint32_t>(header.data() + 16);
  if (Load<std::uint64_t>(header.data()) != nbd::kOptionReplyMagic ||
      Load<std::uint32_t>(header.data() + 8) != static_cast<std::uint32_t>(option)) {
    co_return Broke("what it sent is no reply to the option");
  }
  if (length > nbd::kOptionPayloadBytesMax) co_return Broke("a reply to an option is too long");
  OptionAnswer answer;
  answer.reply = static_cast<OptionReply>(Load<std::uint32_t>(header.data() + 12));
  answer.data.resize(length);
  const std::span<std::byte> data = std::as_writable_bytes(std::span(answer.data));
  CO_RETURN_IF_ERROR(co_await reader->Read(data, deadline_ns));
  co_return answer;
}

// One NBD_REP_INFO. Infos that we do not know are passed over.
absl::Status TakeInfo(const std::string& data, NbdExportInfo* info) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(data.data());
  if (data.size() < 2) return Broke("an info is too short");
  const auto type = Load<std::uint16_t>(bytes);
  if (type == nbd::kInfoDescription) info->description = data.substr(2);
  if (type != nbd::kInfoExport) return absl::OkStatus();
  if (data.size() != 12) return Broke("the info about the export has another length");
  info->size_bytes = Load<std::uint64_t>(bytes + 2);
  info->flags = Load<std::uint16_t>(bytes + 10);
  return absl::OkStatus();
}

std::string AskForExport(Option option, const std::string& export_name) {
  constexpr std::uint16_t kInfos = 1;
  std::string bytes;
  NbdWriter(&bytes)
      .U32(nbd::kClientFixedNewstyle | nbd::kClientNoZeroes)
      .U64(nbd::kOptionMagic)
      .U32(static_cast<std::uint32_t>(option))
      .U32(static_cast<std::uint32_t>(export_name.size() + 8))
      .U32(static_cast<std::uint32_t>(export_name.size()))
      .Text(export_name)
      .U16(kInfos)
      .U16(nbd::kInfoDescription);
  return bytes;
}

}  // namespace

io::Task<absl::Status> NbdReader::Read(std::span<std::byte> into, std::int64_t deadline_ns) {
  while (!into.empty()) {
    if (!input_.empty()) {
      const std::size_t taken = std::min(into.size(), input_.size());
      std::copy_n(input_.begin(), taken, into.begin());
      input_ = input_.subspan(taken);
      into = into.subspan(taken);
      continue;
    }
    // What is large goes where it belongs at once.
    const bool direct = into.size() >= kBufferBytes;
    const std::span<std::byte> target =
        direct ? into : std::span<std::byte>(buffer_.get(), kBufferBytes);
    const absl::StatusOr<std::size_t> received = co_await stream_->ReadSome(target, deadline_ns);
    if (!received.ok()) co_return received.status();
    if (*received == 0) co_return absl::UnavailableError("the peer has closed the connection");
    received_bytes_ += *received;
    if (direct) {
      into = into.subspan(*received);
    } else {
      input_ = target.first(*received);
    }
  }
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<NbdExportInfo>> NbdHandshake(io::Stream* stream, NbdReader* reader,
                                                     std::string export_name, bool only_ask,
                                                     std::int64_t deadline_ns) {
  CO_RETURN_IF_ERROR(co_await ReceiveGreeting(reader, deadline_ns));
  const Option option = only_ask ? Option::kInfo : Option::kGo;
  std::string request = AskForExport(option, export_name);
  CO_RETURN_IF_ERROR(co_await SendText(stream, std::move(request), deadline_ns));
  NbdExportInfo info;
  for (int i = 0; i < kRepliesMax; ++i) {
    absl::StatusOr<OptionAnswer> answer = co_await ReceiveOptionReply(reader, option, deadline_ns);
    if (!answer.ok()) co_return answer.status();
    switch (answer->reply) {
      case OptionReply::kInfo:
        CO_RETURN_IF_ERROR(TakeInfo(answer->data, &info));
        break;
      case OptionReply::kAck: {
        constexpr std::uint16_t kNeeded = nbd::kFlagHasFlags | nbd::kFlagSendFlush;
        constexpr std::uint16_t kNeededToWrite = nbd::kFlagSendFua | nbd::kFlagSendWriteZeroes;
        const bool writes = (info.flags & nbd::kFlagReadOnly) == 0;
        if (info.size_bytes == 0 || (info.flags & kNeeded) != kNeeded ||
            (writes && (info.flags & kNeededToWrite) != kNeededToWrite)) {
          co_return Broke("it does not offer flush, FUA and zeroes, which a volume needs");
        }
        co_return info;
      }
      case OptionReply::kErrUnknown:
        co_return absl::NotFoundError("it does not serve this volume to this node");
      default:
        co_return Broke("it refused the option that opens an export");
    }
  }
  co_return Broke("it sends replies without an end");
}

NbdRequestBytes EncodeRequest(const NbdRequestHeader& request) {
  NbdRequestBytes bytes;
  std::byte* to = Store(nbd::kRequestMagic, bytes.data());
  to = Store(request.flags, to);
  to = Store(static_cast<std::uint16_t>(request.command), to);
  to = Store(request.cookie, to);
  to = Store(request.offset, to);
  Store(request.length, to);
  return bytes;
}

absl::StatusOr<NbdSimpleReply> DecodeSimpleReply(const NbdSimpleReplyBytes& bytes) {
  if (Load<std::uint32_t>(bytes.data()) != nbd::kSimpleReplyMagic) {
    return absl::InvalidArgumentError("what it sent is no reply");
  }
  NbdSimpleReply reply;
  reply.error = static_cast<nbd::Error>(Load<std::uint32_t>(bytes.data() + 4));
  reply.cookie = Load<std::uint64_t>(bytes.data() + 8);
  return reply;
}

absl::Status StatusOfNbdError(nbd::Error error, std::string_view what) {
  const std::string text(what);
  switch (error) {
    case nbd::Error::kNone:
      return absl::OkStatus();
    case nbd::Error::kPerm:
      return absl::PermissionDeniedError(absl::StrCat(text, ": the engine refuses writes"));
    case nbd::Error::kNoSpc:
      return absl::ResourceExhaustedError(absl::StrCat(text, ": no space is left"));
    case nbd::Error::kInval:
    case nbd::Error::kOverflow:
      return absl::InvalidArgumentError(absl::StrCat(text, ": the engine refuses the range"));
    case nbd::Error::kNotSup:
      return absl::UnimplementedError(absl::StrCat(text, ": the engine cannot do that"));
    case nbd::Error::kShutdown:
      return absl::AbortedError(absl::StrCat(text, ": the engine is going"));
    case nbd::Error::kIo:
    case nbd::Error::kNoMem:
      break;
  }
  return absl::InternalError(absl::StrCat(text, ": the engine reports error ",
                                          static_cast<std::uint32_t>(error),
                                          "; see its node's log"));
}

}  // namespace keelson::frontend
