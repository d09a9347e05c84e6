#include "csi/checks.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using AccessMode = pb::VolumeCapability::AccessMode;

constexpr std::size_t kStringBytesMax = 128;
constexpr std::size_t kNodeIdBytesMax = 256;
constexpr std::size_t kPathBytesMax = 4095;
constexpr std::size_t kMapBytesMax = 4096;
constexpr std::size_t kOurIdBytesMax = 64;
constexpr std::size_t kLabelBytesMax = 63;

bool IsAlphanumericOr(std::string_view others, char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         others.find(c) != std::string_view::npos;
}

std::size_t StringLimit(std::string_view field) {
  if (field == "node_id") return kNodeIdBytesMax;
  if (field == "staging_target_path" || field == "target_path" || field == "volume_path" ||
      field == "volume_publish_path") {
    return kPathBytesMax;
  }
  return kStringBytesMax;
}

absl::Status CheckString(const FieldDescriptor& field, const std::string& value) {
  const std::size_t limit = StringLimit(field.name());
  if (value.size() <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field.name(), " has ", value.size(), " bytes; at most ", limit, " are allowed"));
}

// The total of keys and values; for secrets also that keys are plain.
absl::Status CheckMap(const Message& request, const FieldDescriptor& field) {
  const Reflection& reflection = *request.GetReflection();
  const FieldDescriptor* key_field = field.message_type()->map_key();
  const FieldDescriptor* value_field = field.message_type()->map_value();
  std::size_t total = 0;
  for (int i = 0; i < reflection.FieldSize(request, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(request, &field, i);
    const std::string key = entry.GetReflection()->GetString(entry, key_field);
    total += key.size() + entry.GetReflection()->GetString(entry, value_field).size();
    if (!field.options().GetExtension(pb::csi_secret)) continue;
    if (key.empty() ||
        !std::all_of(key.begin(), key.end(), [](char c) { return IsAlphanumericOr("._-", c); })) {
      return absl::InvalidArgumentError(absl::StrCat(
          field.name(), " has a key that is not made of letters, digits, '-', '_' and '.'"));
    }
  }
  if (total <= kMapBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field.name(), " has ", total, " bytes in all; at most ", kMapBytesMax, " are allowed"));
}

absl::Status CheckStrings(const Message& request, const FieldDescriptor& field) {
  const Reflection& reflection = *request.GetReflection();
  if (!field.is_repeated()) return CheckString(field, reflection.GetString(request, &field));
  const bool together = field.name() == "mount_flags";
  std::size_t total = 0;
  for (int i = 0; i < reflection.FieldSize(request, &field); ++i) {
    const std::string value = reflection.GetRepeatedString(request, &field, i);
    total += value.size();
    if (!together) RETURN_IF_ERROR(CheckString(field, value));
  }
  if (!together || total <= kMapBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field.name(), " have ", total, " bytes in all; at most ", kMapBytesMax, " are allowed"));
}

