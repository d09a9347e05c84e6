#pragma once
// GroupHarness: one seed of the simulation of a replication group: members on machines of their
// own, engines that attach, write, die and compete, a control actor that mints attachments as the
// provisioner does, and the faults that the seed drew. First everything goes wrong that may; then
// all heals, and the group must come back to full strength with every promise kept. What is judged
// where: blocks and snapshots in GroupVolume, the protocol's own invariants in GroupWatch.
//
// Run() returns what went wrong, or an empty string. One thread, virtual time. Timeouts are those
// of production divided by ten, so that a run needs fewer heartbeats.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "blockstore/engine/client_list.h"
#include "blockstore/engine/segment_engine.h"
#include "blockstore/replica/check.h"
#include "tests/sim/fault_plan.h"
#include "tests/sim/group_node.h"
#include "tests/sim/group_volume.h"
#include "tests/sim/group_watch.h"
#include "tests/sim/world.h"

namespace keelson::sim {

class GroupHarness {
 public:
  GroupHarness(std::uint64_t seed, const std::vector<FaultClass>& faults);
  ~GroupHarness();
  GroupHarness(const GroupHarness&) = delete;
  GroupHarness& operator=(const GroupHarness&) = delete;

  std::string Run();
  // Print what happens, for a person who replays a seed.
  void set_verbose(bool verbose) { verbose_ = verbose; }
  std::uint64_t trace_hash() const { return world_.trace_hash(); }

 private:
  struct Knobs {
    std::uint64_t copies = 0;
    std::uint64_t volume_blocks = 0;
    std::uint64_t io_blocks_max = 0;
    std::uint64_t depth_max = 0;
    std::uint64_t hot_blocks = 0;
    std::int64_t duration_ns = 0;
    std::int64_t pace_ns_max = 0;  // between two actions
    double strikes = 0;            // the part of the actions that are faults
    bool trims = false, snapshots = false, membership = false, grows = false;
    bool moves = false;       // a volume is attached elsewhere while its engine is cut off
    bool cuts_again = false;  // all lose power, and again when it has just been attached
    bool forces = false;      // a majority is lost, and an operator goes on from one copy
    bool clients = false;     // other nodes use it through the engine
    FaultMix disk;
  };

  struct Attachment;
  // What the connection of a client does for it (R16), in the engine's process.
  static constexpr std::size_t kClientNodes = 3;
  struct ClientConnection {
    std::size_t node = 0;
    Attachment* attachment = nullptr;
    std::unique_ptr<engine::ClientSession> session;  // until it was told to end and is idle
    std::uint64_t told_at = 0;                       // the tick; 0: it was not
    std::uint64_t in_flight = 0;
  };
  class SegmentDevice;
  struct Clients {
    Clients();
    ~Clients();
    void Leak();   // with their process
    void Clear();  // the list is closed

    std::unique_ptr<SegmentDevice> device;
    std::unique_ptr<engine::ClientList> list;     // null: nobody but the engine's own node
    std::map<std::size_t, std::uint64_t> listed;  // by node, with the number of its ticket
    std::uint64_t minted = 1;
    std::vector<std::unique_ptr<ClientConnection>> sessions;  // also those that have ended
  };

  // An engine, from its Attach to its end.
  struct Attachment {
    enum class State { kAttaching, kServing, kClosing, kGone };
    State state = State::kAttaching;
    GroupNode* node = nullptr;
    SimReactor* process = nullptr;
    pool::Epoch epoch;
    std::unique_ptr<engine::SegmentEngine> engine;
    Clients clients;
    std::uint64_t in_flight = 0;
    bool changing = false;
    std::uint64_t errors_since = 0;  // every call that began later fails; 0: it serves
    absl::Status end;                // of Attach when it failed, or of Close
  };

  // R14: so much is lost that nothing can be attached, and an operator goes on from one copy.
  struct Force {
    enum class Stage { kNever, kWill, kLost, kForced };
    Stage stage = Stage::kNever;
    std::int64_t at_ns = 0;               // the loss
    replica::Member named;                // what is to be gone on from
    std::vector<replica::Member> before;  // the members, with it, of the history that ends
    std::set<const GroupNode*> lost;      // down until they return, which some never do
    pool::Epoch epoch;                    // under which it was done
    bool hint_names_all = false;          // attachments are told of those left behind, too
  };

  enum class IoKind { kRead, kWrite, kTrim, kFlush };
  struct FreeAligned {
    void operator()(std::byte* memory) const;
  };
  struct Io {
    IoKind kind = IoKind::kRead;
    Attachment* attachment = nullptr;
    ClientConnection* client = nullptr;  // null: the engine's own node's
    std::uint64_t first = 0, count = 0;
    Version version = kZeroes;
    std::uint64_t op = 0;
    std::uint64_t began = 0;
    std::int64_t began_ns = 0;
    bool superseded = false;  // a newer engine served before it began
    std::unique_ptr<std::byte, FreeAligned> buffer;
    std::span<std::byte> bytes() const { return {buffer.get(), count * kModelBlockBytes}; }
  };

