#pragma once
// LoopFrontend: volumes as block devices: for each a FUSE file system that is one file, served by
// the reactor of the volume's engine (FuseFrontend), and a loop device on that file. This is the
// part that mounts, keeps (KeeperClient), sets up and takes away; no I/O of volumes passes here.
//
// Owned by Node; called from its threads, one call at a time for each volume. Every call may take
// seconds, because what may wait for the file is done by another process with a deadline; none is
// for ever. docs/frontends.md has the reasons.
//
// Of each volume it has nothing, a *kept* connection that an earlier daemon left and nobody serves
// (its I/O waits), or a device.

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/service/keeper_client.h"
#include "blockstore/service/shard.h"

namespace keelson::service {

class LoopFrontend {
 public:
  struct Device {
    std::string path;     // "/dev/loop3"; empty while it only gives errors until it can be removed
    std::string warning;  // what it lacks; empty: nothing
  };

  explicit LoopFrontend(const std::string& run_directory);

  // Finds what an earlier daemon left behind: connections are kept until they are attached or
  // detached.
  absl::Status Recover();
  // The volumes of which only files and devices without a connection are left.
  std::vector<std::string> DeadNames() const;
  // Takes those of one volume away. FAILED_PRECONDITION: the device is in use, by whom.
  absl::Status RemoveDead(const std::string& name);
  // OK: this machine has what is needed. Else FAILED_PRECONDITION, what is missing.
  absl::Status CheckWorks() const;

  // Shows the volume that `shard` serves. Goes on with a kept connection. Without effect when it
  // has a device.
  absl::StatusOr<Device> Attach(const std::string& name, Shard* shard, bool read_only);
  // Serves a kept connection with errors, so that whoever waits for it goes on.
  absl::Status Fail(const std::string& name, Shard* shard);
  // FAILED_PRECONDITION: it is in use, by whom. OK when there is nothing.
  absl::Status Detach(const std::string& name);
  // Gives the device the present size of the volume. OK when there is none.
  absl::Status Grow(const std::string& name);

  std::optional<Device> Find(const std::string& name) const;
  // It has a device, or a kept connection.
  bool Has(const std::string& name) const;
  // Of everything it has.
  std::vector<std::string> Names() const;

 private:
  // What the keeper is told to remember, and what is known of a device.
  struct Note {
    int loop_index = -1;
    std::uint64_t file_device = 0;  // st_dev of the FUSE file
    bool kernel_resends = false;
    bool read_only = false;
  };
  struct Shown {
    Note note;
    Descriptor connection;
    Shard* shard = nullptr;
    bool failed = false;  // it was adopted to give errors
  };

  static std::string FormatNote(const Note& note);
  static absl::StatusOr<Note> ParseNote(const std::string& text);
  std::string PathOf(const std::string& name) const { return directory_ + "/" + name; }

  absl::StatusOr<Device> Create(const std::string& name, Shard* shard, bool read_only);
  absl::StatusOr<Note> MakeDevice(const std::string& name, Shard* shard,
                                  const Descriptor& connection, bool read_only);
  // Begins to serve a kept connection.
  absl::Status Adopt(const std::string& name, Shard* shard, bool with_errors);
  absl::Status Serve(const std::string& name, Shard* shard, const Descriptor& connection,
                     bool with_errors, std::optional<bool> adopted);
  // Takes away everything but the loop device, which is gone.
  absl::Status Forget(const std::string& name);
  Device Describe(const std::string& name, const Shown& shown) const;
  absl::StatusOr<std::string> RunHelper(const std::string& act,
                                        const std::vector<std::string>& arguments);
  std::optional<Note> NoteOf(const std::string& name) const;

  const std::string directory_;  // RUN_DIR/loop
  const std::string program_;
  KeeperClient keeper_;

  mutable std::mutex mutex_;  // of the tables; never held during a call of anything that waits
  std::map<std::string, KeeperClient::Kept> kept_;
  std::map<std::string, Shown> shown_;
};

}  // namespace keelson::service
