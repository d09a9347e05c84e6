#include "provisioner/ctl/cluster_view.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace keelson::ctl {
namespace {

auto Version(const v1::Configuration& configuration) {
  return std::tuple(configuration.forced_attachment(), configuration.attachment(),
                    configuration.restart(), configuration.engine_id(), configuration.counter());
}

// The members' replicas among the answers.
void PlaceMembers(const std::vector<NodeAnswer>& nodes, VolumeView* view) {
  std::vector<v1::Member> members(view->configuration.members().begin(),
                                  view->configuration.members().end());
  for (const v1::Member& before : view->configuration.predecessor()) {
    const bool known = std::any_of(members.begin(), members.end(), [&before](const auto& member) {
      return member.replica_id() == before.replica_id();
    });
    if (!known) members.push_back(before);
  }
  for (const v1::Member& member : members) view->members.push_back({member, "", std::nullopt});
  for (const NodeAnswer& node : nodes) {
    for (PlacedMember& placed : view->members) {
      // A node is known by its pool even when the replica is gone from it.
      for (const v1::Pool& pool : node.node.pools()) {
        if (pool.id() == placed.member.pool_id()) placed.node = node.name;
      }
    }
    for (const v1::Replica& replica : node.replicas) {
      if (replica.volume_id() != view->volume_id || replica.segment() != 0) continue;
      const auto found =
          std::find_if(view->members.begin(), view->members.end(), [&replica](const auto& placed) {
            return placed.member.replica_id() == replica.replica_id();
          });
      if (found != view->members.end()) {
        found->replica = replica;
        continue;
      }
      v1::Member member;
      member.set_pool_id(replica.pool_id());
      member.set_replica_id(replica.replica_id());
      member.set_witness(replica.witness());
      view->leftovers.push_back({member, node.name, replica});
    }
  }
}

void FindServing(const std::vector<NodeAnswer>& nodes, VolumeView* view) {
  const v1::GetVolumeStatusResponse* serving = nullptr;
  const v1::GetVolumeStatusResponse* resuming = nullptr;
  for (const NodeAnswer& node : nodes) {
    if (!node.volume || node.volume->volume_id() != view->volume_id) continue;
    const v1::GetVolumeStatusResponse& one = *node.volume;
    if (!one.attached()) {
      resuming = &one;
      view->resuming_node = node.name;
    } else if (serving == nullptr || std::pair(serving->attachment(), serving->restart()) <
                                         std::pair(one.attachment(), one.restart())) {
      serving = &one;
      view->serving_node = node.name;
    }
  }
  if (serving != nullptr) {
    view->status = *serving;
    // It accepted this configuration before its members did.
    if (serving->segments_size() > 0 &&
        Older(view->configuration, serving->segments(0).configuration())) {
      view->configuration = serving->segments(0).configuration();
    }
  } else if (resuming != nullptr) {
    view->status = *resuming;
  }
}

std::string NodeOrAddress(const PlacedMember& placed) {
  if (!placed.node.empty()) return absl::StrCat("node ", placed.node);
  return placed.member.address().empty() ? "a node that does not answer" : placed.member.address();
}

std::string SilentText(const VolumeView& volume) {
  if (volume.silent_nodes.empty()) return "";
  return absl::StrCat("; no answer from ", volume.silent_nodes.size() == 1 ? "node " : "nodes ",
                      Enumerate(volume.silent_nodes));
}

std::string ExplainDetached(const VolumeView& volume) {
  const absl::Status reachable = CheckReachable(volume);
  if (!reachable.ok()) {
    return absl::StrCat("volume ", volume.name,
                        " is detached, and cannot be attached: ", std::string(reachable.message()));
  }
  if (!volume.session_nodes.empty()) {
    return absl::StrCat("volume ", volume.name,
                        " is in use by an engine on a node that does not answer or is not named",
                        SilentText(volume), "; `volume attach --force` takes it over");
  }
  return absl::StrCat("volume ", volume.name, " is detached", SilentText(volume),
                      "; enough of its members answer to attach it");
}

std::string WhereIs(const VolumeView& volume, const v1::Member& member) {
  for (const PlacedMember& placed : volume.members) {
    if (placed.member.replica_id() == member.replica_id()) return NodeOrAddress(placed);
  }
  return member.address();
}

// The first member that has missed something, in words; empty when none has.
std::string ExplainDegraded(const VolumeView& volume, const v1::SegmentStatus& segment) {
  for (const v1::MemberStatus& member : segment.members()) {
    if (member.member().witness() || member.member().state() == v1::MEMBER_STATE_IN_SYNC) continue;
    const std::string where = WhereIs(volume, member.member());
    if (member.member().state() == v1::MEMBER_STATE_SYNCING) {
      return absl::StrCat("what the copy on ", where,
                          " missed is being copied to it: ", member.resync_regions_left(),
                          " regions of 4 MiB are left", member.problem().empty() ? "" : "; ",
                          member.problem());
    }
    return absl::StrCat("the copy on ", where, " missed something and is ",
                        !member.connected()        ? "waited for: it does not answer"
                        : member.problem().empty() ? "about to be brought up to date"
                                                   : "not brought up to date yet",
                        member.problem().empty() ? "" : " (", member.problem(),
                        member.problem().empty() ? "" : ")");
  }
  return "";
}

// The first member that has everything and is slow; empty when none is.
std::string ExplainSlow(const VolumeView& volume, const v1::SegmentStatus& segment) {
  for (const v1::MemberStatus& member : segment.members()) {
    if (member.member().state() != v1::MEMBER_STATE_IN_SYNC || member.problem().empty()) continue;
    return absl::StrCat("the copy on ", WhereIs(volume, member.member()), ": ", member.problem());
  }
  return "";
}

std::string ExplainServing(const VolumeView& volume) {
  const std::string begin =
      absl::StrCat("volume ", volume.name, " is attached on node ", volume.serving_node);
  if (!volume.status->error().empty()) {
    return absl::StrCat(begin, ", and its attachment has ended: ", volume.status->error(),
                        "; detach it there, or attach it where it is wanted");
  }
  for (const v1::SegmentStatus& segment : volume.status->segments()) {
    if (!segment.waiting_for().empty()) {
      return absl::StrCat(begin, "; its I/O waits for ", segment.waiting_for(), SilentText(volume));
    }
  }
  for (const v1::SegmentStatus& segment : volume.status->segments()) {
    const std::string degraded = ExplainDegraded(volume, segment);
    if (!degraded.empty()) {
      return absl::StrCat(begin, " and served, but degraded: ", degraded, SilentText(volume));
    }
    const std::string slow = ExplainSlow(volume, segment);
    if (!slow.empty()) return absl::StrCat(begin, " and served; ", slow, SilentText(volume));
    if (segment.regions_to_reconcile() > 0) {
      return absl::StrCat(begin, " and served; ", segment.regions_to_reconcile(),
                          " regions are still being made equal on all copies");
    }
  }
  return absl::StrCat(begin, "; all ", volume.copies(), " copies have everything");
}

}  // namespace

