// GroupWatch: what holds when an operator goes on from one copy (R14): when that may be, what is
// made of it, and what becomes of the copies that are left behind.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_watch.h"

namespace keelson::sim {

using replica::Configuration;
using replica::Member;
using replica::MemberState;

namespace {

bool Names(const Configuration& configuration, const pool::ReplicaId& replica) {
  for (const auto* members : {&configuration.members, &configuration.predecessor}) {
    for (const Member& member : *members) {
      if (member.replica == replica) return true;
    }
  }
  return false;
}

std::string Short(const pool::Uuid& id) { return id.ToString().substr(0, 8); }

}  // namespace

const Configuration* GroupWatch::InForceBefore(const pool::Epoch& forced) const {
  for (auto it = records_.rbegin(); it != records_.rend(); ++it) {
    const Record& record = it->second;
    if (record.in_force && record.configuration.forced < forced) return &record.configuration;
  }
  return nullptr;
}

void GroupWatch::PortGone(const pool::ReplicaId& member, const pool::Epoch& epoch,
                          const replica::ReplicaPort* port) {
  const auto found = ports_[epoch].find(member);
  if (found != ports_[epoch].end() && found->second == port) ports_[epoch].erase(found);
}

bool GroupWatch::HasVote(const pool::ReplicaId& member, const replica::PrepareAnswer& answer,
                         const Configuration& base) const {
  return answer.configuration.has_value() && answer.configuration->forced == base.forced &&
         !IsSucceeded(member);
}

bool GroupWatch::TakesPart(const pool::ReplicaId& member, const Configuration& configuration) {
  const auto succeeded = succeeded_.find(member);
  if (succeeded != succeeded_.end() && configuration.forced < succeeded->second) {
    Violate("one-history",
            absl::StrCat("member ", Short(member), " accepted ", replica::ToString(configuration),
                         " after it had been succeeded"));
  }
  if (Names(configuration, member)) return true;
  const Configuration* const own = Find(highest_[member]);
  if (own == nullptr || configuration.forced <= own->forced) return true;
  pool::Epoch& by = succeeded_[member];
  by = std::max(by, configuration.forced);
  return false;
}

// Counted are those whose sessions have not ended since: the others prove nothing here.
bool GroupWatch::MajorityAnswers(const Configuration& base, const pool::Epoch& epoch) const {
  const auto& answers = answers_.at(epoch);
  const auto& ports = ports_.at(epoch);
  const auto there = [&](const Member& member) {
    const auto answer = answers.find(member.replica);
    const auto port = ports.find(member.replica);
    return answer != answers.end() && port != ports.end() && port->second->open() &&
           HasVote(member.replica, answer->second, base);
  };
  for (const auto* members : {&base.members, &base.predecessor}) {
    const auto votes =
        static_cast<std::size_t>(std::count_if(members->begin(), members->end(), there));
    if (!members->empty() && 2 * votes <= members->size()) return false;
  }
  return std::any_of(base.members.begin(), base.members.end(), [&](const Member& member) {
    return member.state == MemberState::kInSync && there(member) &&
           answers.at(member.replica).incarnation == member.incarnation;
  });
}

void GroupWatch::CheckForced(const Configuration& first) {
  const pool::Epoch& epoch = first.version.epoch;
  const std::string shown = replica::ToString(first);
  const auto named = forces_.find(epoch);
  if (named == forces_.end()) {
    return Violate("one-history", absl::StrCat("nobody asked for ", shown));
  }
  const auto& answers = answers_[epoch];
  const auto answer = answers.find(named->second);
  if (answer == answers.end() || !answer->second.configuration.has_value()) {
    return Violate("one-history", absl::StrCat("made without the named replica: ", shown));
  }
  const Configuration& own = *answer->second.configuration;
  if (first.members.size() != 1 || first.members[0].replica != named->second ||
      first.members[0].state != MemberState::kInSync || !first.predecessor.empty()) {
    Violate("one-history", absl::StrCat("not of the named replica alone: ", shown));
  }
  std::vector<replica::ConfiguredSnapshot> complete;
  std::copy_if(own.snapshots.begin(), own.snapshots.end(), std::back_inserter(complete),
               [](const replica::ConfiguredSnapshot& snapshot) { return snapshot.complete; });
  if (first.size_bytes != own.size_bytes || first.clean != own.clean ||
      first.snapshots != complete) {
    Violate("one-history", absl::StrCat("not what the named replica has: ", shown));
  }
  const std::optional<Configuration> base = BaseOf(epoch);
  if (!base.has_value() || !Names(*base, named->second)) return;  // it chooses another history
  if (MajorityAnswers(*base, epoch)) {
    Violate("one-history", absl::StrCat("a majority and an InSync member of ",
                                        replica::ToString(*base), " had answered: ", shown));
  }
}

}  // namespace keelson::sim
