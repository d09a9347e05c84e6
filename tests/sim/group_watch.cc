#include "tests/sim/group_watch.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

using replica::Configuration;
using replica::Member;
using replica::MemberState;

std::string Short(const pool::Uuid& id) { return id.ToString().substr(0, 8); }

std::string Name(const pool::Epoch& epoch) {
  return absl::StrCat("epoch ", epoch.attachment, ".", epoch.restart);
}

// Not the product's: what is judged is not asked.
template <typename Voted>
bool MajorityVoted(const Configuration& configuration, Voted voted) {
  for (const auto* members : {&configuration.members, &configuration.predecessor}) {
    const auto votes =
        static_cast<std::size_t>(std::count_if(members->begin(), members->end(), voted));
    if (!members->empty() && 2 * votes <= members->size()) return false;
  }
  return true;
}

const Member* FindReplica(const Configuration& configuration, const pool::ReplicaId& replica) {
  for (const Member& member : configuration.members) {
    if (member.replica == replica) return &member;
  }
  return nullptr;
}

}  // namespace

void GroupWatch::Violate(std::string_view invariant, std::string_view what) {
  if (!violation_.empty()) return;
  violation_ = absl::StrCat(std::string(invariant), ": ", std::string(what));
}

const Configuration* GroupWatch::in_force() const {
  for (auto it = records_.rbegin(); it != records_.rend(); ++it) {
    if (it->second.in_force) return &it->second.configuration;
  }
  return nullptr;
}

std::vector<Configuration> GroupWatch::Candidates() const {
  std::vector<Configuration> candidates;
  for (auto it = records_.rbegin(); it != records_.rend(); ++it) {
    candidates.push_back(it->second.configuration);
    if (it->second.in_force) break;
  }
  return candidates;
}

const Configuration* GroupWatch::Find(const replica::ConfigurationVersion& version) const {
  const auto found = records_.find(version);
  return found == records_.end() ? nullptr : &found->second.configuration;
}

void GroupWatch::Made(const pool::ReplicaId& member, const Configuration& first) {
  for (const Member& named : first.members) {
    if (named.witness) witnesses_.insert(named.replica);
  }
  Accepted(member, first);
}

void GroupWatch::Prepared(const pool::ReplicaId& member, const pool::Epoch& epoch,
                          const replica::PrepareAnswer& answer) {
  Promise& promise = promises_[member];
  if (epoch < promise.epoch && world_->now_ns() > promise.at_ns) {
    Violate("one-writer", absl::StrCat("member ", Short(member), " promised ", Name(epoch),
                                       " after ", Name(promise.epoch)));
  }
  if (epoch >= promise.epoch) promise = {epoch, world_->now_ns()};
  traces_[member].prepared_ns = world_->now_ns();
  traces_[member].promised_ns.emplace(epoch, world_->now_ns());
  if (answer.configuration.has_value() && answer.configuration->version < highest_[member]) {
    Violate("quorum-intersects",
            absl::StrCat("member ", Short(member), " forgot a configuration it had accepted"));
  }
  if (answer.configuration.has_value() && answer.configuration->quarantined()) {
    pool::Epoch& by = succeeded_[member];  // its acceptance may have been told to nobody
    by = std::max(by, answer.configuration->succeeded_by);
  }
  const auto succeeded = succeeded_.find(member);
  if (succeeded != succeeded_.end() && answer.configuration.has_value() &&
      answer.configuration->succeeded_by < succeeded->second) {
    Violate("one-history",
            absl::StrCat("member ", Short(member), " forgot that it had been succeeded"));
  }
}

void GroupWatch::Answered(const pool::ReplicaId& member, const pool::Epoch& epoch,
                          const replica::PrepareAnswer& answer, const replica::ReplicaPort* port) {
  answers_[epoch][member] = answer;
  ports_[epoch][member] = port;
  // A promise without a record is not sure to last.
  if (answer.configuration.has_value()) answered_ns_[epoch].emplace(member, world_->now_ns());
  traces_[member].opened_with = {epoch, 0};
  const auto known = before_last_.find(epoch);
  if (known != before_last_.end()) traces_[member].opened_with = known->second;
}

void GroupWatch::Proposed(const Configuration& configuration) {
  if (!proposed_.insert(configuration.version).second) return;
  CheckShape(configuration);
  const pool::Epoch& epoch = configuration.version.epoch;
  if (configuration.version.counter == 1) {
    CheckFirstOfEpoch(configuration);
    if (const auto base = bases_.find(epoch); base != bases_.end()) {
      CheckNext(base->second, configuration);
    }
  } else if (const auto last = last_proposed_.find(epoch); last != last_proposed_.end()) {
    CheckNext(last->second, configuration);
  }
  if (const auto last = last_proposed_.find(epoch); last != last_proposed_.end()) {
    before_last_[epoch] = last->second.version;
  }
  last_proposed_[epoch] = configuration;
}

