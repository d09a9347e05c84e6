#include "provisioner/service/request_checks.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"

namespace keelson::provisioner {

namespace api = control::v1;

namespace {

constexpr std::size_t kNameBytesMax = 128;
constexpr std::size_t kNodeNameBytesMax = 253;
constexpr std::size_t kMountFlagsBytesMax = 4096;

std::uint64_t RoundUp(std::uint64_t bytes) {
  return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

}  // namespace

absl::Status CheckName(std::string_view field, std::string_view name) {
  if (name.empty())
    return absl::InvalidArgumentError(absl::StrCat(std::string(field), " is missing"));
  if (name.size() > kNameBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(field), " has ", name.size(), " bytes; 128 are allowed"));
  }
  const bool control = std::any_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (!control) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(std::string(field), " has a control character"));
}

absl::Status CheckNodeName(std::string_view name) {
  const bool plain = !name.empty() && name.size() <= kNodeNameBytesMax && name != "." &&
                     name != ".." && std::all_of(name.begin(), name.end(), [](char c) {
                       return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                              (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-';
                     });
  if (plain) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "the name of a node must be 1 to 253 characters of A-Z, a-z, 0-9, '.', '_' and '-'");
}

absl::Status CheckSnapshotParameters(
    const google::protobuf::Map<std::string, std::string>& parameters) {
  for (const auto& [key, value] : parameters) {
    if (key.rfind("csi.storage.k8s.io/", 0) == 0) continue;
    if (key.rfind("storage.kubernetes.io/", 0) == 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("'", absl::CHexEscape(key.substr(0, 64)),
                     "' is no parameter of a snapshot; there are none"));
  }
  return absl::OkStatus();
}

absl::Status CheckCapability(const api::Capability& capability) {
  if (capability.access_mode() == api::ACCESS_MODE_UNSPECIFIED ||
      !api::AccessMode_IsValid(capability.access_mode())) {
    return absl::InvalidArgumentError(
        "the access mode of a volume capability is missing or unknown");
  }
  if (capability.block()) {
    if (capability.fs_type().empty() && capability.mount_flags().empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("a raw block volume has no file system and no mount flags");
  }
  const std::string& fs = capability.fs_type();
  if (!fs.empty() && fs != "ext4" && fs != "xfs") {
    return absl::InvalidArgumentError(
        absl::StrCat("file system '", fs.substr(0, 32), "' is not supported; ext4 and xfs are"));
  }
  std::size_t flag_bytes = 0;
  for (const std::string& flag : capability.mount_flags()) flag_bytes += flag.size();
  if (flag_bytes > kMountFlagsBytesMax) {
    return absl::InvalidArgumentError("the mount flags have more than 4096 bytes");
  }
  if (capability.access_mode() == api::MULTI_NODE_MULTI_WRITER ||
      capability.access_mode() == api::MULTI_NODE_SINGLE_WRITER) {
    return absl::InvalidArgumentError(
        "a file system cannot be written by one node and used by others: ReadWriteMany needs "
        "volumeMode: Block; or use ReadWriteOnce");
  }
  return absl::OkStatus();
}

absl::Status CheckCapabilities(
    const google::protobuf::RepeatedPtrField<api::Capability>& capabilities) {
  if (capabilities.empty()) return absl::InvalidArgumentError("volume_capabilities is missing");
  for (const api::Capability& capability : capabilities) {
    RETURN_IF_ERROR(CheckCapability(capability));
    if (capability.block() != capabilities[0].block()) {
      return absl::InvalidArgumentError(
          "a volume is either raw block or has a file system, not both");
    }
  }
  return absl::OkStatus();
}

bool Lives(const rec::VolumeRecord& record) {
  return record.state() == rec::VolumeRecord::MAKING || record.state() == rec::VolumeRecord::READY;
}

absl::Status CheckStillThere(const rec::VolumeRecord& record, const std::string& id) {
  if (Lives(record) && record.id() == id) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("there is no volume '", id, "'"));
}

bool IsMultiNode(api::AccessMode mode) {
  return mode == api::MULTI_NODE_READER_ONLY || mode == api::MULTI_NODE_SINGLE_WRITER ||
         mode == api::MULTI_NODE_MULTI_WRITER;
}

bool IsReadOnly(api::AccessMode mode) {
  return mode == api::SINGLE_NODE_READER_ONLY || mode == api::MULTI_NODE_READER_ONLY;
}

bool SameCapability(const api::Capability& a, const api::Capability& b) {
  return a.block() == b.block() && a.fs_type() == b.fs_type() &&
         a.access_mode() == b.access_mode() &&
         std::equal(a.mount_flags().begin(), a.mount_flags().end(), b.mount_flags().begin(),
                    b.mount_flags().end());
}

absl::StatusOr<std::uint64_t> SizeInRange(std::uint64_t required_bytes, std::uint64_t limit_bytes,
                                          std::uint64_t fallback_bytes) {
  if (limit_bytes != 0 && limit_bytes < required_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("capacity_range: limit_bytes ", limit_bytes,
                                                   " is less than required_bytes ",
                                                   required_bytes));
  }
  std::uint64_t bytes = required_bytes != 0 ? required_bytes : fallback_bytes;
  if (required_bytes == 0 && limit_bytes != 0 && limit_bytes < bytes) {
    bytes = limit_bytes / kBlockBytes * kBlockBytes;
  }
  if (bytes > kVolumeBytesMax) {
    return absl::OutOfRangeError(
        absl::StrCat("a volume of ", bytes, " bytes is too large; 1 PiB is the most"));
  }
  bytes = std::max(RoundUp(bytes), kVolumeBytesMin);
  if (limit_bytes != 0 && bytes > limit_bytes) {
    return absl::OutOfRangeError(
        absl::StrCat("capacity_range: the least volume that holds required_bytes has ", bytes,
                     " bytes, more than limit_bytes ", limit_bytes));
  }
  return bytes;
}

}  // namespace keelson::provisioner
