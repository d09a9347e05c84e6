#pragma once
// VolumeReconciler: makes one volume what its record says: replicas, the engine where it is
// published, size, snapshots, members. Called by the queue's workers, one at a time for a key;
// blocking. Every step that cannot be repeated without harm is planned in the record first, so it
// may end anywhere and be begun again by anyone (docs/provisioner.md).

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "provisioner/reconcile/environment.h"

namespace keelson::provisioner {

// What was last seen of a volume's members, and what it waits for. Not in the record: it changes
// without anybody's wish.
struct VolumeSight {
  struct Member {
    std::string replica_id;
    v1::MemberState state = v1::MEMBER_STATE_UNSPECIFIED;
    bool connected = false;
    std::string problem;
    std::uint64_t resync_bytes_left = 0;
  };
  std::vector<Member> members;
  std::string waiting_for;  // what its I/O waits for
  std::string error;        // its attachment has ended in errors
  absl::Status trouble;     // of the last pass
  std::int64_t trouble_since_unix_ns = 0;
};

class VolumeReconciler {
 public:
  explicit VolumeReconciler(Environment* environment) : env_(environment) {}

  Outcome Run(const std::string& key);

  // Of the last pass; nothing: there was none since this program began.
  std::optional<VolumeSight> SightOf(const std::string& key) const;

 private:
  // kDone: nothing to do; kAgain: something was done, look again; kWait: in `again_ns_`.
  enum class Progress { kDone, kAgain, kWait };
  using Step = absl::StatusOr<Progress>;
  using Volume = Stored<rec::VolumeRecord>;
  struct Pass {
    Volume volume;
    std::int64_t again_ns = 0;                        // the soonest wish of a step; 0: none
    std::optional<v1::GetVolumeStatusResponse> seen;  // of the engine that serves
    const std::string& id() const { return volume.value.id(); }
    rec::VolumeRecord& record() { return volume.value; }
    absl::Status note;  // what keeps it from being better, without being an error
    void Again(std::int64_t after_ns) {
      if (again_ns == 0 || after_ns < again_ns) again_ns = after_ns;
    }
  };

  // --- volume_reconciler.cc ---
  Step RunOnce(Pass* pass);
  absl::Status Change(Pass* pass, absl::FunctionRef<absl::Status(rec::VolumeRecord*)> change);
  void Remember(const std::string& key, const Pass& pass, const absl::Status& trouble);
  std::vector<Stored<rec::SnapshotRecord>> SnapshotsOf(const std::string& volume_id) const;
  // Volumes that are being made from a snapshot of this one.
  bool HasClonesUnderWay(const Pass& pass) const;

  // --- volume_make.cc ---
  Step Make(Pass* pass);
  Step PlanClone(Pass* pass);
  // Of a clone of a volume: the snapshot that it is made from, which nobody else sees.
  Step BeginInternalSnapshot(Pass* pass, const std::string& key, bool taken);
  // The volume can never be made: it is deleted, and its caller told so.
  Step GiveUp(Pass* pass, const std::string& why);
  Step Replan(Pass* pass, int segment, const absl::Status& why);
  // `present`: the configuration of the segment that it is to be added to; nullptr: it is made with
  // its segment.
  absl::Status CreateReplica(const rec::VolumeRecord& volume, int segment,
                             const rec::ReplicaRecord& replica,
                             const v1::Configuration* present) const;
  Step Unmake(Pass* pass);
  Step DeleteOrphans(Pass* pass);
  // OK: it is gone, or can never come back. UNAVAILABLE: it may still be there.
  absl::Status DeleteReplica(const rec::OrphanRecord& orphan) const;

  // --- volume_attach.cc ---
  Step SettleAttachment(Pass* pass);
  Step ReleaseEngine(Pass* pass);
  Step StartEngine(Pass* pass);
  Step TellAbandoned(Pass* pass);
  Step LookAtEngine(Pass* pass);
  // kDone: the volume's engine serves; its block store is *store. Starts one for maintenance when
  // the volume is not published.
  Step NeedEngine(Pass* pass, std::optional<BlockStore>* store);
  std::string MaintenanceNode(const Pass& pass) const;
  // OK once the node serves that no more; also where it never did, where a later attachment fenced
  // it, or where there is no such node.
  absl::Status DetachAt(const std::string& node, const std::string& volume,
                        BlockStore::Part part) const;
  v1::AttachTarget TargetOf(const rec::VolumeRecord& volume) const;
  // With those that are only planned, too, when a segment is to be added.
  v1::SegmentHint HintOf(const rec::VolumeRecord& volume, int segment, bool planned) const;

  // --- volume_share.cc: a volume on several nodes ---
  // It is used through clients of its engine, or is to be.
  static bool IsShared(const rec::VolumeRecord& volume);
  Step SettleShared(Pass* pass);
  // Where its engine is to be; empty: nowhere can it be. The present place while that is not lost.
  std::string EngineNode(const rec::VolumeRecord& volume) const;
  absl::Status EndClient(Pass* pass, const std::string& node);
  // Gives the engine its client list.
  Step SettleClients(Pass* pass, const std::vector<rec::ClientRecord>& clients);
  // Lets every node where it is published show what the engine serves.
  Step ShowToClients(Pass* pass);
  absl::Status ShowTo(Pass* pass, const rec::PublicationRecord& publication,
                      const std::string& engine_address);

  // --- volume_change.cc ---
  Step SettleSize(Pass* pass);
  Step SettleSnapshots(Pass* pass);
  Step CutSnapshot(Pass* pass, const Stored<rec::SnapshotRecord>& snapshot);
  Step DropSnapshot(Pass* pass, const Stored<rec::SnapshotRecord>& snapshot);
  Step SettleMinInSync(Pass* pass);
  Step SettleQos(Pass* pass);

  // --- volume_members.cc ---
  Step SettleMembers(Pass* pass);
  Step SettleSegment(Pass* pass, int segment);
  Step AddMember(Pass* pass, int segment, const rec::ReplicaRecord& replica);
  Step RemoveMember(Pass* pass, int segment, const rec::ReplicaRecord& replica);
  Step PlanMember(Pass* pass, int segment, const std::string& near_node);
  // The replica's node or pool has not been there for as long as healing waits.
  bool AbsentTooLong(Pass* pass, const rec::ReplicaRecord& replica);
  bool AllAreWell(const Pass& pass, int segment) const;
  static std::string RebuildKey(const Pass& pass, int segment);
  // Whether it is the segment's turn to get a new copy, or it is getting one.
  bool MayRebuild(Pass* pass, int segment, int copies);
  // Takes them out of the segment; what exists of them is deleted later.
  absl::Status ForgetReplicas(Pass* pass, int segment, const std::vector<std::string>& ids);

  Environment* env_;
  mutable std::mutex mutex_;
  std::map<std::string, VolumeSight> sights_;
  std::map<std::string, std::int64_t> absent_since_ns_;  // by replica; clock.SteadyNanos
};

}  // namespace keelson::provisioner