  enum class ChangeKind { kSnapshot, kDeleteSnapshot, kGrow, kRoll, kAdd, kRemove };
  struct Change {
    ChangeKind kind = ChangeKind::kRoll;
    Attachment* attachment = nullptr;
    std::uint64_t began = 0;
    pool::SnapshotId snapshot;
    std::uint64_t size_blocks = 0;
    replica::Member member;
    bool with_witness = false;
    replica::Member witness;
    std::size_t made = 0;  // of the two
    bool holding = false;  // writes are about to be held
    absl::Status status;
    bool done = false;
  };

  // What a copy shows in each of its layers, by block; blocks of zeroes are left out.
  using Image = std::map<std::uint64_t, std::shared_ptr<const std::vector<std::byte>>>;
  struct MemberImage {
    replica::Configuration configuration;
    std::map<pool::SnapshotId, Image> layers;  // nil: the head
    bool rotten = false;                       // something could not be read
  };

  // group_harness.cc: the course of a run
  static Knobs DrawKnobs(Random* random, Random* chance, Random* late, const FaultPlan& plan);
  void Act();
  void Advance(std::int64_t duration_ns);
  // Advances until `condition`; false when it did not come within `limit_ns`.
  bool AdvanceUntil(const std::function<bool()>& condition, std::int64_t limit_ns);
  void Later(std::int64_t delay_ns, std::function<void()> action);
  void Fail(const std::string& what);
  bool Failed() const { return !error_.empty(); }
  void Tell(const std::string& what) const;
  bool Paused(const SimReactor* process) const {
    return process->paused_until_ns() > world_.now_ns();
  }

  // group_live.cc: copies of a volume that is in use, looked at without being asked
  void CheckLiveCopies(const replica::Configuration& now);

  // group_setup.cc: machines, pools, the volume; members made later
  void MakeMachines();
  bool StartAll();
  bool MakeVolume();
  replica::Member NewMember(GroupNode* node, std::size_t pool, bool witness);
  static io::Task<absl::Status> CreateMember(GroupHarness* harness, GroupNode* node,
                                             replica::Member member, replica::Configuration first);
  GroupNode* NodeOf(const pool::PoolId& pool);

  // group_control.cc: who attaches where, with which hint
  void Control();
  void StartAttach(GroupNode* node, const Attachment* resumed);
  Attachment* NewAttachment(GroupNode* node, const Attachment* resumed);
  static io::internal::Detached RunAttach(GroupHarness* harness, Attachment* attachment,
                                          engine::SegmentHint hint);
  void AttachEnded(Attachment* attachment,
                   absl::StatusOr<std::unique_ptr<engine::SegmentEngine>> result);
  void CheckNobodyElseReads(const Attachment& attachment);
  void CheckLoss(const Attachment& attachment, std::optional<replica::Configuration> base,
                 const pool::Epoch& served_before);
  void RememberMembers(const Attachment& attachment);
  void StartClose(Attachment* attachment);
  static io::internal::Detached RunClose(GroupHarness* harness, Attachment* attachment);
  Attachment* Current();
  Attachment* RandomServing();
  std::size_t AttachingCount() const;
  std::vector<GroupNode*> NodesThatRun();

  // group_force.cc: R14
  bool Lost(const GroupNode* node) const { return force_.lost.contains(node); }
  void ControlForce();
  void LoseMajority();
  std::vector<GroupNode*> ChooseLost(const replica::Configuration& now);
  void StartForce(GroupNode* node, const replica::Member& named);
  // The first engine that serves in the history that begins with a forced configuration.
  void TakeForcedHistory(const Attachment& attachment, const replica::Configuration& first,
                         const pool::Epoch& served_before);
  void TakeContents(const Attachment& attachment, const replica::Configuration& first,
                    const replica::Configuration* before, const pool::Epoch& served_before);
  void TakeSnapshots(const replica::Configuration& first, const CopyView& copy, bool complete);
  void Return(GroupNode* node);
  bool FinishForce();
  void ReturnLost();
  bool CheckForceIsRefused();
  bool CheckLeftBehind();
  bool AttachFromLeftBehind(const std::vector<GroupNode*>& behind);

  // group_io.cc
  void StartRandomIo(Attachment* attachment);
  void StartIo(IoKind kind, Attachment* attachment, std::uint64_t first, std::uint64_t count);
  static io::internal::Detached RunIo(GroupHarness* harness, Io* io);
  static io::Task<absl::Status> RunClientIo(Io* io, std::uint64_t offset);
  void IoEnded(Io* io, const absl::Status& status);
  void CheckEnoughCopies(const Attachment& attachment);
  void JudgeIoError(const Io& io, const absl::Status& status);
  std::string Name(const Io& io) const;