const PlacedMember* VolumeView::OnNode(const std::string& node) const {
  for (const PlacedMember& placed : members) {
    if (placed.node == node) return &placed;
  }
  return nullptr;
}

const PlacedMember* VolumeView::Find(const std::string& replica_id) const {
  for (const auto* list : {&members, &leftovers}) {
    for (const PlacedMember& placed : *list) {
      if (placed.member.replica_id() == replica_id) return &placed;
    }
  }
  return nullptr;
}

std::size_t VolumeView::copies() const {
  return static_cast<std::size_t>(
      std::count_if(configuration.members().begin(), configuration.members().end(),
                    [](const v1::Member& member) { return !member.witness(); }));
}

bool Older(const v1::Configuration& a, const v1::Configuration& b) {
  return Version(a) < Version(b);
}

absl::StatusOr<VolumeView> FindVolume(const std::vector<NodeAnswer>& nodes,
                                      const std::string& name) {
  VolumeView view;
  view.name = name;
  for (const NodeAnswer& node : nodes) {
    if (!node.status.ok()) view.silent_nodes.push_back(node.name);
    for (const v1::Replica& replica : node.replicas) {
      if (replica.volume() != name || replica.segment() != 0) continue;
      if (!view.volume_id.empty() && view.volume_id != replica.volume_id()) {
        return absl::FailedPreconditionError(absl::StrCat(
            "there are two volumes of the name '", name, "', with the ids ", view.volume_id,
            " and ", replica.volume_id(), "; name only the nodes of one of them"));
      }
      view.volume_id = replica.volume_id();
      view.promised = std::max(view.promised, replica.promised_attachment());
      view.forced_attachment = std::max({view.forced_attachment, replica.succeeded_by_attachment(),
                                         replica.configuration().forced_attachment()});
      if (replica.in_session()) view.session_nodes.push_back(node.name);
      if (replica.has_configuration() && (view.configuration.members().empty() ||
                                          Older(view.configuration, replica.configuration()))) {
        view.configuration = replica.configuration();
      }
    }
  }
  if (view.volume_id.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no node has a replica of a volume '", name, "'", SilentText(view)));
  }
  FindServing(nodes, &view);
  PlaceMembers(nodes, &view);
  return view;
}

