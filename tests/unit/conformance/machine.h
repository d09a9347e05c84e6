#pragma once
// Machine: the kernel of one node. Mounts and paths are a FakeHost's; what is on a volume's device,
// and how large that is, the block stores say, so that snapshots and clones carry their file
// systems with them. Every call passes the fuse. Any thread.

#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "csi/host.h"
#include "tests/unit/conformance/fuse.h"
#include "tests/unit/csi/fake_host.h"
#include "tests/unit/provisioner/service/fake_nodes.h"

namespace keelson::csi {

class Machine final : public Host {
 public:
  Machine(provisioner::FakeNodes* nodes, Fuse* fuse) : nodes_(*nodes), fuse_(*fuse) {}

  // What is mounted, in order, and how many paths were made for it.
  std::vector<Mounted> mounts();
  std::size_t target_count();
  // What is mounted there is in use, or is not any more.
  void SetBusy(const std::string& path, bool busy);

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

  // "ext4:1073741824", and back.
  static std::string ContentText(const Signature& signature);
  static Signature ParseContent(const std::string& text);

 private:
  // The device with the volume's content in it, and back into the volume. The lock is held.
  void Load(const std::string& device_path);
  void Save(const std::string& device_path);

  provisioner::FakeNodes& nodes_;
  Fuse& fuse_;
  std::mutex mutex_;
  FakeHost host_;
  std::set<std::string> targets_;
  std::set<std::string> busy_;
};

}  // namespace keelson::csi
