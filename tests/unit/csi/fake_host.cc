#include "tests/unit/csi/fake_host.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

constexpr std::uint64_t kDiskBytes = std::uint64_t{1} << 30;

}  // namespace

FakeHost::Disk& FakeHost::DiskAt(const std::string& path) {
  const auto [found, made] = disks_.try_emplace(path);
  if (made) {
    found->second.device.path = path;
    found->second.device.number = 700 + disks_.size();
    found->second.device.size_bytes = kDiskBytes;
  }
  return found->second;
}

int FakeHost::Count(const std::string& operation) const {
  return static_cast<int>(std::count(calls_.begin(), calls_.end(), operation));
}

absl::Status FakeHost::Begin(const std::string& operation) {
  if (before) RETURN_IF_ERROR(before(operation));
  const std::lock_guard<std::mutex> lock(mutex_);
  calls_.push_back(operation);
  return absl::OkStatus();
}

absl::StatusOr<Device> FakeHost::FindDevice(const std::string& path) {
  RETURN_IF_ERROR(Begin("FindDevice"));
  return DiskAt(path).device;
}

absl::StatusOr<std::optional<Mounted>> FakeHost::MountedAt(const std::string& path) {
  RETURN_IF_ERROR(Begin("MountedAt"));
  for (auto it = mounts_.rbegin(); it != mounts_.rend(); ++it) {
    if (it->path == path) return std::optional<Mounted>(*it);
  }
  return std::optional<Mounted>();
}

absl::StatusOr<std::vector<Mounted>> FakeHost::MountsOf(dev_t device) {
  std::vector<Mounted> found;
  for (const Mounted& mounted : mounts_) {
    if (mounted.device == device && mounted.whole) found.push_back(mounted);
  }
  return found;
}

absl::StatusOr<Signature> FakeHost::Probe(const Device& device) {
  RETURN_IF_ERROR(Begin("Probe"));
  return DiskAt(device.path).content;
}

absl::Status FakeHost::Format(const Device& device, const std::string& fs_type) {
  RETURN_IF_ERROR(Begin("Format"));
  DiskAt(device.path).content = {fs_type, device.size_bytes};
  return absl::OkStatus();
}

absl::Status FakeHost::Check(const Device&, const std::string&) { return Begin("Check"); }

absl::Status FakeHost::Mount(const Device& device, const std::string& fs_type,
                             const MountOptions& options, const std::string& path) {
  RETURN_IF_ERROR(Begin("Mount"));
  last_options = options;
  Mounted mounted;
  mounted.path = path;
  mounted.device = device.number;
  mounted.fs_type = fs_type;
  mounted.read_only = mounted.fs_read_only = options.read_only;
  mounted.attributes = options.attributes;
  mounts_.push_back(mounted);
  return absl::OkStatus();
}

absl::StatusOr<bool> FakeHost::GrowUnmounted(const Device& device, const std::string&) {
  if (grows_mounted) return false;
  RETURN_IF_ERROR(Begin("GrowUnmounted"));
  DiskAt(device.path).content.fs_size_bytes = device.size_bytes;
  return true;
}

absl::Status FakeHost::Grow(const Device& device, const std::string&, const std::string&) {
  RETURN_IF_ERROR(Begin("Grow"));
  DiskAt(device.path).content.fs_size_bytes = device.size_bytes;
  return absl::OkStatus();
}

absl::StatusOr<bool> FakeHost::MakeTarget(const std::string& path, bool) {
  RETURN_IF_ERROR(Begin("MakeTarget"));
  return paths_.insert(path).second;
}

absl::Status FakeHost::RemoveTarget(const std::string& path) {
  RETURN_IF_ERROR(Begin("RemoveTarget"));
  paths_.erase(path);
  return absl::OkStatus();
}

absl::Status FakeHost::Bind(const std::string& from, dev_t device, const std::string& target,
                            bool read_only) {
  RETURN_IF_ERROR(Begin("Bind"));
  for (const Mounted& mounted : mounts_) {
    if (mounted.path != from || mounted.device != device) continue;
    Mounted view = mounted;
    view.path = target;
    view.read_only = view.read_only || read_only;
    mounts_.push_back(view);
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError("nothing is mounted there");
}

absl::Status FakeHost::BindDevice(const Device& device, const std::string& target) {
  RETURN_IF_ERROR(Begin("BindDevice"));
  Mounted mounted;
  mounted.path = target;
  mounted.device = device.number;
  mounted.block = true;
  mounts_.push_back(mounted);
  return absl::OkStatus();
}

absl::Status FakeHost::Unmount(const std::string& path) {
  RETURN_IF_ERROR(Begin("Unmount"));
  mounts_.erase(std::remove_if(mounts_.begin(), mounts_.end(),
                               [&](const Mounted& mounted) { return mounted.path == path; }),
                mounts_.end());
  return absl::OkStatus();
}

absl::StatusOr<Usage> FakeHost::GetUsage(const std::string&) {
  RETURN_IF_ERROR(Begin("GetUsage"));
  return Usage{1000, 600, 300, 50, 40};
}

}  // namespace keelson::csi
