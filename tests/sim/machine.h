#pragma once
// Machine: one computer of a World: a boot id, the processes that run on it now, and the disks that
// outlive them. Owned by the World, which also kills, pauses and cuts it. Two machines have nothing
// in common but the network and the time.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "blockstore/pool/ids.h"

namespace keelson::sim {

class SimDisk;
class SimMetaDisk;
class SimReactor;
class World;

class Machine {
 public:
  Machine(World* world, std::string host);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Its address in the World's network.
  const std::string& host() const { return host_; }
  // Another one after each power cut.
  const pool::BootId& boot() const { return boot_; }
  // The living ones, in the order they started.
  const std::vector<SimReactor*>& processes() const { return processes_; }

  // The disk at `path`; made (zeroes) when it does not exist.
  SimDisk* AddDisk(const std::string& path, std::uint64_t size_bytes);
  SimDisk* FindDisk(const std::string& path);
  SimMetaDisk* AddMetaDisk(const std::string& path);

 private:
  friend class World;
  void ProcessDied(SimReactor* process);
  void LoseUnflushed();

  World* world_;  // owns this
  std::string host_;
  pool::BootId boot_;
  std::vector<SimReactor*> processes_;
  std::map<std::string, std::unique_ptr<SimDisk>> disks_;
  std::map<std::string, std::unique_ptr<SimMetaDisk>> meta_disks_;
};

}  // namespace keelson::sim