void GroupWatch::Accepted(const pool::ReplicaId& member, const Configuration& configuration) {
  if (!TakesPart(member, configuration)) return;
  replica::ConfigurationVersion& highest = highest_[member];
  if (configuration.version < highest) return;  // answered, and without effect
  highest = configuration.version;
  Record& record = records_[configuration.version];
  if (record.accepted_by.empty()) {
    record.configuration = configuration;
  } else if (!(record.configuration == configuration)) {
    Violate("quorum-intersects", absl::StrCat("two configurations have one version: ",
                                              replica::ToString(configuration)));
  }
  record.accepted_by.insert(member);
  if (record.in_force) return;
  const auto voted = [&record](const Member& voter) {
    return record.accepted_by.contains(voter.replica);
  };
  if (!MajorityVoted(configuration, voted)) return;
  const Configuration* const before = in_force();
  if (before != nullptr && before->version < configuration.version) {
    CheckOneChange(*before, configuration);
  }
  record.in_force = true;
  if (on_in_force_) on_in_force_(record.configuration);
}

void GroupWatch::CheckShape(const Configuration& configuration) {
  if (configuration.in_sync_count() == 0) {
    Violate("last-copy-stays", replica::ToString(configuration));
  }
  for (const Member& member : configuration.members) {
    if (member.witness) witnesses_.insert(member.replica);
    if (member.witness && member.state != MemberState::kOut) {
      Violate("witness-has-no-data", replica::ToString(configuration));
    }
  }
}

std::optional<Configuration> GroupWatch::BaseOf(const pool::Epoch& epoch) const {
  if (const auto known = bases_.find(epoch); known != bases_.end()) return known->second;
  std::optional<Configuration> base;
  const auto found = answers_.find(epoch);
  if (found == answers_.end()) return base;
  for (const auto& [member, answer] : found->second) {
    if (!answer.configuration.has_value() || answer.configuration->version.epoch >= epoch) continue;
    const auto rank = [](const Configuration& one) { return std::tie(one.forced, one.version); };
    if (!base.has_value() || rank(*base) < rank(*answer.configuration)) {
      base = answer.configuration;
    }
  }
  return base;
}

// R1: what the first configuration of an attachment makes of the answers it is built on.
void GroupWatch::CheckFirstOfEpoch(const Configuration& first) {
  if (first.forced == first.version.epoch) return CheckForced(first);
  const std::optional<Configuration> base = BaseOf(first.version.epoch);
  if (!base.has_value()) {
    return Violate("quorum-intersects", "an attachment without an answer to build on");
  }
  bases_[first.version.epoch] = *base;
  const auto& answers = answers_[first.version.epoch];
  const auto voted = [&](const Member& voter) {
    const auto answer = answers.find(voter.replica);
    return answer != answers.end() && HasVote(voter.replica, answer->second, *base);
  };
  if (!MajorityVoted(*base, voted)) {
    Violate("quorum-intersects",
            absl::StrCat("an attachment without a majority: ", replica::ToString(*base)));
  }
  const Configuration* const now = in_force();
  if (now != nullptr && base->version < now->version && now->version.epoch < first.version.epoch) {
    Violate("quorum-intersects",
            absl::StrCat("an attachment did not see the configuration in force: ",
                         replica::ToString(*now)));
  }
  CheckRestarted(first, *base);
  CheckGrace(first, *base);
}

// R3: who may still be InSync.
void GroupWatch::CheckRestarted(const Configuration& first, const Configuration& base) {
  const auto& answers = answers_[first.version.epoch];
  std::string untouched;  // that answered
  bool restarted_stays = false;
  for (const Member& old : base.members) {
    const auto answer = answers.find(old.replica);
    if (old.state != MemberState::kInSync || answer == answers.end()) continue;
    const bool restarted = answer->second.incarnation != old.incarnation;
    // One without a readable record is no source (R2).
    const bool source = answer->second.configuration.has_value();
    if (!restarted && source && !lost_.contains(old.incarnation)) untouched = Short(old.replica);
    const Member* const now = FindReplica(first, old.replica);
    if (restarted && now != nullptr && now->state == MemberState::kInSync) restarted_stays = true;
  }
  if (restarted_stays) SIM_PROBE("group: every InSync member had restarted");
  if (restarted_stays && !untouched.empty()) {
    Violate("restarted-is-not-trusted",
            absl::StrCat(replica::ToString(first), ", though ", untouched,
                         " answered; it was built on ", replica::ToString(base)));
  }
  for (const Member& member : first.members) {
    const Member* const old = FindReplica(base, member.replica);
    if (member.state != MemberState::kInSync) continue;
    const auto answer = answers.find(member.replica);
    if (old == nullptr || old->state != MemberState::kInSync || answer == answers.end()) {
      Violate("restarted-is-not-trusted",
              absl::StrCat("an attachment calls a member InSync that was not, or did not answer: ",
                           replica::ToString(first)));
    } else if (!answer->second.configuration.has_value()) {
      Violate("quorum-intersects",
              absl::StrCat("an attachment calls a member InSync that has no readable record: ",
                           replica::ToString(first)));
    }
  }
}

