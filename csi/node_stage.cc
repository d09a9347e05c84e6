// NodeStageVolume and NodeUnstageVolume: the file system of a volume, mounted once for the node.

#include <spdlog/spdlog.h>

#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "csi/beneath.h"
#include "csi/call.h"
#include "csi/checks.h"
#include "csi/node.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

constexpr char kAttachmentKey[] = "keelson.io/attachment";
constexpr char kReadOnlyKey[] = "keelson.io/read-only";
constexpr char kDefaultFsType[] = "ext4";
constexpr std::uint64_t kFsBlockBytes = 4096;

// The block store may have attached it again since, under a higher number, but what it serves must
// not be older than the publication: that would be an attachment which another node has ended.
absl::Status CheckAttachment(const StringMap& publish_context, std::uint64_t served,
                             const std::string& volume_id) {
  const auto found = publish_context.find(kAttachmentKey);
  std::uint64_t published = 0;
  if (found != publish_context.end()) {
    const char* end = found->second.data() + found->second.size();
    const auto [stopped, error] = std::from_chars(found->second.data(), end, published);
    if (error != std::errc() || stopped != end) published = 0;
  }
  if (published == 0) {
    return absl::InvalidArgumentError(absl::StrCat("publish_context must have ", kAttachmentKey,
                                                   ", a number, as ControllerPublishVolume gave "
                                                   "it"));
  }
  if (served >= published) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("volume ", volume_id, " is served here by attachment ",
                                             served, ", which is older than ", published,
                                             ", the one that was published; try again"));
}

bool IsReadOnly(const pb::NodeStageVolumeRequest& request, const Device& device) {
  const auto found = request.publish_context().find(kReadOnlyKey);
  return IsReaderOnly(request.volume_capability().access_mode().mode()) || device.read_only ||
         (found != request.publish_context().end() && found->second == "true");
}

absl::Status CheckStaged(const Mounted& there, const Device& device, const std::string& fs_type,
                         const MountOptions& options) {
  const char* difference = nullptr;
  if (there.device != device.number || !there.whole || there.block) {
    difference = "something else is mounted there";
  } else if (!fs_type.empty() && there.fs_type != fs_type) {
    difference = "it is staged there with another file system";
  } else if (there.read_only != options.read_only) {
    difference =
        there.read_only ? "it is staged there read-only" : "it is staged there for writing";
  } else if (there.attributes != options.attributes) {
    difference = "it is staged there with other mount flags";
  }
  if (difference == nullptr) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("staging_target_path ", there.path, ": ", difference, "; unstage it first"));
}

// What a device holds that is in use at `places` already.
absl::StatusOr<std::string> TypeInUse(const std::vector<Mounted>& places, const std::string& asked,
                                      const std::string& volume_id) {
  for (const Mounted& place : places) {
    if (place.block) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", volume_id, " is published as a raw device at ", place.path,
                       " and is not mounted under its user; unpublish it there first"));
    }
    if (!asked.empty() && place.fs_type != asked) {
      return absl::FailedPreconditionError(absl::StrCat("volume ", volume_id, " holds ",
                                                        place.fs_type, " and not ", asked,
                                                        "; it is mounted at ", place.path));
    }
  }
  return places.front().fs_type;
}

// What the file system needs beside what was asked for.
MountOptions WithDefaults(MountOptions options, const std::string& fs_type) {
  if (fs_type == "xfs") {
    // A clone or a restored snapshot has its source's uuid, and both may be here.
    options.file_system.emplace_back("nouuid", "");
  }
  if (options.read_only) {
    // The journal is not replayed: that would write.
    options.file_system.emplace_back(fs_type == "xfs" ? "norecovery" : "noload", "");
  }
  return options;
}

}  // namespace

grpc::Status Node::NodeStageVolume(grpc::ServerContext* context,
                                   const pb::NodeStageVolumeRequest* request,
                                   pb::NodeStageVolumeResponse* response) {
  return Call(*context, "NodeStageVolume", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    RETURN_IF_ERROR(CheckPresent("staging_target_path", request->staging_target_path()));
    if (!request->has_volume_capability()) {
      return absl::InvalidArgumentError("volume_capability is missing");
    }
    RETURN_IF_ERROR(CheckCapability(request->volume_capability()));
    RETURN_IF_ERROR(
        CheckPath("staging_target_path", request->staging_target_path(), options_.mount_root));
    return Work(*context, ShownId(request->volume_id()), *request, response,
                [this](const pb::NodeStageVolumeRequest& asked, pb::NodeStageVolumeResponse*) {
                  return Stage(asked);
                });
  });
}

absl::Status Node::Stage(const pb::NodeStageVolumeRequest& request) {
  const pb::VolumeCapability& capability = request.volume_capability();
  ASSIGN_OR_RETURN(MountOptions options, ParseMountFlags(capability.mount().mount_flags()));
  ASSIGN_OR_RETURN(const Served served, FindServed(request.volume_id()));
  RETURN_IF_ERROR(
      CheckAttachment(request.publish_context(), served.status.attachment(), request.volume_id()));
  if (capability.has_block()) return absl::OkStatus();
  options.read_only = options.read_only || IsReadOnly(request, served.device);
  return StageFilesystem(request, served, options);
}

