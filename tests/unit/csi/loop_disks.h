#pragma once
// LoopDisks: volumes as loop devices over sparse files in a directory. Needs root. One thread at a
// time.

#include <cstdint>
#include <map>
#include <string>

#include "tests/unit/csi/fake_cluster.h"

namespace keelson::csi {

class LoopDisks final : public Disks {
 public:
  explicit LoopDisks(std::string directory) : directory_(std::move(directory)) {}
  // Takes the devices away; the files stay.
  ~LoopDisks() override;

  absl::Status Make(const std::string& id, std::uint64_t size_bytes,
                    const std::string& source_id) override;
  // An attached device shows the new size at once.
  absl::Status Grow(const std::string& id, std::uint64_t size_bytes) override;
  void Delete(const std::string& id) override;
  absl::StatusOr<std::string> Attach(const std::string& id, bool read_only) override;
  absl::Status Detach(const std::string& id) override;

  std::string Path(const std::string& id) const;

 private:
  const std::string directory_;
  std::map<std::string, int> loops_;  // descriptors of the devices
};

}  // namespace keelson::csi
