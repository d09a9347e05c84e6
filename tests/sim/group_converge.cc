// GroupHarness: after the faults. Everything heals, and the group must serve, come back to full
// strength and end in good order, in a bounded time. Where that cannot be, the model has to say so
// itself: a run is never given up for being inconvenient.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kQuietLimitNs = 15'000 * kMs;
constexpr std::int64_t kAttachLimitNs = 20'000 * kMs;
constexpr std::int64_t kStrengthLimitNs = 60'000 * kMs;
constexpr int kLossesMax = 3;  // one for each machine whose attach lay across its restart

}  // namespace

void GroupHarness::Converge() {
  Tell("all heals");
  HealEverything();
  if (force_.stage == Force::Stage::kLost && !FinishForce()) return;
  ReturnLost();
  const auto nodes_run = [this] {
    return std::all_of(nodes_.begin(), nodes_.end(), [this](const auto& node) {
      return Lost(node.get()) || (node->Healthy() && !Paused(node->process()));
    });
  };
  if (!AdvanceUntil(nodes_run, kQuietLimitNs)) {
    std::string who;
    for (const auto& node : nodes_) {
      if (!node->Healthy()) absl::StrAppend(&who, node->name(), " ", node->trouble().ToString());
    }
    return Fail(absl::StrCat("resync-ends: a node does not come back: ", who));
  }
  const auto quiet = [this] {
    return ios_.empty() && AttachingCount() == 0 &&
           std::all_of(changes_.begin(), changes_.end(),
                       [](const auto& change) { return change->done; });
  };
  if (!AdvanceUntil(quiet, kQuietLimitNs)) {
    // Without a limit it waits for a copy that is lost, too, until a later attachment ends it.
    const bool for_ever =
        options_.backlog_limit_ns == 0 && (WhatToExpect() != Hope::kServes || WaitsForTheLost());
    const Attachment* const current = Current();
    if (!Failed() && options_.backlog_limit_ns == 0 && current != nullptr &&
        OnlyTheLiarIsLeft(*current)) {
      // Writes wait for a second copy (R7), which cannot be made of what the disk has lost.
      SIM_PROBE("group: the only InSync copy was rotten");
      return;
    }
    if (!for_ever || Failed()) return FailHang();
    waits_for_lost_ = Current();
  }
  // An engine that was paused has yet to notice which of its sessions have ended.
  Advance(2 * options_.member_timeout_ns);
  // That every copy restarted, before all healed, may be known only after the attach (R3).
  int losses = 0;
  do {
    if (!AttachForGood() || !ReplaceLostMembers() || !WaitForFullStrength()) return;
  } while (!current_->engine->health().ok() && ++losses < kLossesMax);
  if (knobs_.forces && (!CheckForceIsRefused() || !CheckLeftBehind())) return;
  if (!FinalIo() || !FinalScrub()) return;
  Attachment* const last = current_;
  for (const auto& attachment : attachments_) {
    if (attachment->state == Attachment::State::kServing) StartClose(attachment.get());
  }
  const auto closed = [this] {
    return std::none_of(attachments_.begin(), attachments_.end(), [](const auto& attachment) {
      return attachment->state == Attachment::State::kClosing;
    });
  };
  if (!AdvanceUntil(closed, kQuietLimitNs)) return Fail("resync-ends: Close never ends");
  if (!last->end.ok()) return Fail(absl::StrCat("Close was not clean: ", last->end.ToString()));
  CompareCopies();
  if (!Failed()) CheckPools();
}

void GroupHarness::FailHang() {
  std::string what;
  for (const auto& [op, io] : ios_) absl::StrAppend(&what, "; ", Name(*io));
  for (const auto& attachment : attachments_) {
    if (attachment->state != Attachment::State::kAttaching) continue;
    absl::StrAppend(&what, "; the attach of epoch ", attachment->epoch.attachment, ".",
                    attachment->epoch.restart, " at ", attachment->node->name());
  }
  for (const auto& change : changes_) {
    if (change->done) continue;
    absl::StrAppend(&what, "; change ", static_cast<int>(change->kind), " by epoch ",
                    change->attachment->epoch.attachment);
  }
  Fail(absl::StrCat("wait-not-lie: it never ends, long after all healed", what));
}

// Of the copies that an engine counts on one is lost for good, and each other may have forgotten
// what was not flushed: it waits for the first (R3 is for an attach to decide).
bool GroupHarness::WaitsForTheLost() {
  const std::vector<replica::Configuration> candidates = watch_.Candidates();
  return !lost_pool_.is_nil() &&
         std::any_of(candidates.begin(), candidates.end(), [this](const auto& candidate) {
           return std::any_of(candidate.members.begin(), candidate.members.end(),
                              [this](const replica::Member& member) {
                                return member.pool == lost_pool_ &&
                                       member.state == replica::MemberState::kInSync;
                              });
         });
}

