#include "csi/mount_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

struct Attribute {
  std::string_view name;
  std::uint64_t clear;
  std::uint64_t set;
};

constexpr Attribute kAttributes[] = {
    {"nosuid", 0, MOUNT_ATTR_NOSUID},
    {"suid", MOUNT_ATTR_NOSUID, 0},
    {"nodev", 0, MOUNT_ATTR_NODEV},
    {"dev", MOUNT_ATTR_NODEV, 0},
    {"noexec", 0, MOUNT_ATTR_NOEXEC},
    {"exec", MOUNT_ATTR_NOEXEC, 0},
    {"nodiratime", 0, MOUNT_ATTR_NODIRATIME},
    {"diratime", MOUNT_ATTR_NODIRATIME, 0},
    {"nosymfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
    {"symfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"noatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME},
    {"strictatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_STRICTATIME},
    {"relatime", MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME},
    {"atime", MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME},
};

constexpr std::string_view kForMountProgram[] = {"defaults", "_netdev", "nofail",
                                                 "auto",     "noauto",  "nouser"};

constexpr std::string_view kRefused[] = {
    "bind",        "rbind",        "move",     "remount",    "shared",      "rshared", "slave",
    "rslave",      "private",      "rprivate", "unbindable", "runbindable", "loop",    "offset",
    "sizelimit",   "user",         "users",    "owner",      "group",       "helper",  "uhelper",
    "journal_dev", "journal_path", "logdev",   "rtdev",      "source",
};

bool Contains(const std::string_view* begin, const std::string_view* end, std::string_view name) {
  return std::find(begin, end, name) != end;
}

std::vector<std::string> Split(const std::string& flag) {
  std::vector<std::string> parts(1);
  bool quoted = false;
  for (const char c : flag) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

bool ApplyAttribute(std::string_view name, std::uint64_t* attributes) {
  for (const Attribute& attribute : kAttributes) {
    if (attribute.name != name) continue;
    *attributes = (*attributes & ~attribute.clear) | attribute.set;
    return true;
  }
  return false;
}

absl::Status Apply(const std::string& option, MountOptions* options) {
  const std::size_t equals = option.find('=');
  const std::string name = option.substr(0, equals);
  if (name.empty() || absl::StartsWith(name, "x-") ||
      Contains(std::begin(kForMountProgram), std::end(kForMountProgram), name)) {
    return absl::OkStatus();
  }
  if (Contains(std::begin(kRefused), std::end(kRefused), name)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "mount_flags: '", name, "' is not possible for a volume; remove it from mountOptions"));
  }
  if (equals == std::string::npos && (name == "ro" || name == "rw")) {
    options->read_only = name == "ro";
    return absl::OkStatus();
  }
  if (equals == std::string::npos && ApplyAttribute(name, &options->attributes)) {
    return absl::OkStatus();
  }
  options->file_system.emplace_back(name,
                                    equals == std::string::npos ? "" : option.substr(equals + 1));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MountOptions> ParseMountFlags(
    const google::protobuf::RepeatedPtrField<std::string>& flags) {
  MountOptions options;
  for (const std::string& flag : flags) {
    if (flag.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError("mount_flags: an option has a zero byte");
    }
    for (const std::string& option : Split(flag)) RETURN_IF_ERROR(Apply(option, &options));
  }
  return options;
}

std::uint64_t AttributesOf(const std::string& mountinfo_options) {
  // Neither noatime nor relatime in the table means that every access is recorded.
  std::uint64_t attributes = MOUNT_ATTR_STRICTATIME;
  for (const absl::string_view name : absl::StrSplit(mountinfo_options, ',')) {
    ApplyAttribute(std::string_view(name.data(), name.size()), &attributes);
  }
  return attributes;
}

}  // namespace keelson::csi
