// GroupHarness: an operator goes on from one copy (R14). Most machines of the group are lost, some
// for good; what the named copy has is the volume from then on; those that were left behind are
// told so when they return, and nothing goes on from them.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/probe.h"
#include "tests/sim/sim_stream.h"

namespace keelson::sim {
namespace {

using replica::Configuration;
using replica::Member;
using replica::MemberState;

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kForceLimitNs = 40'000 * kMs;
constexpr std::int64_t kToldLimitNs = 15'000 * kMs;

bool SameReplicas(const std::vector<Member>& a, const std::vector<Member>& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&b](const Member& member) {
           return std::any_of(b.begin(), b.end(),
                              [&member](const Member& other) { return other.SameReplica(member); });
         });
}

}  // namespace

void GroupHarness::ControlForce() {
  if (force_.stage == Force::Stage::kWill && world_.now_ns() >= force_.at_ns) LoseMajority();
  if (force_.stage != Force::Stage::kLost || AttachingCount() > 0) return;
  const std::vector<GroupNode*> running = NodesThatRun();
  if (running.empty() || !late_chance_.Chance(0.2)) return;
  StartForce(running[late_chance_.Below(running.size())], force_.named);
}

// Not yet while it is no good moment: the record must name the members there are.
void GroupHarness::LoseMajority() {
  const Configuration now = *watch_.in_force();
  const bool changing = std::any_of(changes_.begin(), changes_.end(), [](const auto& change) {
    const bool members = change->kind == ChangeKind::kAdd || change->kind == ChangeKind::kRemove;
    return members && !change->done;
  });
  if (AttachingCount() > 0 || membership_open_ || changing || now.members.size() < 2 ||
      !SameReplicas(now.members, record_)) {
    return;
  }
  std::vector<Member> copies;
  for (const Member& member : now.members) {
    const GroupNode* const node = NodeOf(member.pool);
    // One that was just added and never got anything may not know yet that it is a member.
    const bool blank =
        member.state == MemberState::kOut && member.in_sync_through == pool::Generation{};
    // Nor may one that was to be removed when the engine died know any more that it is one.
    const std::vector<Configuration> accepted = watch_.Candidates();
    const bool stays = std::all_of(accepted.begin(), accepted.end(), [&member](const auto& one) {
      return one.Find(member.pool, member.replica) != nullptr;
    });
    if (!member.witness && !blank && stays && node->Healthy() && !Paused(node->process())) {
      copies.push_back(member);
    }
  }
  if (copies.empty()) return;
  force_.named = copies[late_chance_.Below(copies.size())];
  force_.before = now.members;
  force_.stage = Force::Stage::kLost;
  struck_ = true;
  for (GroupNode* node : ChooseLost(now)) {
    Tell(absl::StrCat(node->name(), " is lost"));
    force_.lost.insert(node);
    Abandon(node);
    if (late_chance_.Coin()) {
      node->PowerCut();
    } else if (node->running()) {
      node->Kill();
    }
  }
}

// So many that no majority is left, or no InSync copy but the named one.
std::vector<GroupNode*> GroupHarness::ChooseLost(const Configuration& now) {
  std::vector<GroupNode*> lost;
  std::vector<const Member*> others;
  const bool is_in_sync =
      now.Find(force_.named.pool, force_.named.replica)->state == MemberState::kInSync;
  for (const Member& member : now.members) {
    if (member.SameReplica(force_.named)) continue;
    // Nothing may go on with a copy that has more.
    const bool has_more = !is_in_sync && member.state == MemberState::kInSync;
    if (has_more) {
      lost.push_back(NodeOf(member.pool));
    } else {
      others.push_back(&member);
    }
  }
  while (!others.empty()) {
    const bool enough = !is_in_sync || 2 * (now.members.size() - lost.size()) <= now.members.size();
    if (enough && late_chance_.Chance(0.7)) break;
    const std::size_t next = late_chance_.Below(others.size());
    lost.push_back(NodeOf(others[next]->pool));
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(next));
  }
  return lost;
}

void GroupHarness::StartForce(GroupNode* node, const Member& named) {
  Attachment* const attachment = NewAttachment(node, nullptr);
  engine::SegmentHint hint;
  hint.volume = volume_id_;
  hint.members = record_;
  hint.force_from = named.replica;
  watch_.ForceAsked(attachment->epoch, named.replica);
  Tell(absl::StrCat("attachment ", attachment->epoch.attachment, " is to go on from the copy on ",
                    NodeOf(named.pool)->name()));
  RunAttach(this, attachment, std::move(hint));
}