// A configuration can be served from when a majority of its voters and one InSync copy are left.
GroupHarness::Hope GroupHarness::WhatToExpect() {
  if (lost_pool_.is_nil()) return Hope::kServes;
  const auto left = [this](const replica::Member& member) { return member.pool != lost_pool_; };
  bool any = false, all = true;
  for (const replica::Configuration& candidate : watch_.Candidates()) {
    const bool copy = std::any_of(
        candidate.members.begin(), candidate.members.end(), [&](const replica::Member& member) {
          return member.state == replica::MemberState::kInSync && left(member);
        });
    const bool serves = copy && replica::HasMajority(candidate, left);
    any = any || serves;
    all = all && serves;
  }
  // A member on its way in has no vote before it has accepted a configuration that names it.
  if (all && !membership_open_) return Hope::kServes;
  return any ? Hope::kUnclear : Hope::kCannot;
}

// An engine that serves, on any machine. False when the run ends here, well or badly.
bool GroupHarness::AttachForGood() {
  const std::int64_t until_ns = world_.now_ns() + kAttachLimitNs;
  const Hope hope = WhatToExpect();
  // An attach that had its answers while there still was a copy may have come to an end, and waits
  // for that copy. Another one has to see that it is gone.
  const bool answered =
      std::any_of(attachments_.begin(),
                  attachments_.begin() + static_cast<std::ptrdiff_t>(attachments_before_loss_),
                  [this](const auto& attachment) { return attachment.get() == Current(); });
  const Attachment* const waits = hope == Hope::kCannot && answered ? Current() : waits_for_lost_;
  int failures = 0;
  while (!Failed()) {
    Attachment* const current = Current();
    if (current != nullptr && current != waits && current->engine->health().ok() &&
        current->epoch.attachment + 1 == next_attachment_) {
      if (hope == Hope::kCannot) Fail("last-copy-stays: it serves though no copy was left");
      return !Failed();
    }
    if (hope != Hope::kServes && failures >= 3) {
      SIM_PROBE("group: no copy was left, and no attachment served");
      return false;
    }
    if (world_.now_ns() >= until_ns) {
      Fail(absl::StrCat("resync-ends: nothing attaches: ", attachments_.back()->end.ToString()));
      return false;
    }
    const std::vector<GroupNode*> running = NodesThatRun();
    if (running.empty()) {
      Advance(5 * kMs);
      continue;
    }
    StartAttach(running[world_.random().Below(running.size())], nullptr);
    const Attachment* const started = attachments_.back().get();
    AdvanceUntil([started] { return started->state != Attachment::State::kAttaching; },
                 kAttachLimitNs);
    ++failures;
  }
  return false;
}

bool GroupHarness::RunChangeToEnd(const Change& change) {
  StartChange(change);
  Change* const started = changes_.back().get();
  if (!AdvanceUntil([started] { return started->done; }, kStrengthLimitNs)) {
    if (!Failed()) Fail("resync-ends: a change of the members never ends");
    return false;
  }
  if (!started->status.ok()) {
    Fail(absl::StrCat("resync-ends: the members cannot be changed: ", started->status.ToString()));
  }
  return !Failed();
}

// A copy whose disk was re-formatted is no member any more: another one takes its place.
bool GroupHarness::ReplaceLostMembers() {
  if (lost_pool_.is_nil()) return true;
  RememberMembers(*current_);
  const std::vector<replica::Member> members = current_->engine->Status().configuration.members;
  const auto lost = std::find_if(members.begin(), members.end(),
                                 [this](const auto& member) { return member.pool == lost_pool_; });
  if (lost == members.end()) return true;
  SIM_PROBE("group: a re-formatted member was replaced");
  Change remove;
  remove.attachment = current_;
  remove.kind = ChangeKind::kRemove;
  remove.member = *lost;
  Change add;
  add.attachment = current_;
  if (!PrepareAdd(&add)) return RunChangeToEnd(remove);
  if (record_.size() >= replica::kDataMembersMax) {
    return RunChangeToEnd(remove) && WaitForFullStrength() && RunChangeToEnd(add);
  }
  return RunChangeToEnd(add) && WaitForFullStrength() && RunChangeToEnd(remove);
}

bool GroupHarness::OnlyTheLiarIsLeft(const Attachment& attachment) {
  if (liar_ == nullptr || attachment.engine == nullptr) return false;
  const replica::Configuration configuration = attachment.engine->Status().configuration;
  return std::all_of(configuration.members.begin(), configuration.members.end(),
                     [this](const replica::Member& member) {
                       return member.state != replica::MemberState::kInSync ||
                              NodeOf(member.pool) == liar_;
                     });
}

