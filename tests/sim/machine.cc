#include "tests/sim/machine.h"

#include <utility>

#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_meta_store.h"
#include "tests/sim/world.h"

namespace keelson::sim {

Machine::Machine(World* world, std::string host)
    : world_(world), host_(std::move(host)), boot_(world->MakeId()) {}

Machine::~Machine() = default;

SimDisk* Machine::AddDisk(const std::string& path, std::uint64_t size_bytes) {
  std::unique_ptr<SimDisk>& disk = disks_[path];
  if (disk == nullptr) disk = std::make_unique<SimDisk>(world_, path, size_bytes);
  return disk.get();
}

SimDisk* Machine::FindDisk(const std::string& path) {
  const auto found = disks_.find(path);
  return found == disks_.end() ? nullptr : found->second.get();
}

SimMetaDisk* Machine::AddMetaDisk(const std::string& path) {
  std::unique_ptr<SimMetaDisk>& disk = meta_disks_[path];
  if (disk == nullptr) disk = std::make_unique<SimMetaDisk>(world_);
  return disk.get();
}

void Machine::ProcessDied(SimReactor* process) {
  for (auto& [path, disk] : disks_) disk->ProcessDied(process);
  for (auto& [path, disk] : meta_disks_) disk->ProcessDied(process);
  std::erase(processes_, process);
}

void Machine::LoseUnflushed() {
  for (auto& [path, disk] : disks_) disk->PowerCut();
  for (auto& [path, disk] : meta_disks_) disk->PowerCut();
  boot_ = pool::BootId(world_->MakeId());
}

}  // namespace keelson::sim