  // group_clients.cc
  void StartClients(Attachment* attachment);
  void SetClients(Attachment* attachment);
  void OpenClient(Attachment* attachment, std::size_t node);
  static io::internal::Detached RunOpenClient(GroupHarness* harness, Attachment* attachment,
                                              std::size_t node, engine::Ticket ticket);
  void OnToldToEnd(ClientConnection* connection);
  void CheckServed(const Io& io);
  void ClientIoEnded(ClientConnection* connection);
  ClientConnection* ChooseClient(Attachment* attachment);
  void StartClientChange(Attachment* attachment);
  static io::internal::Detached RunUnpublish(GroupHarness* harness, Attachment* attachment,
                                             std::size_t node);

  // group_changes.cc
  void StartRandomChange(Attachment* attachment);
  bool ChooseMembership(Change* change);
  bool PrepareAdd(Change* change);
  void StartChange(const Change& change);
  static io::internal::Detached RunChange(GroupHarness* harness, Change* change);
  io::Task<absl::Status> Perform(Change* change);
  io::Task<absl::Status> MakeMembers(Change* change);
  static io::internal::Detached RunMake(GroupHarness* harness, GroupNode* node, Change* change,
                                        replica::Member member, replica::Configuration base);
  io::Task<absl::Status> TakeSnapshot(Change* change);
  static io::internal::Detached RunRelease(Change* change, std::int64_t after_ns);
  void ChangeEnded(Change* change);

  // group_trouble.cc
  void BeginTrouble();
  void Strike();
  void KillNode(GroupNode* node, bool power);
  void LiarDies(bool power);
  void CutAll();
  void CutAllAgain();
  void Abandon(GroupNode* node);
  void StartLater(GroupNode* node);
  void Partition(bool one_way);
  void CutOffAndMove();
  void TroubleDisk(const std::string& kind);
  void FlipABit();
  void ReformatOne();
  void KeepNodes();
  void HealEverything();

  // group_converge.cc
  void Converge();
  void FailHang();
  bool AttachForGood();
  // What the configurations that anyone accepted allow to hope for.
  enum class Hope { kServes, kCannot, kUnclear };
  Hope WhatToExpect();
  bool WaitsForTheLost();
  bool ReplaceLostMembers();
  bool RunChangeToEnd(const Change& change);
  bool OnlyTheLiarIsLeft(const Attachment& attachment);
  bool WaitForFullStrength();
  bool FinalIo();
  bool FinalScrub();
  void CompareCopies();
  io::Task<absl::StatusOr<MemberImage>> ReadMember(GroupNode* node, replica::Member member,
                                                   pool::Epoch epoch);
  static io::Task<absl::Status> ReadLayers(replica::ReplicaPort* port, MemberImage* image,
                                           std::uint64_t extents);
  void CheckImage(const replica::Member& member, const MemberImage& image);
  void CheckSnapshots(const MemberImage& image);
  void CheckPools();

  World world_;
  // What was thought of later draws from here, and what still later from the next: the runs of
  // seeds without it stay what they were.
  Random chance_;
  Random late_chance_;
  Random clients_random_;  // the same for what other nodes do
  FaultPlan plan_;
  Knobs knobs_;
  engine::SegmentOptions options_;
  GroupVolume volume_;
  GroupWatch watch_;
  pool::VolumeId volume_id_;
  std::vector<std::unique_ptr<GroupNode>> nodes_;
  GroupNode* liar_ = nullptr;  // its disk lies about flushes, or rots
  bool liar_lost_ = false;     // what it had said was flushed
  Force force_;
  bool calm_ = false;    // the faults are over
  bool struck_ = false;  // a fault, or a second engine, has been there
  bool reformatted_ = false;
  pool::PoolId lost_pool_;  // that was re-formatted, or whose record of the member is damaged
  // Its requests never ended, because it waits for that pool: only another one goes on.
  const Attachment* waits_for_lost_ = nullptr;
  std::size_t attachments_before_loss_ = 0;

  // What the provisioner knows.
  std::uint64_t next_attachment_ = 2;
  std::int64_t next_attach_ns_ = 0;  // not before
  std::uint64_t record_attachment_ = 0;
  std::vector<replica::Member> record_, record_before_;
  bool membership_open_ = false;  // a change began that is not in the record yet

  std::vector<std::unique_ptr<Attachment>> attachments_;
  Attachment* current_ = nullptr;  // the one of the highest epoch that has served
  pool::Epoch served_;             // current_'s
  std::uint64_t served_at_ = 0;    // since this tick
  std::map<std::uint64_t, std::unique_ptr<Io>> ios_;
  std::vector<std::unique_ptr<Change>> changes_;
  // Suspended frames of dead processes point to them.
  std::vector<std::unique_ptr<Io>> graveyard_;
  std::multimap<std::int64_t, std::function<void()>> later_;
  std::uint64_t pending_size_blocks_ = 0;  // a Grow with an unknown outcome
  std::uint64_t next_op_ = 1;
  std::uint64_t next_name_ = 1;
  bool verbose_ = false;
  std::string error_;
};

}  // namespace keelson::sim
