#pragma once
// Reconciler: everything that makes the world what the records say: the queue, its workers, and
// what is done for each kind of record. Owned by the program's main thread. Start, then calls from
// any thread, Stop.

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "provisioner/reconcile/environment.h"
#include "provisioner/reconcile/group_reconciler.h"
#include "provisioner/reconcile/volume_reconciler.h"

namespace keelson::provisioner {

class Reconciler {
 public:
  // The pointers outlive it. Reads all records; UNAVAILABLE, DATA_LOSS: the store cannot be read.
  static absl::StatusOr<std::unique_ptr<Reconciler>> Open(ClusterStore* store, Clock* clock,
                                                          Dialer dialer,
                                                          const ReconcileOptions& options);
  ~Reconciler();

  // Starts the workers, which look at every record once. Without them (tests) work is done by
  // Settle and Await, on the caller's thread.
  void Start(std::size_t workers);
  void Stop();

  Environment& environment() { return environment_; }
  Records& records() { return *records_; }
  VolumeReconciler& volumes() { return volumes_; }

  // Waits until `done()`; false when `limit_ns` have passed first. Without workers it does what is
  // due meanwhile, and the time that nothing is due for passes at once (`advance`).
  bool Await(const std::function<bool()>& done, std::int64_t limit_ns);
  // Without workers: does everything that is due within `limit_ns`.
  void Settle(std::int64_t limit_ns);
  // How a test's clock is moved.
  void set_advance(std::function<void(std::int64_t)> advance) { advance_ = std::move(advance); }

  // Puts every record into the queue.
  void PokeAll();

 private:
  Reconciler(Clock* clock, Dialer dialer, const ReconcileOptions& options);
  void OnChange(Kind kind, const std::string& key);
  void Work();
  void RunKey(const std::string& queue_key);
  Outcome RunNode(const std::string& name);
  Outcome RunSnapshot(const std::string& key);
  // The volumes that have anything on the node.
  void PokeVolumesOf(const std::string& node);
  // Does one thing that is due, or moves to where one is, at most to `limit_ns`. False: nothing is
  // due until then.
  bool StepOnce(std::int64_t limit_ns);

  BlockStores stores_;
  WorkQueue queue_;
  Rebuilds rebuilds_;
  Environment environment_;
  std::unique_ptr<Records> records_;
  VolumeReconciler volumes_;
  GroupReconciler groups_;
  std::function<void(std::int64_t)> advance_;
  std::mutex mutex_;
  std::set<std::string> lost_nodes_;  // as was last found; under mutex_
  std::vector<std::thread> workers_;
};

}  // namespace keelson::provisioner
