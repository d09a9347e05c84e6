#pragma once
// KernelHost: Host on the machine that this process runs on. Needs CAP_SYS_ADMIN and Linux 5.12
// (open_tree, mount_setattr). Any thread.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "csi/beneath.h"
#include "csi/host.h"
#include "csi/mount_table.h"

namespace keelson::csi {

class KernelHost final : public Host {
 public:
  // Every path must be below `mount_root`, a directory that exists.
  static absl::StatusOr<std::unique_ptr<KernelHost>> Open(const std::string& mount_root);

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

 private:
  KernelHost(std::string mount_root, Beneath beneath)
      : mount_root_(std::move(mount_root)), beneath_(std::move(beneath)) {}

  // Whether a mount ends exactly at the place, and which.
  absl::StatusOr<std::optional<int>> MountIdAt(const Beneath::Place& place);

  const std::string mount_root_;
  const Beneath beneath_;
};

}  // namespace keelson::csi
