#include "provisioner/store/cluster_store.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace keelson::provisioner {
namespace {

// "volume 'ks-1'"; of a checked key.
std::string NameOf(Kind kind, std::string_view key) {
  return absl::StrCat(std::string(KindName(kind)), " '", std::string(key), "'");
}

bool IsKeyCharacter(char character) {
  return absl::ascii_isalnum(static_cast<unsigned char>(character)) || character == '.' ||
         character == '_' || character == '-';
}

}  // namespace

std::string_view KindName(Kind kind) {
  switch (kind) {
    case Kind::kVolume:
      return "volume";
    case Kind::kSnapshot:
      return "snapshot";
    case Kind::kGroup:
      return "group";
    case Kind::kNode:
      return "node";
  }
  return "record of an unknown kind";
}

absl::Status CheckKey(Kind kind, std::string_view key) {
  bool allowed = !key.empty() && key.size() <= kKeyBytesMax;
  for (const char character : key) allowed = allowed && IsKeyCharacter(character);
  if (allowed) return absl::OkStatus();
  constexpr std::size_t kShownBytes = 64;
  const bool cut = key.size() > kShownBytes;
  return absl::InvalidArgumentError(absl::StrCat(
      "'", absl::CHexEscape(std::string(key.substr(0, kShownBytes))), cut ? "..." : "", "' (",
      key.size(), " bytes) cannot be the key of a ", std::string(KindName(kind)),
      ": a key is 1 to ", kKeyBytesMax, " characters of [A-Za-z0-9._-]"));
}

absl::Status CheckValue(Kind kind, std::string_view key, std::string_view value) {
  if (value.size() <= kValueBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the record of ", NameOf(kind, key),
                                                 " would have ", value.size(),
                                                 " bytes: a record has at most ", kValueBytesMax));
}

absl::Status CheckPut(Kind kind, std::string_view key, std::optional<std::uint64_t> present,
                      std::uint64_t expected_revision) {
  if (expected_revision != 0) return CheckDelete(kind, key, present, expected_revision);
  if (!present) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat(NameOf(kind, key), " exists already (revision ", *present, ")"));
}

absl::Status CheckDelete(Kind kind, std::string_view key, std::optional<std::uint64_t> present,
                         std::uint64_t expected_revision) {
  if (expected_revision == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a deletion of ", NameOf(kind, key), " names the revision that is to be deleted, not 0"));
  }
  if (!present) return NoSuchRecord(kind, key);
  if (*present == expected_revision) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat(NameOf(kind, key), " changed meanwhile (its revision is ",
                                         *present, ", not ", expected_revision,
                                         "): read it again"));
}

absl::Status NoSuchRecord(Kind kind, std::string_view key) {
  return absl::NotFoundError(absl::StrCat("no ", NameOf(kind, key)));
}

}  // namespace keelson::provisioner