absl::Status CheckMount(const pb::VolumeCapability::MountVolume& mount, AccessMode::Mode mode) {
  if (mode == AccessMode::MULTI_NODE_MULTI_WRITER || mode == AccessMode::MULTI_NODE_SINGLE_WRITER) {
    return absl::InvalidArgumentError(absl::StrCat(
        "volume_capability.access_mode ", AccessMode::Mode_Name(mode),
        " is not possible with a file system: ext4 and xfs cannot be mounted on several nodes "
        "while "
        "one of them writes; use a raw block volume (volumeMode: Block), or one node"));
  }
  if (const std::string& type = mount.fs_type(); !type.empty() && type != "ext4" && type != "xfs") {
    return absl::InvalidArgumentError(
        absl::StrCat("volume_capability.mount.fs_type must be ext4 or xfs, or empty for ext4"));
  }
  if (!mount.volume_mount_group().empty()) {
    return absl::InvalidArgumentError(
        "volume_capability.mount.volume_mount_group is not supported; it must be empty");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSizes(const Message& request) {
  const Reflection& reflection = *request.GetReflection();
  for (int i = 0; i < request.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *request.GetDescriptor()->field(i);
    if (field.is_map()) {
      RETURN_IF_ERROR(CheckMap(request, field));
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      RETURN_IF_ERROR(CheckStrings(request, field));
    } else if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      continue;
    } else if (field.is_repeated()) {
      for (int item = 0; item < reflection.FieldSize(request, &field); ++item) {
        RETURN_IF_ERROR(CheckSizes(reflection.GetRepeatedMessage(request, &field, item)));
      }
    } else if (reflection.HasField(request, &field)) {
      RETURN_IF_ERROR(CheckSizes(reflection.GetMessage(request, &field)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckName(std::string_view field, const std::string& name) {
  RETURN_IF_ERROR(CheckPresent(field, name));
  for (std::size_t i = 0; i < name.size(); ++i) {
    const auto c = static_cast<unsigned char>(name[i]);
    const bool low = c < 0x20 && c != '\t' && c != '\n' && c != '\r';
    // U+0080 to U+009F are C2 80 to C2 9F in UTF-8, which protobuf has checked.
    const bool high =
        c == 0xC2 && i + 1 < name.size() && static_cast<unsigned char>(name[i + 1]) <= 0x9F;
    if (low || high || c == 0x7F) {
      return absl::InvalidArgumentError(
          absl::StrCat(std::string(field), " has a control character; none is allowed"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPresent(std::string_view field, const std::string& value) {
  if (!value.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(std::string(field), " is missing"));
}

bool CanBeId(std::string_view id) {
  return !id.empty() && id.size() <= kOurIdBytesMax &&
         std::all_of(id.begin(), id.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

std::string ShownId(const std::string& id) { return CanBeId(id) ? id : "(an id that is not ours)"; }

bool CanBeNode(std::string_view name) {
  return !name.empty() && name.size() <= kLabelBytesMax && IsAlphanumericOr("", name.front()) &&
         IsAlphanumericOr("", name.back()) &&
         std::all_of(name.begin(), name.end(), [](char c) { return IsAlphanumericOr("._-", c); });
}

absl::Status CheckCapability(const pb::VolumeCapability& capability) {
  const AccessMode::Mode mode = capability.access_mode().mode();
  if (mode == AccessMode::UNKNOWN || !AccessMode::Mode_IsValid(mode)) {
    return absl::InvalidArgumentError(
        "volume_capability.access_mode is missing, or not one of this version of the "
        "specification");
  }
  switch (capability.access_type_case()) {
    case pb::VolumeCapability::kBlock:
      return absl::OkStatus();
    case pb::VolumeCapability::kMount:
      return CheckMount(capability.mount(), mode);
    case pb::VolumeCapability::ACCESS_TYPE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("volume_capability must be of type block or mount");
}

absl::Status CheckCapabilities(
    const google::protobuf::RepeatedPtrField<pb::VolumeCapability>& capabilities) {
  if (capabilities.empty()) return absl::InvalidArgumentError("volume_capabilities is missing");
  for (const pb::VolumeCapability& capability : capabilities) {
    RETURN_IF_ERROR(CheckCapability(capability));
  }
  return absl::OkStatus();
}

absl::Status CheckCapacityRange(const pb::CapacityRange& range) {
  if (range.required_bytes() < 0 || range.limit_bytes() < 0) {
    return absl::InvalidArgumentError("capacity_range must not be negative");
  }
  if (range.required_bytes() == 0 && range.limit_bytes() == 0) {
    return absl::InvalidArgumentError(
        "capacity_range must have required_bytes, limit_bytes or both, or be absent");
  }
  if (range.limit_bytes() != 0 && range.limit_bytes() < range.required_bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat("capacity_range.limit_bytes (", range.limit_bytes(),
                     ") is below required_bytes (", range.required_bytes(), ")"));
  }
  return absl::OkStatus();
}

absl::Status CheckMaxEntries(std::int32_t max_entries) {
  if (max_entries >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError("max_entries must not be negative; 0 is no limit");
}

bool IsReserved(std::string_view key) {
  const absl::string_view text(key.data(), key.size());
  return absl::StartsWith(text, "csi.storage.k8s.io/") ||
         absl::StartsWith(text, "storage.kubernetes.io/");
}

bool IsReaderOnly(AccessMode::Mode mode) {
  return mode == AccessMode::SINGLE_NODE_READER_ONLY || mode == AccessMode::MULTI_NODE_READER_ONLY;
}

}  // namespace keelson::csi