bool GroupHarness::WaitForFullStrength() {
  const auto full = [this] {
    if (!current_->engine->health().ok()) return true;  // told below
    const engine::SegmentStatus status = current_->engine->Status();
    return status.regions_to_reconcile == 0 && status.configuration.predecessor.empty() &&
           std::all_of(status.configuration.members.begin(), status.configuration.members.end(),
                       [this](const replica::Member& member) {
                         return member.witness || member.pool == lost_pool_ ||
                                member.state == replica::MemberState::kInSync;
                       });
  };
  const bool reached = AdvanceUntil(full, kStrengthLimitNs);
  if (Failed()) return false;
  if (current_->state == Attachment::State::kServing &&
      absl::IsUnavailable(current_->engine->health())) {
    return true;  // every copy had restarted; the caller attaches again
  }
  if (current_->state != Attachment::State::kServing || !current_->engine->health().ok()) {
    Fail(
        absl::StrCat("resync-ends: the engine ended without a fault: ",
                     current_->engine == nullptr ? "gone" : current_->engine->health().ToString()));
  } else if (!reached && OnlyTheLiarIsLeft(*current_)) {
    // Nothing can be copied from it, and nobody else may be trusted with what it had.
    SIM_PROBE("group: the only InSync copy was rotten");
    return false;
  } else if (!reached) {
    const engine::SegmentStatus status = current_->engine->Status();
    std::string why =
        absl::StrCat(replica::ToString(status.configuration), "; waits for: ", status.waiting_for,
                     "; ", status.regions_to_reconcile, " regions to reconcile");
    for (const engine::MemberStatus& member : status.members) {
      absl::StrAppend(&why, "; ", member.problem);
    }
    Fail(absl::StrCat("resync-ends: not every member is InSync after a minute: ", why));
  }
  return !Failed();
}

// Everything is read, something more is written, and nothing may fail any more.
bool GroupHarness::FinalIo() {
  for (int round = 0; round < 2 && !Failed(); ++round) {
    std::vector<std::uint64_t> blocks;
    for (const auto& [block, history] : volume_.blocks()) blocks.push_back(block);
    for (std::size_t i = 0; i < blocks.size() && !Failed();) {
      std::uint64_t count = 1;
      while (i + count < blocks.size() && blocks[i + count] == blocks[i] + count && count < 64) {
        ++count;
      }
      StartIo(IoKind::kRead, current_, blocks[i], count);
      i += count;
      if (ios_.size() >= 16 && !AdvanceUntil([this] { return ios_.size() < 8; }, kQuietLimitNs)) {
        break;
      }
    }
    for (int i = 0; i < 10 && !Failed(); ++i) StartRandomIo(current_);
    if (!AdvanceUntil([this] { return ios_.empty(); }, kQuietLimitNs) && !Failed()) FailHang();
  }
  return !Failed();
}

// The engine reads all that its copies have, and finds them sound and equal.
bool GroupHarness::FinalScrub() {
  const auto status = [this] { return current_->engine->Status(); };
  const absl::Status started = current_->engine->StartScrub({});
  if (!started.ok()) Fail(absl::StrCat("a scrub cannot begin: ", started.ToString()));
  if (Failed()) return false;
  if (!AdvanceUntil([&status] { return !status().scrub->running; }, kQuietLimitNs)) {
    if (!Failed()) Fail("a scrub never ends");
    return false;
  }
  const engine::ScrubStatus scrub = *status().scrub;
  if (scrub.repaired_blocks > 0) SIM_PROBE("group: a scrub repaired a rotten block");
  const bool may_rot = plan_.Has("rot") || plan_.Has("lying_flush");
  if (!scrub.ended_early.empty()) Fail(absl::StrCat("a scrub ended early: ", scrub.ended_early));
  if (!may_rot && scrub.bad_blocks > 0) {
    Fail("checksum-of-its-generation: a scrub found rot though nothing rotted");
  } else if (!may_rot && scrub.different_blocks > 0) {
    Fail(absl::StrCat("clean-is-equal: a scrub found that copies differ in ",
                      scrub.different_blocks, " blocks, the first at ",
                      scrub.findings.front().offset));
  }
  return !Failed();
}

void GroupHarness::CheckPools() {
  for (const auto& node : nodes_) {
    if (Lost(node.get())) continue;
    for (GroupNode::PoolSlot& slot : node->pools()) {
      if (slot.id == lost_pool_) continue;  // a record in it is damaged
      const bool waited = world_.RunTask(slot.store->WaitForCleanup());
      replica::CheckOptions options;
      options.verify_data = node.get() != liar_;
      const auto report = world_.RunTask(replica::CheckPool(slot.store.get(), options));
      if (!waited || !report.has_value() || !report->ok()) {
        return Fail(absl::StrCat("pool check of ", node->name(), " cannot be done"));
      }
      if (!(*report)->problems.empty()) {
        return Fail(absl::StrCat("pool check of ", node->name(), ": ", (*report)->problems[0]));
      }
    }
  }
}

}  // namespace keelson::sim