void GroupWatch::CheckOneChange(const Configuration& before, const Configuration& after) {
  if (after.forced != before.forced) return;  // CheckForced
  const auto missing = [](const Configuration& in, const Configuration& of) {
    return std::count_if(of.members.begin(), of.members.end(), [&in](const Member& member) {
      return !member.witness && FindReplica(in, member.replica) == nullptr;
    });
  };
  if (missing(after, before) + missing(before, after) > 1) {
    Violate("one-change",
            absl::StrCat(replica::ToString(before), " is followed by ", replica::ToString(after)));
  }
}

void GroupWatch::Changed(const pool::ReplicaId& member, const pool::Epoch& epoch,
                         std::string_view what) {
  if (IsWitness(member)) {
    Violate("witness-has-no-data",
            absl::StrCat(std::string(what), " was done at witness ", Short(member)));
  }
  if (IsSucceeded(member)) {
    Violate("one-history", absl::StrCat(std::string(what), " was done at ", Short(member),
                                        ", which an operator left behind"));
  }
  const Promise& promise = promises_[member];
  if (epoch < promise.epoch && world_->now_ns() > promise.at_ns) {
    Violate("one-writer", absl::StrCat(std::string(what), " of ", Name(epoch), " was applied at ",
                                       Short(member), " after it promised ", Name(promise.epoch)));
  }
}

void GroupWatch::Holds(const pool::ReplicaId& member, std::uint64_t first_block,
                       std::span<const std::byte> bytes) {
  Held& held = held_[member];
  for (std::uint64_t i = 0; i < bytes.size() / kModelBlockBytes; ++i) {
    std::uint64_t stamp = 0;
    std::memcpy(&stamp, bytes.data() + i * kModelBlockBytes, sizeof(stamp));
    const auto version = static_cast<Version>(stamp);
    held.blocks.insert((first_block + i) << 32 | version);
    auto& newest = held.newest[first_block + i];
    newest = {std::max(newest.first, version), now()};
  }
}

void GroupWatch::Trimmed(const pool::ReplicaId& member, std::uint64_t first, std::uint64_t count,
                         std::uint64_t began) {
  held_[member].trims.push_back({first, count, began});
}

bool GroupWatch::Has(const pool::ReplicaId& member, std::uint64_t block, Version version,
                     std::uint64_t began) const {
  const auto found = held_.find(member);
  if (found == held_.end()) return version == kZeroes;
  // Or what was written over it since: an acknowledgement may wait, for a further copy, while later
  // writes of the block go on, and that copy then has the later one only.
  const auto newest = found->second.newest.find(block);
  if (newest != found->second.newest.end()) {
    const auto& [newest_version, at] = newest->second;
    if (version == kZeroes ? at > began : newest_version > version) return true;
  } else if (version == kZeroes) {
    return true;  // nothing was ever there, so nothing had to be copied
  }
  // Trimmed already, when it last held something: as good.
  if (version == kZeroes) began = std::min(began, newest->second.second);
  if (version != kZeroes && found->second.blocks.contains(block << 32 | version)) return true;
  const auto& trims = found->second.trims;
  return std::any_of(trims.begin(), trims.end(), [&](const Trim& trim) {
    return trim.began > began && trim.first <= block && block < trim.first + trim.count;
  });
}

void GroupWatch::Acknowledged(const pool::Epoch& epoch, std::uint64_t first, std::uint64_t count,
                              Version version, std::uint64_t began) {
  const Configuration* const now = in_force();
  if (now == nullptr || now->version.epoch < epoch) {
    return Violate("quorum-intersects",
                   absl::StrCat(Name(epoch),
                                " acknowledged a write with no configuration of its "
                                "own in force"));
  }
  if (now->version.epoch != epoch) {
    // Applied before the next engine came; the blocks' histories judge it.
    SIM_PROBE("group: an acknowledgement arrived after the next attachment");
    return;
  }
  for (const Member& member : now->members) {
    if (member.state != MemberState::kInSync) continue;
    for (std::uint64_t block = first; block < first + count; ++block) {
      if (Has(member.replica, block, version, began)) continue;
      return Violate("degrade-before-ack",
                     absl::StrCat(version == kZeroes ? "a trim" : "a write", " of block ", block,
                                  " was acknowledged, but InSync member ", Short(member.replica),
                                  " has not applied it; in force: ", replica::ToString(*now)));
    }
  }
}

}  // namespace keelson::sim
