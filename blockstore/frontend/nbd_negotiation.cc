#include "blockstore/frontend/nbd_negotiation.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace keelson::frontend {
namespace {

using nbd::Option;
using nbd::OptionReply;
using Step = NbdNegotiation::Step;

// An error reply carries a text for the person at the other end.
Step Reject(Option option, OptionReply error, std::string_view message, std::string* out) {
  AppendOptionReply(option, error, message, out);
  return Step::kContinue;
}

Step Acknowledge(Option option, std::string* out) {
  AppendOptionReply(option, OptionReply::kAck, {}, out);
  return Step::kContinue;
}

void AppendInfo(Option option, const std::string& data, std::string* out) {
  AppendOptionReply(option, OptionReply::kInfo, data, out);
}

// Does the query select base:allocation? Its namespace alone lists all of its contexts.
bool SelectsAllocation(Option option, std::string_view query) {
  return query == nbd::kAllocationContext ||
         (option == Option::kListMetaContext && query == "base:");
}

constexpr std::string_view kUnknownExport = "no such export; the list option names those there are";

}  // namespace

Step NbdNegotiation::OnClientFlags(std::uint32_t flags) {
  if ((flags & ~(nbd::kClientFixedNewstyle | nbd::kClientNoZeroes)) != 0) return Step::kRefuse;
  fixed_newstyle_ = (flags & nbd::kClientFixedNewstyle) != 0;
  no_zeroes_ = (flags & nbd::kClientNoZeroes) != 0;
  return Step::kContinue;
}

Step NbdNegotiation::OnOption(Option option, std::span<const std::byte> payload, std::string* out) {
  const bool has_payload = !payload.empty();
  // A client without fixed newstyle does not understand replies to options.
  if (!fixed_newstyle_ && option != Option::kExportName) return Step::kRefuse;
  switch (option) {
    case Option::kExportName:
      return OnExportName({reinterpret_cast<const char*>(payload.data()), payload.size()}, out);
    case Option::kAbort:
      Acknowledge(option, out);
      return Step::kClose;
    case Option::kList:
      return OnList(has_payload, out);
    case Option::kInfo:
    case Option::kGo:
      return OnInfoOrGo(option, payload, out);
    case Option::kStructuredReply:
      return OnStructuredReply(has_payload, out);
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      return OnMetaContext(option, payload, out);
    case Option::kStartTls:
      return Reject(option, OptionReply::kErrPolicy, "TLS is not offered on this socket", out);
  }
  return Reject(option, OptionReply::kErrUnsupported, "this option is not supported", out);
}

Step NbdNegotiation::OnOversizedOption(Option option, std::string* out) {
  // NBD_OPT_EXPORT_NAME has no error reply.
  if (!fixed_newstyle_ || option == Option::kExportName) return Step::kRefuse;
  return Reject(option, OptionReply::kErrTooBig, "option data is limited to 64 KiB", out);
}

Step NbdNegotiation::OnExportName(std::string_view name, std::string* out) {
  if (name.size() > nbd::kNameBytesMax) return Step::kRefuse;
  export_ = exports_->Resolve(name);
  if (export_.device == nullptr) return Step::kRefuse;
  asked_name_ = name;
  NbdWriter(out).U64(export_.device->size_bytes()).U16(TransmissionFlags(export_.read_only));
  if (!no_zeroes_) NbdWriter(out).Zeroes(nbd::kExportNamePaddingBytes);
  return Step::kTransmit;
}

Step NbdNegotiation::OnList(bool has_payload, std::string* out) {
  if (has_payload) {
    return Reject(Option::kList, OptionReply::kErrInvalid, "the list option takes no data", out);
  }
  for (const std::string& name : exports_->Names()) {
    std::string data;
    NbdWriter(&data).U32(static_cast<std::uint32_t>(name.size())).Text(name);
    AppendOptionReply(Option::kList, OptionReply::kServer, data, out);
  }
  return Acknowledge(Option::kList, out);
}

