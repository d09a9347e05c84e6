#pragma once
// Model: what the driver must answer to any sequence of calls, and what it must have in the end: a
// second, simple statement of the specification's rules (csi.proto) and of ours where it leaves
// choices. Sizes in bytes. A value: copy it to try what would be. One thread.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/conformance/call.h"

namespace keelson::csi {

class Model {
 public:
  struct Publication {
    Call as;  // mode, kind, file system, flags, readonly
    bool read_only = false;
    std::map<std::string, std::string> context;
  };
  struct Volume {
    std::string id;
    Call made;  // as it was asked for
    std::int64_t size = 0;
    bool live = true;
    std::string fs;  // what it holds; empty: nothing yet
    std::int64_t fs_size = 0;
    std::int64_t iops = 0;
    std::map<std::string, Publication> on;  // by node
  };
  struct Snapshot {
    std::string id;
    std::string name;
    std::string volume;
    std::int64_t size = 0;
    bool live = true;
    std::string fs;
    std::int64_t fs_size = 0;
  };
  struct Place {
    std::string node;
    std::string path;
    std::string volume;
    bool target = false;  // published; otherwise staged
    bool block = false;
    std::string fs;
    bool noexec = false;
    bool read_only = false;
    bool fs_read_only = false;
  };

  // Does the call here. Empty: the answer is what it must be; otherwise why not.
  std::string Apply(const Call& call, const Answer& answer);

  // In the order in which they were made.
  const std::vector<Volume>& volumes() const { return volumes_; }
  const std::vector<Snapshot>& snapshots() const { return snapshots_; }
  const std::vector<Place>& places() const { return places_; }
  const Volume* FindVolume(const std::string& id) const;

 private:
  // What must come, with the id of the answer where something new is made.
  Answer Do(const Call& call, const Answer& answer);
  Answer CreateVolume(const Call& call, const Answer& answer);
  Answer DeleteVolume(const Call& call);
  Answer Publish(const Call& call, const Answer& answer);
  Answer Stage(const Call& call);
  Answer Unstage(const Call& call);
  Answer NodePublish(const Call& call);
  Answer Expand(const Call& call);
  Answer NodeExpand(const Call& call);
  Answer Modify(const Call& call);
  Answer CreateSnapshot(const Call& call, const Answer& answer);
  Answer ListVolumes() const;
  Answer ListSnapshots(const Call& call) const;

  Volume* Live(const std::string& id);
  Volume* LiveByName(const std::string& name);
  Snapshot* LiveSnapshot(const std::string& id);
  Publication* On(const Call& call);
  Place* At(const std::string& node, const std::string& path);
  // Places of the volume on the node but for one path.
  std::vector<const Place*> Others(const Call& call, const std::string& path) const;
  void Erase(const std::string& node, const std::string& path);

  std::vector<Volume> volumes_;
  std::vector<Snapshot> snapshots_;
  std::vector<Place> places_;
  std::set<std::string> ids_;  // all that were ever given out
};

}  // namespace keelson::csi
