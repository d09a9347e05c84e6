#include "blockstore/wire/hello.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/superblock.h"
#include "blockstore/wire/raw.h"

namespace keelson::wire {
namespace {

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string Versions(const Hello& hello) {
  return absl::StrCat(hello.version_min, " to ", hello.version_max);
}

// Why the engine cannot be served; empty when it can.
std::string Refusal(const Hello& engine, const Hello& ours) {
  if (engine.role != Role::kEngine) return "the other side is not an engine";
  if (engine.version_max < ours.version_min || engine.version_min > ours.version_max) {
    return absl::StrCat("the engine speaks data protocol versions ", Versions(engine),
                        " and this member ", Versions(ours), "; upgrade the older one");
  }
  if ((engine.features_required & ~ours.features_offered) != 0) {
    return absl::StrCat("the engine requires protocol features 0x",
                        absl::Hex(engine.features_required & ~ours.features_offered),
                        " that this member does not have; upgrade it or turn them off");
  }
  if ((ours.features_required & ~engine.features_offered) != 0) {
    return absl::StrCat("this member requires protocol features 0x",
                        absl::Hex(ours.features_required & ~engine.features_offered),
                        " that the engine does not have; upgrade it or turn them off");
  }
  return {};
}

}  // namespace

std::string EncodeHello(const Hello& hello) {
  const std::string_view text = std::string_view(hello.text).substr(0, kHelloTextBytesMax);
  RawHello raw{};
  raw.magic = kHelloMagic;
  raw.version_min = hello.version_min;
  raw.version_max = hello.version_max;
  raw.version_chosen = hello.version_chosen;
  raw.role = static_cast<std::uint16_t>(hello.role);
  raw.features_offered = hello.features_offered;
  raw.features_required = hello.features_required;
  raw.text_bytes = static_cast<std::uint32_t>(text.size());
  raw.text_crc32c = pool::Crc32c(Bytes(text));
  raw.crc32c = pool::Crc32c(std::as_bytes(std::span(&raw, 1)).first(offsetof(RawHello, crc32c)));
  std::string out;
  AppendRaw(raw, &out);
  out.append(text);
  return out;
}

Hello AnswerHello(const Hello& engine, const Hello& ours) {
  Hello answer = ours;
  answer.role = Role::kReplica;
  answer.version_chosen = 0;
  answer.text = Refusal(engine, ours);
  if (answer.text.empty()) {
    answer.version_chosen = std::min(engine.version_max, ours.version_max);
  }
  return answer;
}

absl::Status CheckHelloAnswer(const Hello& answer, const Hello& sent) {
  if (answer.role != Role::kReplica) {
    return absl::UnavailableError("its hello is not that of a replica; check the address");
  }
  if (answer.version_chosen == 0) {
    return absl::UnavailableError(absl::StrCat("it refused the connection: ", answer.text));
  }
  if (answer.version_chosen < sent.version_min || answer.version_chosen > sent.version_max) {
    return absl::UnavailableError(absl::StrCat("it chose data protocol version ",
                                               answer.version_chosen, " of ", Versions(sent)));
  }
  if ((answer.features_required & ~sent.features_offered) != 0 ||
      (sent.features_required & ~answer.features_offered) != 0) {
    return absl::UnavailableError("it does not agree on the features that one side requires");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Hello>> HelloDecoder::Next(std::span<const std::byte>* input) {
  while (true) {
    const std::size_t taken = std::min(wanted_bytes_ - bytes_.size(), input->size());
    bytes_.append(reinterpret_cast<const char*>(input->data()), taken);
    *input = input->subspan(taken);
    // A stranger is told apart by its first bytes: it may never send sixty-four.
    if (bytes_.size() >= sizeof(kHelloMagic) &&
        LoadRaw<std::uint64_t>(Bytes(bytes_).data()) != kHelloMagic) {
      return absl::InvalidArgumentError(
          "what it sent first is not a hello of the data protocol; check the port");
    }
    if (bytes_.size() < wanted_bytes_) return std::optional<Hello>();
    if (bytes_.size() > sizeof(RawHello)) break;
    RETURN_IF_ERROR(ReadFixedPart());
    if (wanted_bytes_ == bytes_.size()) break;
  }
  ASSIGN_OR_RETURN(Hello hello, ReadWhole());
  return std::optional<Hello>(std::move(hello));
}

absl::Status HelloDecoder::ReadFixedPart() {
  const auto raw = LoadRaw<RawHello>(Bytes(bytes_).data());
  if (raw.crc32c != pool::Crc32c(Bytes(bytes_).first(offsetof(RawHello, crc32c)))) {
    return absl::InvalidArgumentError("its hello does not match its checksum");
  }
  if (raw.text_bytes > kHelloTextBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("its hello has a text of ", raw.text_bytes, " bytes"));
  }
  wanted_bytes_ = sizeof(RawHello) + raw.text_bytes;
  return absl::OkStatus();
}

absl::StatusOr<Hello> HelloDecoder::ReadWhole() const {
  const auto raw = LoadRaw<RawHello>(Bytes(bytes_).data());
  const std::string_view text = std::string_view(bytes_).substr(sizeof(RawHello));
  if (raw.text_crc32c != pool::Crc32c(Bytes(text))) {
    return absl::InvalidArgumentError("the text of its hello does not match its checksum");
  }
  if (raw.version_min == 0 || raw.version_min > raw.version_max) {
    return absl::InvalidArgumentError(
        absl::StrCat("its hello names the versions ", raw.version_min, " to ", raw.version_max));
  }
  Hello hello;
  hello.role = static_cast<Role>(raw.role);
  hello.version_min = raw.version_min;
  hello.version_max = raw.version_max;
  hello.version_chosen = raw.version_chosen;
  hello.features_offered = raw.features_offered;
  hello.features_required = raw.features_required;
  hello.text = text;
  return hello;
}

}  // namespace keelson::wire