Step NbdNegotiation::OnInfoOrGo(Option option, std::span<const std::byte> payload,
                                std::string* out) {
  const std::optional<NbdInfoQuery> query = DecodeInfoQuery(payload);
  if (!query.has_value()) {
    return Reject(option, OptionReply::kErrInvalid, "the lengths inside the option disagree", out);
  }
  Export found = exports_->Resolve(query->export_name);
  if (found.device == nullptr) {
    return Reject(option, OptionReply::kErrUnknown, kUnknownExport, out);
  }

  std::string data;
  NbdWriter(&data)
      .U16(nbd::kInfoExport)
      .U64(found.device->size_bytes())
      .U16(TransmissionFlags(found.read_only));
  AppendInfo(option, data, out);
  // Block sizes are sent unasked, too: a client that ignores them gets EINVAL for a smaller
  // request.
  data.clear();
  NbdWriter(&data)
      .U16(nbd::kInfoBlockSize)
      .U32(nbd::kBlockBytesMin)
      .U32(nbd::kBlockBytesPreferred)
      .U32(nbd::kPayloadBytesMax);
  AppendInfo(option, data, out);
  const auto asked = [&query](std::uint16_t info) {
    return std::find(query->infos.begin(), query->infos.end(), info) != query->infos.end();
  };
  if (asked(nbd::kInfoName)) {
    data.clear();
    NbdWriter(&data).U16(nbd::kInfoName).Text(found.name);
    AppendInfo(option, data, out);
  }
  if (asked(nbd::kInfoDescription)) {
    data.clear();
    NbdWriter(&data).U16(nbd::kInfoDescription).Text(found.description);
    AppendInfo(option, data, out);
  }
  Acknowledge(option, out);
  if (option == Option::kInfo) return Step::kContinue;
  export_ = std::move(found);
  asked_name_ = query->export_name;
  return Step::kTransmit;
}

Step NbdNegotiation::OnStructuredReply(bool has_payload, std::string* out) {
  if (has_payload) {
    return Reject(Option::kStructuredReply, OptionReply::kErrInvalid,
                  "the structured reply option takes no data", out);
  }
  structured_replies_ = true;
  return Acknowledge(Option::kStructuredReply, out);
}

Step NbdNegotiation::OnMetaContext(Option option, std::span<const std::byte> payload,
                                   std::string* out) {
  // A failed selection leaves none selected.
  if (option == Option::kSetMetaContext) meta_export_.clear();
  if (!structured_replies_) {
    return Reject(option, OptionReply::kErrInvalid, "negotiate structured replies first", out);
  }
  const std::optional<NbdMetaQuery> query = DecodeMetaQuery(payload);
  if (!query.has_value()) {
    return Reject(option, OptionReply::kErrInvalid, "the lengths inside the option disagree", out);
  }
  const Export found = exports_->Resolve(query->export_name);
  if (found.device == nullptr) {
    return Reject(option, OptionReply::kErrUnknown, kUnknownExport, out);
  }
  const bool lists_all = option == Option::kListMetaContext && query->queries.empty();
  const bool selected = lists_all || std::any_of(query->queries.begin(), query->queries.end(),
                                                 [option](std::string_view text) {
                                                   return SelectsAllocation(option, text);
                                                 });
  if (selected) {
    std::string data;
    NbdWriter(&data).U32(nbd::kAllocationContextId).Text(nbd::kAllocationContext);
    AppendOptionReply(option, OptionReply::kMetaContext, data, out);
    if (option == Option::kSetMetaContext) meta_export_ = found.name;
  }
  return Acknowledge(option, out);
}

std::uint16_t NbdNegotiation::TransmissionFlags(bool read_only) const {
  unsigned flags = nbd::kFlagHasFlags | nbd::kFlagSendFlush | nbd::kFlagSendFua |
                   nbd::kFlagSendTrim | nbd::kFlagSendWriteZeroes | nbd::kFlagSendFastZero |
                   nbd::kFlagCanMultiConn | nbd::kFlagSendCache;
  if (structured_replies_) flags |= nbd::kFlagSendDf;
  if (read_only) flags |= nbd::kFlagReadOnly;
  return static_cast<std::uint16_t>(flags);
}

}  // namespace keelson::frontend