std::vector<std::string> VolumeNames(const std::vector<NodeAnswer>& nodes) {
  std::set<std::string> names;
  for (const NodeAnswer& node : nodes) {
    for (const v1::Replica& replica : node.replicas) names.insert(replica.volume());
  }
  return {names.begin(), names.end()};
}

absl::Status CheckReachable(const VolumeView& volume) {
  if (volume.forced_attachment > volume.configuration.forced_attachment()) {
    return absl::UnavailableError(
        absl::StrCat("an operator went on from one copy (attachment ", volume.forced_attachment,
                     "), and no member of that answers", SilentText(volume)));
  }
  const auto answers = [&volume](const v1::Member& member) {
    return std::any_of(volume.members.begin(), volume.members.end(), [&](const auto& placed) {
      return placed.member.replica_id() == member.replica_id() && placed.replica &&
             placed.replica->has_configuration();
    });
  };
  for (const auto* set : {&volume.configuration.members(), &volume.configuration.predecessor()}) {
    int count = 0, in_sync = 0;
    for (const v1::Member& member : *set) {
      if (!answers(member)) continue;
      ++count;
      if (member.state() == v1::MEMBER_STATE_IN_SYNC) ++in_sync;
    }
    const int needed = set->size() / 2 + 1;
    if (set->empty()) continue;
    if (count < needed) {
      return absl::UnavailableError(absl::StrCat("only ", count, " of its ", set->size(),
                                                 " members answer, and a majority of ", needed,
                                                 " is needed", SilentText(volume)));
    }
    if (in_sync == 0 && set == &volume.configuration.members()) {
      return absl::UnavailableError(absl::StrCat(
          "none of the members that answer has everything that was written", SilentText(volume)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckUnused(const VolumeView& volume) {
  if (!volume.serving_node.empty() && volume.status->error().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume '", volume.name, "' is attached on node ", volume.serving_node));
  }
  if (volume.session_nodes.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "volume '", volume.name, "' is in use: its replicas on ", Enumerate(volume.session_nodes),
      " are in a session of an engine", SilentText(volume)));
}

bool Quarantined(const VolumeView& volume, const v1::Replica& replica) {
  if (replica.succeeded_by_attachment() != 0) return true;
  return replica.has_configuration() &&
         replica.configuration().forced_attachment() < volume.forced_attachment;
}

std::string ExplainForce(const VolumeView& volume, const PlacedMember& placed) {
  const std::string& id = placed.member.replica_id();
  std::string has =
      "it is of a history that an operator has left, and lacks every write of the other";
  std::vector<std::string> others;
  for (const PlacedMember& member : volume.members) {
    if (member.member.replica_id() != id) {
      others.push_back(NodeOrAddress(member));
    } else if (member.member.state() == v1::MEMBER_STATE_IN_SYNC) {
      has =
          "it had everything by the newest record that answers; what was acknowledged after the "
          "others went on without it is lost";
    } else if (member.member.state() == v1::MEMBER_STATE_SYNCING) {
      has =
          "it was being brought up to date: some of it is new, some old, and the content as a "
          "whole is of no one moment";
    } else {
      has = "it missed writes, which are lost";
    }
  }
  return absl::StrCat(
      "going on from replica ", id, " on ", NodeOrAddress(placed), " alone: ", has,
      ". The other members (", others.empty() ? "none" : Enumerate(others),
      ") are quarantined: kept as they are, and not used again. An engine that still reaches a "
      "majority of them would go on beside this one: be sure that none runs",
      SilentText(volume));
}

std::string Explain(const VolumeView& volume) {
  if (!volume.serving_node.empty()) return ExplainServing(volume);
  if (!volume.resuming_node.empty()) {
    return absl::StrCat("volume ", volume.name, " is to be resumed on node ", volume.resuming_node,
                        ", which waits: ", volume.status->error(), SilentText(volume));
  }
  return ExplainDetached(volume);
}

std::string Enumerate(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : i + 1 == names.size() ? " and " : ", ", names[i]);
  }
  return text;
}

}  // namespace keelson::ctl
