#pragma once
// GroupReconciler: snapshots of several volumes at one point in time. The writes of all of them are
// held, then each is cut under its hold, then they are released. When one of them fails, what was
// cut is deleted and it begins anew: a group's snapshots are of one round, or there are none.
// Called by the queue's workers, one at a time for a key; blocking.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "provisioner/reconcile/environment.h"

namespace keelson::provisioner {

class GroupReconciler {
 public:
  explicit GroupReconciler(Environment* environment) : env_(environment) {}
  Outcome Run(const std::string& key);

 private:
  struct Part {
    std::string volume_id;
    std::string snapshot_id;
    BlockStore store;
  };
  Outcome Cut(const Stored<rec::GroupRecord>& group);
  Outcome Drop(const Stored<rec::GroupRecord>& group);
  // The records of its snapshots, made if they are not there.
  absl::Status PlanSnapshots(const rec::GroupRecord& group);
  // Where each volume's engine serves. UNAVAILABLE: one does not yet.
  absl::StatusOr<std::vector<Part>> FindEngines(const rec::GroupRecord& group);
  absl::StatusOr<std::vector<v1::Snapshot>> CutAll(const std::vector<Part>& parts);

  Environment* env_;
};

}  // namespace keelson::provisioner
