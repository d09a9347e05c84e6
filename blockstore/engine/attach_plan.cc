#include "blockstore/engine/attach_plan.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace keelson::engine {

using replica::Configuration;
using replica::Member;
using replica::MemberState;

AttachPlan::AttachPlan(const SegmentHint& hint, const pool::Epoch& epoch, std::int64_t now_ns,
                       const SegmentOptions& options)
    : volume_(hint.volume),
      segment_(hint.segment),
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
  peer->incarnation = answer.incarnation;
  peer->votes = false;
  peer->without_record = answer.pool != member.pool || answer.replica != member.replica ||
                         !answer.configuration.has_value() ||
                         !NamesThisSegment(*answer.configuration);
  if (peer->without_record) {
    peer->problem = "has no readable record of this segment";
    peer->promised_ns.reset();
    return;
  }
  const Configuration& seen = *answer.configuration;
  const auto is_member = [&member](const Member& other) { return other.SameReplica(member); };
  peer->votes = std::any_of(seen.members.begin(), seen.members.end(), is_member) ||
                std::any_of(seen.predecessor.begin(), seen.predecessor.end(), is_member);
  peer->problem = peer->votes ? "" : "is not named by its own configuration";
  if (!peer->promised_ns.has_value()) peer->promised_ns = now_ns;
  Learn(seen.members, now_ns);
  Learn(seen.predecessor, now_ns);
  if (!highest_.has_value() || seen.version > highest_->version) highest_ = seen;
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

std::optional<std::int64_t> AttachPlan::MajorityAt(const std::vector<Member>& members) const {
  std::vector<std::int64_t> votes;
  for (const Member& member : members) {
    const Peer* peer = Find(member);
    if (peer != nullptr && peer->votes) votes.push_back(*peer->promised_ns);
  }
  const std::size_t needed = replica::MajorityOf(members);
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
  return member.state == MemberState::kInSync && peer != nullptr && peer->votes;
}

bool AttachPlan::Restarted(const Member& member) const {
  const Peer* peer = Find(member);
  return peer != nullptr && peer->incarnation != member.incarnation;
}

bool AttachPlan::AnyInSyncKeptItsMemory() const {
  return std::any_of(
      highest_->members.begin(), highest_->members.end(),
      [this](const Member& member) { return IsInSyncVoter(member) && !Restarted(member); });
}

bool AttachPlan::IsSource(const Member& member) const {
  return IsInSyncVoter(member) && Find(member)->open &&
         (!Restarted(member) || !AnyInSyncKeptItsMemory());
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
  if (!highest_.has_value()) return WithoutRecord(now_ns);
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
  const std::int64_t grace_ends_ns = EveryoneAnswered() ? 0 : majority_ns + grace_ns_;
  decision.until_ns = std::max(PatienceEnds(), grace_ends_ns);
  return decision.until_ns > now_ns ? decision : Ready();
}

AttachDecision AttachPlan::WithoutQuorum(std::int64_t now_ns, const std::string& missing) const {
  AttachDecision decision;
  for (const Peer& peer : peers_) {
    if (peer.open || peer.without_record) continue;
    decision.until_ns = std::max(decision.until_ns, peer.named_ns + member_wait_ns_);
  }
  if (decision.until_ns > now_ns) return decision;
  decision.kind = AttachDecision::Kind::kRefused;
  decision.status = absl::UnavailableError(
      absl::StrCat("volume ", volume_.ToString(), " segment ", segment_, ": ", missing, "; ",
                   Silent(), "; bring them back, or attach on a node that reaches them"));
  return decision;
}

AttachDecision AttachPlan::WithoutRecord(std::int64_t now_ns) const {
  AttachDecision decision = WithoutQuorum(now_ns, "no member gave its configuration");
  const bool none_has_it = std::all_of(peers_.begin(), peers_.end(),
                                       [](const Peer& peer) { return peer.without_record; });
  if (decision.kind == AttachDecision::Kind::kRefused && none_has_it) {
    decision.status = absl::FailedPreconditionError(
        absl::StrCat("volume ", volume_.ToString(), " segment ", segment_,
                     ": no member of the hint has this segment; ", Silent(),
                     "; attach with the members of the volume's record"));
  }
  return decision;
}

AttachDecision AttachPlan::Ready() const {
  AttachDecision decision;
  decision.kind = AttachDecision::Kind::kReady;
  decision.restarted = !AnyInSyncKeptItsMemory();
  Configuration first = *highest_;
  first.version = {epoch_, 1};
  for (std::size_t i = 0; i < first.members.size(); ++i) {
    const Member& before = highest_->members[i];
    Member& member = first.members[i];
    const Peer* peer = Find(before);
    member.address = peer->member.address;
    if (IsSource(before)) {
      member.incarnation = peer->incarnation;
      continue;
    }
    if (before.state == MemberState::kInSync) member.in_sync_through = highest_->clean;
    member.state = MemberState::kOut;
  }
  std::erase_if(first.snapshots,
                [](const replica::ConfiguredSnapshot& snapshot) { return !snapshot.complete; });
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
