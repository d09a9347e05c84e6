// GroupHarness: the machines of a seed, their pools, and the volume on them.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/sim_stream.h"

namespace keelson::sim {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kSetupLimitNs = 10'000 * kMs;
constexpr char kVolumeName[] = "volume";

}  // namespace

void GroupHarness::MakeMachines() {
  Random& random = world_.random();
  const std::uint64_t voters = knobs_.copies + (knobs_.copies % 2 == 0 ? 1 : 0);
  // Some have nothing of the volume: an engine may run there, or a member come later.
  const std::uint64_t count = voters + random.Below(3);
  // Snapshots and what is being reclaimed need room, too; replicas that were removed stay where
  // they are, and a layer in which a block rotted is never merged away.
  const bool much = plan_.Has("rot") || plan_.Has("reformat") || knobs_.membership;
  const std::uint64_t layers_max = much ? 24 : 6;
  constexpr std::uint64_t kExtentsMax = 600;  // a large volume stays mostly empty
  const std::uint64_t extents =
      std::min(layers_max * knobs_.volume_blocks / pool::kBlocksPerExtent + 16, kExtentsMax);
  const std::uint64_t pool_bytes = extents * pool::kExtentBytes;
  for (std::uint64_t i = 0; i < count; ++i) {
    nodes_.push_back(std::make_unique<GroupNode>(&world_, &watch_, i));
    nodes_.back()->AddPool(pool_bytes);
    if (random.Chance(0.1)) nodes_.back()->AddPool(pool_bytes);
    for (GroupNode::PoolSlot& slot : nodes_.back()->pools()) slot.disk->faults() = knobs_.disk;
  }
  if (!plan_.Has("far")) return;
  for (const auto& from : nodes_) {
    for (const auto& to : nodes_) {
      if (from == to) continue;
      NetworkLink& link = world_.network().link(from->machine(), to->machine());
      link.latency_ns_min = static_cast<std::int64_t>(random.Below(3)) * kMs;
      link.latency_ns_max =
          link.latency_ns_min + static_cast<std::int64_t>(random.Between(1, 9)) * kMs;
    }
  }
}

bool GroupHarness::StartAll() {
  for (const auto& node : nodes_) node->Start();
  const bool started = AdvanceUntil(
      [this] {
        return std::all_of(nodes_.begin(), nodes_.end(),
                           [](const auto& node) { return node->Healthy(); });
      },
      kSetupLimitNs);
  if (!started) return false;
  if (plan_.Has("lying_flush") || plan_.Has("rot")) {
    liar_ = nodes_[world_.random().Below(knobs_.copies)].get();
  }
  if (plan_.Has("lying_flush")) {
    struck_ = true;
    for (GroupNode::PoolSlot& slot : liar_->pools()) slot.disk->faults().lying_flush = true;
  }
  return true;
}

replica::Member GroupHarness::NewMember(GroupNode* node, std::size_t pool, bool witness) {
  replica::Member member;
  const GroupNode::PoolSlot& slot = node->pools()[pool];
  member.pool = slot.id;
  member.replica = pool::ReplicaId(world_.MakeId());
  member.incarnation = slot.incarnation;
  member.address = node->address();
  member.witness = witness;
  member.state = witness ? replica::MemberState::kOut : replica::MemberState::kInSync;
  return member;
}

bool GroupHarness::MakeVolume() {
  replica::Configuration first;
  first.volume = volume_id_;
  first.volume_name = kVolumeName;
  first.version.epoch.attachment = 1;
  first.version.counter = 1;
  first.size_bytes = volume_.size_blocks() * kModelBlockBytes;
  first.min_in_sync = knobs_.copies == 3 && world_.random().Coin() ? 2 : 1;
  for (std::uint64_t i = 0; i < knobs_.copies; ++i) {
    first.members.push_back(NewMember(nodes_[i].get(), 0, false));
  }
  if (knobs_.copies % 2 == 0) {
    first.members.push_back(NewMember(nodes_[knobs_.copies].get(), 0, true));
  }
  for (const replica::Member& member : first.members) {
    const std::optional<absl::Status> made =
        world_.RunTask(CreateMember(this, NodeOf(member.pool), member, first));
    if (!made.has_value() || !made->ok()) {
      Fail(
          absl::StrCat("a member cannot be made: ", made.has_value() ? made->ToString() : "hangs"));
      return false;
    }
  }
  record_ = record_before_ = first.members;
  record_attachment_ = 1;
  return true;
}

io::Task<absl::Status> GroupHarness::CreateMember(GroupHarness* harness, GroupNode* node,
                                                  replica::Member member,
                                                  replica::Configuration first) {
  replica::NewMember made;
  made.volume = harness->volume_id_;
  made.replica = member.replica;
  // A pool may still hold a replica of the volume that was removed from the group.
  made.name = absl::StrCat(kVolumeName, "-", member.replica.ToString().substr(0, 8));
  made.size_bytes = member.witness ? 0 : first.size_bytes;
  made.witness = member.witness;
  made.configuration = first;
  replica::ReplicaStore* const store = node->FindPool(member.pool)->store.get();
  absl::Status status = co_await store->CreateMember(std::move(made));
  if (status.ok()) harness->watch_.Made(member.replica, first);
  co_return status;
}

GroupNode* GroupHarness::NodeOf(const pool::PoolId& pool) {
  for (const auto& node : nodes_) {
    if (node->FindPool(pool) != nullptr) return node.get();
  }
  return nullptr;
}

}  // namespace keelson::sim