void GroupHarness::TakeForcedHistory(const Attachment& attachment, const Configuration& first,
                                     const pool::Epoch& served_before) {
  SIM_PROBE("group: an operator went on from one copy");
  force_.stage = Force::Stage::kForced;
  force_.epoch = first.forced;
  record_ = record_before_ = first.members;
  record_attachment_ = attachment.epoch.attachment;
  membership_open_ = false;
  TakeContents(attachment, first, watch_.InForceBefore(first.forced), served_before);
  for (const auto& node : nodes_) {
    if (!Lost(node.get()) || late_chance_.Coin()) continue;
    Later(static_cast<std::int64_t>(late_chance_.Between(100, 1'500)) * kMs,
          [this, lost = node.get()] {
            if (!calm_) Return(lost);
          });
  }
}

// What was acknowledged, if the copy was InSync; what it shows now, and nothing else, otherwise.
void GroupHarness::TakeContents(const Attachment& attachment, const Configuration& first,
                                const Configuration* before, const pool::Epoch& served_before) {
  const Member& copy = first.members.front();
  const Member* const old = before->Find(copy.pool, copy.replica);
  const bool complete = old != nullptr && old->state == MemberState::kInSync;
  const std::uint64_t blocks = first.size_bytes / kModelBlockBytes;
  const std::optional<CopyView> view = NodeOf(copy.pool)->View(copy.pool, copy.replica);
  volume_.set_size_blocks(blocks);
  if (!view.has_value()) return volume_.ForgetContents();  // it died at once
  const std::uint64_t now = watch_.Tick();
  std::string wrong;
  if (complete) {
    SIM_PROBE("group: the copy that was gone on from had all that was acknowledged");
    CheckLoss(attachment, *before, served_before);
    volume_.Cut(blocks);
    for (std::uint64_t block = 0; block < blocks && wrong.empty(); ++block) {
      const std::span<const std::byte> shown = view->Block(pool::SnapshotId(), block);
      if (shown.empty() && !volume_.blocks().contains(block)) continue;
      std::vector<std::byte> bytes(shown.begin(), shown.end());
      bytes.resize(kModelBlockBytes);
      const std::uint64_t began = watch_.Tick();
      wrong = volume_.CheckRead(block, bytes, began, watch_.Tick());
    }
  } else {
    SIM_PROBE("group: the copy that was gone on from had missed something");
    wrong = volume_.Adopt(*view, blocks, now);
  }
  if (!wrong.empty()) return Fail(absl::StrCat(wrong, " (on the copy that was gone on from)"));
  TakeSnapshots(first, *view, complete);
}

// Those that the copy's own record names, and no others.
void GroupHarness::TakeSnapshots(const Configuration& first, const CopyView& copy, bool complete) {
  auto& known = volume_.snapshots();
  std::erase_if(known, [&first](const auto& entry) { return !first.Has(entry.first); });
  for (const replica::ConfiguredSnapshot& snapshot : first.snapshots) {
    const auto found = known.find(snapshot.id);
    // One that was deleted while the copy was away is there again.
    if (complete && found != known.end() && found->second.ended != 0) continue;
    const std::string wrong = volume_.AdoptSnapshot(copy, snapshot, watch_.Tick());
    if (!wrong.empty()) Fail(wrong);
  }
}

// Whoever still is an engine of the history that was left behind does not outlive this: with those
// that return, which have heard of nothing, it could go on (docs/protocol.md, Force).
void GroupHarness::Return(GroupNode* node) {
  if (!Lost(node)) return;
  if (AttachingCount() > 0) {
    return Later(50 * kMs, [this, node] {
      if (!calm_) Return(node);
    });
  }
  Tell(absl::StrCat(node->name(), " returns"));
  for (const auto& attachment : attachments_) {
    const bool alive = attachment->state != Attachment::State::kGone;
    if (alive && attachment->epoch < force_.epoch && attachment->node->running()) {
      KillNode(attachment->node, false);
    }
  }
  force_.lost.erase(node);
  StartLater(node);
}

// All has healed but what is lost: the operator must get on.
bool GroupHarness::FinishForce() {
  const std::int64_t until_ns = world_.now_ns() + kForceLimitNs;
  const auto still = [this] { return AttachingCount() == 0; };
  while (!Failed() && force_.stage == Force::Stage::kLost) {
    if (!AdvanceUntil(still, kForceLimitNs)) break;
    const std::vector<GroupNode*> running = NodesThatRun();
    if (running.empty()) {
      Advance(5 * kMs);
      continue;
    }
    if (world_.now_ns() >= until_ns) {
      Fail(absl::StrCat("one-history: an operator cannot go on from a copy: ",
                        attachments_.back()->end.ToString()));
    } else if (absl::IsFailedPrecondition(attachments_.back()->end)) {
      // It was done before, by an engine that did not live to tell: the copy is a majority now. Or
      // it is not needed: the copy became InSync in the moment of the loss, and has a majority with
      // it.
      StartAttach(running[late_chance_.Below(running.size())], nullptr);
      AdvanceUntil(still, kForceLimitNs);
      if (force_.stage == Force::Stage::kLost &&
          attachments_.back()->state == Attachment::State::kServing) {
        Tell("what an operator wanted to go on from serves by itself");
        force_.stage = Force::Stage::kNever;
      }
    } else if (force_.stage == Force::Stage::kLost) {
      StartForce(running[late_chance_.Below(running.size())], force_.named);
      AdvanceUntil(still, kForceLimitNs);
    }
  }
  return !Failed();
}

// Some do; the others stay away for good.
void GroupHarness::ReturnLost() {
  if (!AdvanceUntil([this] { return AttachingCount() == 0; }, kForceLimitNs)) return;
  for (const auto& node : nodes_) {
    if (!Lost(node.get())) continue;
    if (force_.stage == Force::Stage::kForced && late_chance_.Chance(0.3)) continue;
    Return(node.get());
  }
  // The next attachment tells those that have returned.
  if (force_.stage != Force::Stage::kForced) return;
  force_.hint_names_all = true;
  ++next_attachment_;
}

// With everybody there nobody goes on from one copy alone.
bool GroupHarness::CheckForceIsRefused() {
  std::vector<Member> copies;
  for (const Member& member : current_->engine->Status().configuration.members) {
    if (!member.witness) copies.push_back(member);
  }
  StartForce(current_->node, copies[late_chance_.Below(copies.size())]);
  const Attachment* const asked = attachments_.back().get();
  if (!AdvanceUntil([this] { return AttachingCount() == 0; }, kForceLimitNs)) {
    if (!Failed()) FailHang();
    return false;
  }
  if (!absl::IsFailedPrecondition(asked->end)) {
    Fail(absl::StrCat("one-history: with all members there an operator may go on from one: ",
                      asked->end.ToString()));
  }
  return !Failed() && AttachForGood() && WaitForFullStrength();
}

// Those that were left behind and are here again have been told, and nothing goes on from them.
bool GroupHarness::CheckLeftBehind() {
  if (force_.stage != Force::Stage::kForced) return !Failed();
  const std::vector<Member> members = current_->engine->Status().configuration.members;
  std::vector<GroupNode*> behind;
  for (const Member& member : force_.before) {
    GroupNode* const node = NodeOf(member.pool);
    const auto is_here = [node](const Member& other) { return other.address == node->address(); };
    if (Lost(node) || member.SameReplica(force_.named)) continue;
    const auto told = [&] { return watch_.IsSucceeded(member.replica); };
    if (!AdvanceUntil(told, kToldLimitNs)) {
      Fail(absl::StrCat("one-history: nobody told the copy on ", node->name(),
                        " that an operator went on without it"));
      return false;
    }
    SIM_PROBE("group: a copy was told that it was left behind");
    if (std::none_of(members.begin(), members.end(), is_here)) behind.push_back(node);
  }
  return behind.empty() || AttachFromLeftBehind(behind);
}

// By an old hint, where none of those that went on is reached.
bool GroupHarness::AttachFromLeftBehind(const std::vector<GroupNode*>& behind) {
  const auto is_behind = [&behind](const GroupNode* node) {
    return std::find(behind.begin(), behind.end(), node) != behind.end();
  };
  for (const GroupNode* node : behind) {
    for (const auto& other : nodes_) {
      if (is_behind(other.get())) continue;
      world_.network().Block(node->machine(), other->machine());
      world_.network().Block(other->machine(), node->machine());
    }
  }
  Attachment* const attachment = NewAttachment(behind[late_chance_.Below(behind.size())], nullptr);
  engine::SegmentHint hint;
  hint.volume = volume_id_;
  hint.members = force_.before;
  RunAttach(this, attachment, std::move(hint));
  const bool ended = AdvanceUntil([this] { return AttachingCount() == 0; }, kForceLimitNs);
  world_.network().HealAll();
  if (!ended && !Failed()) FailHang();
  if (!ended) return false;
  SIM_PROBE("group: an attachment met only copies that were left behind");
  return AttachForGood() && WaitForFullStrength();
}

}  // namespace keelson::sim
