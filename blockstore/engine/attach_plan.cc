#include "blockstore/engine/attach_plan.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/seeded_bug.h"

namespace keelson::engine {

using replica::Configuration;
using replica::Member;
using replica::MemberState;

namespace {

// R15: a snapshot that not every segment is known to have.
void WithdrawIncomplete(Configuration* first) {
  std::erase_if(first->snapshots, [](const replica::ConfiguredSnapshot& snapshot) {
    return !snapshot.complete && !SeededBug(kKeepIncompleteSnapshots);
  });
}

}  // namespace

AttachPlan::AttachPlan(const SegmentHint& hint, const pool::Epoch& epoch, std::int64_t now_ns,
                       const SegmentOptions& options)
    : volume_(hint.volume),
      segment_(hint.segment),
      force_from_(hint.force_from),
      epoch_(epoch),
      grace_ns_(options.grace_ns),
      member_wait_ns_(options.member_wait_ns) {
  Learn(hint.members, now_ns);
}

const AttachPlan::Peer* AttachPlan::Find(const Member& member) const {
  const auto found = std::find_if(peers_.begin(), peers_.end(), [&member](const Peer& peer) {
    return peer.member.SameReplica(member);
  });
  return found == peers_.end() ? nullptr : &*found;
}

AttachPlan::Peer* AttachPlan::Find(const Member& member) {
  return const_cast<Peer*>(std::as_const(*this).Find(member));
}

// The address that was named first stays: the hint's is newer than a configuration's.
void AttachPlan::Learn(const std::vector<Member>& members, std::int64_t now_ns) {
  for (const Member& member : members) {
    Peer* known = Find(member);
    if (known == nullptr) {
      Peer peer;
      peer.member = member;
      peer.named_ns = now_ns;
      peers_.push_back(std::move(peer));
    } else if (known->member.address.empty()) {
      known->member.address = member.address;
    }
  }
}

bool AttachPlan::NamesThisSegment(const Configuration& configuration) const {
  return configuration.volume == volume_ && configuration.segment == segment_;
}

void AttachPlan::OnAnswer(const Member& member, const replica::PrepareAnswer& answer,
                          std::int64_t now_ns) {
  Peer* peer = Find(member);
  if (peer == nullptr) return;
  peer->open = true;
  peer->votes = false;
  peer->without_record = answer.pool != member.pool || answer.replica != member.replica ||
                         !answer.configuration.has_value() ||
                         !NamesThisSegment(*answer.configuration);
  if (SeededBug(kUnreadableRecordVotes) && !answer.configuration.has_value()) {
    peer->votes = true;
    peer->record.emplace();
    peer->promised_ns = now_ns;
    return;
  }
  if (peer->without_record) {
    peer->problem = "has no readable record of this segment";
    peer->promised_ns.reset();
    return;
  }
  const Configuration& seen = *answer.configuration;
  peer->incarnation = answer.incarnation;
  const auto is_member = [&member](const Member& other) { return other.SameReplica(member); };
  const bool named = std::any_of(seen.members.begin(), seen.members.end(), is_member) ||
                     std::any_of(seen.predecessor.begin(), seen.predecessor.end(), is_member);
  const bool quarantined = seen.quarantined() && !SeededBug(kSucceededVotesAgain);
  peer->votes = named && !quarantined;
  peer->problem = quarantined ? "an operator went on without it"
                  : named     ? ""
                              : "is not named by its own configuration";
  peer->record = seen;
  if (!peer->promised_ns.has_value()) peer->promised_ns = now_ns;
  Learn(seen.members, now_ns);
  Learn(seen.predecessor, now_ns);
  Learn(seen.successors, now_ns);
  const auto rank = [](const Configuration& one) { return std::tie(one.forced, one.version); };
  if (!highest_.has_value() ||
      (SeededBug(kAttachFromLowestConfiguration) ? rank(seen) < rank(*highest_)
                                                 : rank(seen) > rank(*highest_))) {
    highest_ = seen;
  }
  if (seen.version.epoch >= epoch_) {
    fenced_ = absl::AbortedError(absl::StrCat("volume ", volume_.ToString(), " segment ", segment_,
                                              ": replica ", member.replica.ToString(),
                                              " has a configuration of this epoch or a higher "
                                              "one; attach under a new epoch"));
  }
}

void AttachPlan::OnFailure(const Member& member, const absl::Status& status) {
  Peer* peer = Find(member);
  if (peer == nullptr) return;
  peer->open = false;
  peer->problem = std::string(status.message());
  peer->without_record = status.code() == absl::StatusCode::kNotFound;
  if (peer->without_record) {
    peer->votes = false;
    peer->promised_ns.reset();
  }
  if (status.code() == absl::StatusCode::kAborted) fenced_ = status;
}

std::vector<Member> AttachPlan::ToPrepare() const {
  std::vector<Member> members;
  for (const Peer& peer : peers_) {
    if (!peer.open) members.push_back(peer.member);
  }
  return members;
}

bool AttachPlan::Votes(const Peer* peer) const {
  return peer != nullptr && peer->votes && peer->record->forced == highest_->forced;
}

std::optional<std::int64_t> AttachPlan::MajorityAt(const std::vector<Member>& members) const {
  std::vector<std::int64_t> votes;
  for (const Member& member : members) {
    const Peer* peer = Find(member);
    if (Votes(peer)) votes.push_back(*peer->promised_ns);
  }
  const std::size_t needed = SeededBug(kAttachWithoutMajority) ? 1 : replica::MajorityOf(members);
  if (votes.size() < needed) return std::nullopt;
  std::sort(votes.begin(), votes.end());
  return votes[needed - 1];
}

// An answer without a record promises nothing that lasts: its member may serve an older engine
// again.
bool AttachPlan::EveryoneAnswered() const {
  return std::all_of(peers_.begin(), peers_.end(),
                     [](const Peer& peer) { return peer.promised_ns.has_value(); });
}

bool AttachPlan::IsInSyncVoter(const Member& member) const {
  const Peer* peer = Find(member);
  return member.state == MemberState::kInSync && Votes(peer);
}

bool AttachPlan::Restarted(const Member& member) const {
  const Peer* peer = Find(member);
  return peer != nullptr && peer->incarnation != member.incarnation;
}

// Also one that has a vote no more: its replica is not found any more, or its record cannot be
// read. What it answered stays true: it had writes that the restarted ones may have lost, and it
// may come back with them. Only another incarnation of itself, or a new attach, goes on without it.
bool AttachPlan::AnyInSyncKeptItsMemory() const {
  return std::any_of(highest_->members.begin(), highest_->members.end(),
                     [this](const Member& member) {
                       const Peer* peer = Find(member);
                       return member.state == MemberState::kInSync && peer != nullptr &&
                              peer->record.has_value() && !peer->record->quarantined() &&
                              peer->record->forced == highest_->forced && !Restarted(member);
                     });
}

bool AttachPlan::IsSource(const Member& member) const {
  return IsInSyncVoter(member) && Find(member)->open &&
         (!Restarted(member) || !AnyInSyncKeptItsMemory() || SeededBug(kTrustRestartedMember));
}

std::int64_t AttachPlan::PatienceEnds() const {
  std::int64_t ends_ns = 0;
  for (const Member& member : highest_->members) {
    if (member.state != MemberState::kInSync) continue;
    const Peer* peer = Find(member);
    if (peer->open || peer->without_record) continue;
    ends_ns = std::max(ends_ns, peer->named_ns + member_wait_ns_);
  }
  return ends_ns;
}

AttachDecision AttachPlan::Decide(std::int64_t now_ns) const {
  AttachDecision decision;
  if (!fenced_.ok()) {
    decision.kind = AttachDecision::Kind::kFenced;
    decision.status = fenced_;
    return decision;
  }
  return force_from_.is_nil() ? DecideByMajority(now_ns) : DecideByForce(now_ns);
}

AttachDecision AttachPlan::DecideByMajority(std::int64_t now_ns) const {
  AttachDecision decision;
  if (!highest_.has_value()) return WithoutRecord(now_ns);
  if (const std::string other = OtherHistory(); !other.empty()) {
    return Refused(absl::FailedPreconditionError(other));
  }
  if (LastHistory() > highest_->forced) {
    return WithoutQuorum(
        now_ns, absl::StrCat("an operator went on from one copy under attachment ",
                             LastHistory().attachment, ", and no member of that answered"));
  }
  const std::optional<std::int64_t> of_members = MajorityAt(highest_->members);
  if (!of_members.has_value()) return WithoutQuorum(now_ns, "no majority of its members answered");
  std::int64_t majority_ns = *of_members;
  if (!highest_->predecessor.empty()) {
    const std::optional<std::int64_t> of_predecessor = MajorityAt(highest_->predecessor);
    if (!of_predecessor.has_value()) {
      return WithoutQuorum(now_ns, "no majority of the members before its change answered");
    }
    majority_ns = std::max(majority_ns, *of_predecessor);
  }
  const bool any_source = std::any_of(highest_->members.begin(), highest_->members.end(),
                                      [this](const Member& member) { return IsSource(member); });
  if (!any_source) return WithoutQuorum(now_ns, "no member that is InSync can be used");
  const bool graceless = EveryoneAnswered() || SeededBug(kAttachWithoutGrace);
  const std::int64_t grace_ends_ns = graceless ? 0 : majority_ns + grace_ns_;
  decision.until_ns = std::max(PatienceEnds(), grace_ends_ns);
  return decision.until_ns > now_ns ? decision : Ready();
}

std::int64_t AttachPlan::MembersWaitEnds() const {
  std::int64_t ends_ns = 0;
  for (const Peer& peer : peers_) {
    if (peer.open || peer.without_record) continue;
    ends_ns = std::max(ends_ns, peer.named_ns + member_wait_ns_);
  }
  return ends_ns;
}

AttachDecision AttachPlan::Refused(absl::Status status) const {
  AttachDecision decision;
  decision.kind = AttachDecision::Kind::kRefused;
  decision.status =
      absl::Status(status.code(), absl::StrCat("volume ", volume_.ToString(), " segment ", segment_,
                                               ": ", std::string(status.message())));
  return decision;
}

AttachDecision AttachPlan::WithoutQuorum(std::int64_t now_ns, const std::string& missing) const {
  AttachDecision decision;
  decision.until_ns = MembersWaitEnds();
  if (decision.until_ns > now_ns) return decision;
  return Refused(absl::UnavailableError(absl::StrCat(
      missing, "; ", Silent(), "; bring them back, or attach on a node that reaches them")));
}

AttachDecision AttachPlan::WithoutRecord(std::int64_t now_ns) const {
  AttachDecision decision = WithoutQuorum(now_ns, "no member gave its configuration");
  const bool none_has_it = std::all_of(peers_.begin(), peers_.end(),
                                       [](const Peer& peer) { return peer.without_record; });
  if (decision.kind == AttachDecision::Kind::kRefused && none_has_it) {
    return Refused(absl::FailedPreconditionError(
        absl::StrCat("no member of the hint has this segment; ", Silent(),
                     "; attach with the members of the volume's record")));
  }
  return decision;
}

AttachDecision AttachPlan::Ready() const {
  AttachDecision decision;
  decision.kind = AttachDecision::Kind::kReady;
  decision.restarted = !AnyInSyncKeptItsMemory();
  Configuration first = *highest_;
  first.version = {epoch_, 1};
  if (decision.restarted) first.lost = epoch_;
  for (std::size_t i = 0; i < first.members.size(); ++i) {
    const Member& before = highest_->members[i];
    Member& member = first.members[i];
    const Peer* peer = Find(before);
    member.address = peer->member.address;
    if (IsSource(before)) {
      member.incarnation = peer->incarnation;
      continue;
    }
    if (before.state == MemberState::kInSync || SeededBug(kInSyncThroughRises)) {
      member.in_sync_through = highest_->clean;
    }
    member.state = MemberState::kOut;
  }
  WithdrawIncomplete(&first);
  decision.first = std::move(first);
  return decision;
}

// --- Force (R14) ---

pool::Epoch AttachPlan::LastHistory() const {
  pool::Epoch last;
  for (const Peer& peer : peers_) {
    if (!peer.record.has_value()) continue;
    last = std::max(last, peer.record->forced);
    if (!SeededBug(kSucceededVotesAgain)) last = std::max(last, peer.record->succeeded_by);
  }
  return last;
}

std::string AttachPlan::OtherHistory() const {
  const pool::Epoch last = LastHistory();
  for (const Peer& peer : peers_) {
    if (!peer.record.has_value() || peer.record->forced == last) continue;
    if (peer.record->version.epoch < last) continue;
    return absl::StrCat(
        "an operator went on from one copy under attachment ", last.attachment, ", and replica ",
        peer.member.replica.ToString(), " went on without that under attachment ",
        peer.record->version.epoch.attachment,
        ": there are two histories, each with writes of its own; choose one with --force-from");
  }
  return "";
}

const AttachPlan::Peer* AttachPlan::ForcedPeer() const {
  const auto found = std::find_if(peers_.begin(), peers_.end(), [this](const Peer& peer) {
    return peer.member.replica == force_from_;
  });
  return found == peers_.end() ? nullptr : &*found;
}

std::string AttachPlan::CannotForceFrom(const Peer& peer) const {
  if (peer.without_record) return peer.problem;
  if (!peer.record.has_value()) return "";  // it has not answered yet
  const Member* self = peer.record->Find(peer.member.pool, peer.member.replica);
  if (self == nullptr) return "it is not named by its own configuration";
  return self->witness ? "it is a witness and has no data" : "";
}

AttachDecision AttachPlan::DecideByForce(std::int64_t now_ns) const {
  const std::string name = absl::StrCat("replica ", force_from_.ToString());
  const Peer* peer = ForcedPeer();
  const std::string problem = peer == nullptr ? "no member has that id" : CannotForceFrom(*peer);
  if (!problem.empty()) {
    return Refused(
        absl::FailedPreconditionError(absl::StrCat(name, " cannot be gone on from: ", problem)));
  }
  // Who can be reached is to promise this epoch, so that no older engine goes on with it.
  AttachDecision decision;
  decision.until_ns = MembersWaitEnds();
  if (decision.until_ns > now_ns) return decision;
  if (!peer->open) {
    return Refused(absl::UnavailableError(
        absl::StrCat(name, ", which is to be gone on from, does not answer (",
                     peer->problem.empty() ? "no answer" : peer->problem, "); start its node")));
  }
  const bool chooses_another = highest_->Find(peer->member.pool, peer->member.replica) == nullptr ||
                               SeededBug(kForceWithMajority);
  if (!chooses_another && DecideByMajority(now_ns).kind != AttachDecision::Kind::kRefused) {
    return Refused(absl::FailedPreconditionError(
        "a majority of its members and a copy that has everything answer; attach it without going "
        "on from one copy alone"));
  }
  if (!EveryoneAnswered()) decision.until_ns = *peer->promised_ns + grace_ns_;
  return decision.until_ns > now_ns ? decision : Forced(*peer);
}

// What the replica itself has: its size, its snapshots, its data.
AttachDecision AttachPlan::Forced(const Peer& peer) const {
  AttachDecision decision;
  decision.kind = AttachDecision::Kind::kReady;
  Configuration first = *peer.record;
  Member alone = *first.Find(peer.member.pool, peer.member.replica);
  decision.restarted = alone.incarnation != peer.incarnation;
  alone.incarnation = peer.incarnation;
  alone.address = peer.member.address;
  alone.state = MemberState::kInSync;
  alone.in_sync_through = {};
  first.version = {epoch_, 1};
  std::erase_if(first.members, [&alone](const Member& one) {
    return one.SameReplica(alone) || !SeededBug(kForceKeepsMembers);
  });
  first.members.push_back(std::move(alone));
  first.predecessor.clear();
  first.min_in_sync_wanted = std::max(first.min_in_sync, first.min_in_sync_wanted);
  first.min_in_sync = 1;
  if (first.min_in_sync_wanted == 1) first.min_in_sync_wanted = 0;
  first.forced = epoch_;
  first.succeeded_by = {};
  first.successors.clear();
  WithdrawIncomplete(&first);
  decision.first = std::move(first);
  return decision;
}

std::string AttachPlan::Silent() const {
  std::string text;
  for (const Peer& peer : peers_) {
    if (peer.open && peer.votes) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", peer.member.witness ? "witness " : "replica ",
                    peer.member.replica.ToString(), " at ",
                    peer.member.address.empty() ? "this node" : peer.member.address, " (",
                    peer.problem.empty() ? "no answer" : peer.problem, ")");
  }
  return text.empty() ? "all members answered" : text;
}

}  // namespace keelson::engine