absl::Status Node::StageFilesystem(const pb::NodeStageVolumeRequest& request, const Served& served,
                                   const MountOptions& options) {
  const std::string& path = request.staging_target_path();
  const std::string& asked = request.volume_capability().mount().fs_type();
  const Device& device = served.device;
  ASSIGN_OR_RETURN(const std::optional<Mounted> there, host_.MountedAt(path));
  if (there.has_value()) {
    RETURN_IF_ERROR(CheckStaged(*there, device, asked, options));
    // Whoever mounted it may have ended before it grew it.
    return options.read_only ? absl::OkStatus() : host_.Grow(device, there->fs_type, path);
  }
  // Mounted elsewhere already: neither made nor checked under its users.
  ASSIGN_OR_RETURN(const std::vector<Mounted> elsewhere, host_.MountsOf(device.number));
  Signature signature;
  if (elsewhere.empty()) {
    ASSIGN_OR_RETURN(signature, Prepare(served, request.volume_id(), asked, options.read_only));
  } else {
    ASSIGN_OR_RETURN(signature.fs_type, TypeInUse(elsewhere, asked, request.volume_id()));
  }
  bool grow = !options.read_only && !elsewhere.empty();
  if (!options.read_only && elsewhere.empty() &&
      signature.fs_size_bytes / kFsBlockBytes < device.size_bytes / kFsBlockBytes) {
    ASSIGN_OR_RETURN(const bool grown, host_.GrowUnmounted(device, signature.fs_type));
    grow = !grown;
  }
  RETURN_IF_ERROR(
      host_.Mount(device, signature.fs_type, WithDefaults(options, signature.fs_type), path));
  spdlog::info("event=staged volume={} device={} fs={} read_only={}", request.volume_id(),
               device.path, signature.fs_type, options.read_only);
  return grow ? host_.Grow(device, signature.fs_type, path) : absl::OkStatus();
}

absl::StatusOr<Signature> Node::Prepare(const Served& served, const std::string& volume_id,
                                        const std::string& fs_type, bool read_only) {
  const Device& device = served.device;
  ASSIGN_OR_RETURN(Signature signature, host_.Probe(device));
  if (signature.fs_type.empty()) {
    signature.fs_type = fs_type.empty() ? kDefaultFsType : fs_type;
    if (read_only) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", volume_id,
                       " has no file system yet and is published read-only; "
                       "publish it for writing once, or make it from a snapshot"));
    }
    spdlog::info("event=format volume={} device={} fs={}", volume_id, device.path,
                 signature.fs_type);
    RETURN_IF_ERROR(host_.Format(device, signature.fs_type));
    signature.fs_size_bytes = device.size_bytes;
    return signature;
  }
  const bool known = signature.fs_type == "ext4" || signature.fs_type == "xfs";
  if (!known || (!fs_type.empty() && signature.fs_type != fs_type)) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", volume_id, " holds ", signature.fs_type, " and not ",
                     fs_type.empty() ? "ext4 or xfs" : fs_type,
                     "; it is left as it is. Ask for what it holds, "
                     "or erase it with 'wipefs' if nobody needs that"));
  }
  if (!read_only) RETURN_IF_ERROR(host_.Check(device, signature.fs_type));
  return signature;
}

grpc::Status Node::NodeUnstageVolume(grpc::ServerContext* context,
                                     const pb::NodeUnstageVolumeRequest* request,
                                     pb::NodeUnstageVolumeResponse* response) {
  return Call(*context, "NodeUnstageVolume", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    RETURN_IF_ERROR(
        CheckPath("staging_target_path", request->staging_target_path(), options_.mount_root));
    return Work(*context, ShownId(request->volume_id()), *request, response,
                [this](const pb::NodeUnstageVolumeRequest& asked, pb::NodeUnstageVolumeResponse*) {
                  return Unstage(asked);
                });
  });
}

absl::Status Node::Unstage(const pb::NodeUnstageVolumeRequest& request) {
  const std::string& path = request.staging_target_path();
  ASSIGN_OR_RETURN(const std::optional<Mounted> there, host_.MountedAt(path));
  if (!there.has_value()) return absl::OkStatus();
  if (!there->block) {
    ASSIGN_OR_RETURN(const std::vector<Mounted> places, host_.MountsOf(there->device));
    for (const Mounted& place : places) {
      if (place.path == path) continue;
      return absl::FailedPreconditionError(absl::StrCat("volume ", ShownId(request.volume_id()),
                                                        " is still published at ", place.path,
                                                        "; NodeUnpublishVolume comes first"));
    }
  }
  RETURN_IF_ERROR(host_.Unmount(path));
  spdlog::info("event=unstaged volume={}", ShownId(request.volume_id()));
  return absl::OkStatus();
}

}  // namespace keelson::csi
