#pragma once
// FakeHost: a machine in memory: devices with what is on them, mounts, directories. Any thread; it
// has one lock, which is not held while `before` runs.

#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "csi/host.h"

namespace keelson::csi {

class FakeHost final : public Host {
 public:
  struct Disk {
    Device device;
    Signature content;
  };

  // Called at the beginning of every operation with its name ("Format", ...); an error is its
  // result.
  std::function<absl::Status(const std::string& operation)> before;

  // The device of a volume, made at its first use.
  Disk& DiskAt(const std::string& path);
  // What is mounted, in order.
  std::vector<Mounted> mounts() const { return mounts_; }
  void MountBehindTheBack(const Mounted& mounted) { mounts_.push_back(mounted); }
  bool Exists(const std::string& path) const { return paths_.count(path) != 0; }
  // How often an operation was called.
  int Count(const std::string& operation) const;

  absl::StatusOr<Device> FindDevice(const std::string& path) override;
  absl::StatusOr<std::optional<Mounted>> MountedAt(const std::string& path) override;
  absl::StatusOr<std::vector<Mounted>> MountsOf(dev_t device) override;
  absl::StatusOr<Signature> Probe(const Device& device) override;
  absl::Status Format(const Device& device, const std::string& fs_type) override;
  absl::Status Check(const Device& device, const std::string& fs_type) override;
  absl::Status Mount(const Device& device, const std::string& fs_type, const MountOptions& options,
                     const std::string& path) override;
  absl::StatusOr<bool> GrowUnmounted(const Device& device, const std::string& fs_type) override;
  absl::Status Grow(const Device& device, const std::string& fs_type,
                    const std::string& path) override;
  absl::StatusOr<bool> MakeTarget(const std::string& path, bool directory) override;
  absl::Status RemoveTarget(const std::string& path) override;
  absl::Status Bind(const std::string& from, dev_t device, const std::string& target,
                    bool read_only) override;
  absl::Status BindDevice(const Device& device, const std::string& target) override;
  absl::Status Unmount(const std::string& path) override;
  absl::StatusOr<Usage> GetUsage(const std::string& path) override;

  MountOptions last_options;
  bool grows_mounted = true;

 private:
  absl::Status Begin(const std::string& operation);

  std::mutex mutex_;
  std::map<std::string, Disk> disks_;
  std::vector<Mounted> mounts_;
  std::set<std::string> paths_;
  std::vector<std::string> calls_;
};

}  // namespace keelson::csi
