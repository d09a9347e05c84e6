#include "tests/unit/conformance/machine.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

constexpr char kDevices[] = "/dev/";

std::string VolumeOf(const std::string& device_path) {
  return device_path.substr(std::string(kDevices).size());
}

}  // namespace

std::string Machine::ContentText(const Signature& signature) {
  return signature.fs_type.empty() ? ""
                                   : absl::StrCat(signature.fs_type, ":", signature.fs_size_bytes);
}

Signature Machine::ParseContent(const std::string& text) {
  Signature signature;
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) return signature;
  signature.fs_type = text.substr(0, colon);
  EXPECT_TRUE(absl::SimpleAtoi(text.substr(colon + 1), &signature.fs_size_bytes));
  return signature;
}

void Machine::Load(const std::string& device_path) {
  FakeHost::Disk& disk = host_.DiskAt(device_path);
  disk.device.size_bytes = nodes_.SizeOf(VolumeOf(device_path));
  disk.content = ParseContent(nodes_.ContentOf(VolumeOf(device_path)));
}

void Machine::Save(const std::string& device_path) {
  nodes_.SetContent(VolumeOf(device_path), ContentText(host_.DiskAt(device_path).content));
}

std::vector<Mounted> Machine::mounts() {
  const std::lock_guard lock(mutex_);
  return host_.mounts();
}

std::size_t Machine::target_count() {
  const std::lock_guard lock(mutex_);
  return targets_.size();
}

void Machine::SetBusy(const std::string& path, bool busy) {
  const std::lock_guard lock(mutex_);
  busy ? static_cast<void>(busy_.insert(path)) : static_cast<void>(busy_.erase(path));
}

absl::StatusOr<Device> Machine::FindDevice(const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("FindDevice"));
  if (path.rfind(kDevices, 0) != 0) return absl::NotFoundError("there is no such device");
  // It goes with what it showed, also in the middle of somebody's call.
  if (nodes_.EnginesOf(VolumeOf(path)).empty()) {
    return absl::NotFoundError("there is no such device");
  }
  Load(path);
  Device device = host_.DiskAt(path).device;
  device.read_only = nodes_.IsReadOnly(VolumeOf(path));
  return device;
}

absl::StatusOr<std::optional<Mounted>> Machine::MountedAt(const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("MountedAt"));
  return host_.MountedAt(path);
}

absl::StatusOr<std::vector<Mounted>> Machine::MountsOf(dev_t device) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("MountsOf"));
  return host_.MountsOf(device);
}

absl::StatusOr<Signature> Machine::Probe(const Device& device) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("Probe"));
  Load(device.path);
  return host_.Probe(device);
}

absl::Status Machine::Format(const Device& device, const std::string& fs_type) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("Format"));
  EXPECT_EQ(nodes_.ContentOf(VolumeOf(device.path)), "") << "what is there was formatted";
  RETURN_IF_ERROR(host_.Format(device, fs_type));
  Save(device.path);
  return absl::OkStatus();
}

absl::Status Machine::Check(const Device& device, const std::string& fs_type) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("Check"));
  return host_.Check(device, fs_type);
}

absl::Status Machine::Mount(const Device& device, const std::string& fs_type,
                            const MountOptions& options, const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("Mount"));
  Load(device.path);
  EXPECT_EQ(host_.DiskAt(device.path).content.fs_type, fs_type) << "mounted as something else";
  return host_.Mount(device, fs_type, options, path);
}

absl::StatusOr<bool> Machine::GrowUnmounted(const Device& device, const std::string& fs_type) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("GrowUnmounted"));
  return host_.GrowUnmounted(device, fs_type);
}

absl::Status Machine::Grow(const Device& device, const std::string& fs_type,
                           const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("Grow"));
  Load(device.path);
  RETURN_IF_ERROR(host_.Grow(device, fs_type, path));
  Save(device.path);
  return absl::OkStatus();
}

absl::StatusOr<bool> Machine::MakeTarget(const std::string& path, bool directory) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("MakeTarget"));
  targets_.insert(path);
  return host_.MakeTarget(path, directory);
}

absl::Status Machine::RemoveTarget(const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("RemoveTarget"));
  targets_.erase(path);
  return host_.RemoveTarget(path);
}

absl::Status Machine::Bind(const std::string& from, dev_t device, const std::string& target,
                           bool read_only) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("Bind"));
  EXPECT_TRUE(host_.Exists(target));
  return host_.Bind(from, device, target, read_only);
}

absl::Status Machine::BindDevice(const Device& device, const std::string& target) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("BindDevice"));
  EXPECT_TRUE(host_.Exists(target));
  return host_.BindDevice(device, target);
}

absl::Status Machine::Unmount(const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("Unmount"));
  if (busy_.count(path) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is in use"));
  }
  return host_.Unmount(path);
}

absl::StatusOr<Usage> Machine::GetUsage(const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(fuse_.Event("GetUsage"));
  return host_.GetUsage(path);
}

}  // namespace keelson::csi
