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

bool NamesReplica(const std::vector<PlacedMember>& members, const std::string& replica_id) {
  return std::any_of(members.begin(), members.end(), [&replica_id](const auto& placed) {
    return placed.member.replica_id() == replica_id;
  });
}

PlacedMember Unnamed(const NodeAnswer& node, const v1::Replica& replica) {
  PlacedMember placed{{}, node.name, replica};
  placed.member.set_pool_id(replica.pool_id());
  placed.member.set_replica_id(replica.replica_id());
  placed.member.set_witness(replica.witness());
  return placed;
}

// The members of the segment's configuration, where their replicas are among the answers.
void PlaceMembers(const std::vector<NodeAnswer>& nodes, const VolumeView& view,
                  SegmentView* segment) {
  for (const auto* list :
       {&segment->configuration.members(), &segment->configuration.predecessor()}) {
    for (const v1::Member& member : *list) {
      if (NamesReplica(segment->members, member.replica_id())) continue;
      segment->members.push_back({member, "", std::nullopt});
    }
  }
  for (const NodeAnswer& node : nodes) {
    for (PlacedMember& placed : segment->members) {
      // A node is known by its pool even when the replica is gone from it.
      for (const v1::Pool& pool : node.node.pools()) {
        if (pool.id() == placed.member.pool_id()) placed.node = node.name;
      }
    }
    for (const v1::Replica& replica : node.replicas) {
      if (replica.volume_id() != view.volume_id || replica.segment() != segment->segment) continue;
      const auto found = std::find_if(segment->members.begin(), segment->members.end(),
                                      [&replica](const auto& placed) {
                                        return placed.member.replica_id() == replica.replica_id();
                                      });
      if (found != segment->members.end()) {
        found->replica = replica;
      } else {
        segment->leftovers.push_back(Unnamed(node, replica));
      }
    }
  }
}

// The segment's highest configuration, by its replicas and by the engine that serves it.
SegmentView FindSegment(const std::vector<NodeAnswer>& nodes, const VolumeView& view,
                        std::uint32_t number) {
  SegmentView segment;
  segment.segment = number;
  const auto take = [&segment](const v1::Configuration& configuration) {
    segment.forced_attachment =
        std::max(segment.forced_attachment, configuration.forced_attachment());
    if (segment.configuration.members().empty() || Older(segment.configuration, configuration)) {
      segment.configuration = configuration;
    }
  };
  for (const NodeAnswer& node : nodes) {
    for (const v1::Replica& replica : node.replicas) {
      if (replica.volume_id() != view.volume_id || replica.segment() != number) continue;
      segment.forced_attachment =
          std::max(segment.forced_attachment, replica.succeeded_by_attachment());
      if (replica.has_configuration()) take(replica.configuration());
    }
  }
  // The engine accepted this configuration before its members did.
  if (!view.serving_node.empty()) {
    for (const v1::SegmentStatus& status : view.status->segments()) {
      if (status.segment() == number) take(status.configuration());
    }
  }
  PlaceMembers(nodes, view, &segment);
  return segment;
}

// OK when each pool that has a replica of the volume is on one node only. A copied pool answers as
// the same member, and may have older data.
absl::Status CheckIdentities(const std::vector<NodeAnswer>& nodes, const std::string& name) {
  std::set<std::string> pools;
  for (const NodeAnswer& node : nodes) {
    for (const v1::Replica& replica : node.replicas) {
      if (replica.volume() == name) pools.insert(replica.pool_id());
    }
  }
  for (const std::string& id : pools) {
    std::vector<std::string> where;
    for (const NodeAnswer& node : nodes) {
      for (const v1::Pool& pool : node.node.pools()) {
        if (pool.id() == id) where.push_back(node.name);
      }
    }
    if (where.size() < 2) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "nodes ", Enumerate(where), " show the same pool ", id, ", which has a replica of volume '",
        name,
        "': it was copied, or one daemon is named twice; leave out the copy's node, and make "
        "a new pool there"));
  }
  return absl::OkStatus();
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
  } else if (resuming != nullptr) {
    view->status = *resuming;
  }
}

// "segment 2: ", when there are several.
std::string SegmentPrefix(const VolumeView& volume, std::uint32_t segment) {
  return volume.segments.size() > 1 ? absl::StrCat("segment ", segment, ": ") : "";
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
  for (const SegmentView& view : volume.segments) {
    const PlacedMember* const placed = view.Find(member.replica_id());
    if (placed != nullptr) return NodeOrAddress(*placed);
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
      return absl::StrCat(begin, "; its I/O waits for ", SegmentPrefix(volume, segment.segment()),
                          segment.waiting_for(), SilentText(volume));
    }
  }
  for (const v1::SegmentStatus& segment : volume.status->segments()) {
    const std::string degraded = ExplainDegraded(volume, segment);
    if (!degraded.empty()) {
      return absl::StrCat(begin,
                          " and served, but degraded: ", SegmentPrefix(volume, segment.segment()),
                          degraded, SilentText(volume));
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

const PlacedMember* SegmentView::OnNode(const std::string& node) const {
  for (const PlacedMember& placed : members) {
    if (placed.node == node) return &placed;
  }
  return nullptr;
}

const PlacedMember* SegmentView::Find(const std::string& replica_id) const {
  for (const auto* list : {&members, &leftovers}) {
    for (const PlacedMember& placed : *list) {
      if (placed.member.replica_id() == replica_id) return &placed;
    }
  }
  return nullptr;
}

std::size_t SegmentView::copies() const {
  return static_cast<std::size_t>(
      std::count_if(configuration.members().begin(), configuration.members().end(),
                    [](const v1::Member& member) { return !member.witness(); }));
}

std::size_t SegmentView::in_sync() const {
  return static_cast<std::size_t>(std::count_if(
      configuration.members().begin(), configuration.members().end(),
      [](const v1::Member& member) { return member.state() == v1::MEMBER_STATE_IN_SYNC; }));
}

std::uint64_t VolumeView::size_bytes() const {
  return (segments.size() - 1) * segment_bytes() + segments.back().configuration.size_bytes();
}

std::size_t VolumeView::copies() const {
  std::size_t fewest = segments[0].copies();
  for (const SegmentView& segment : segments) fewest = std::min(fewest, segment.copies());
  return fewest;
}

std::size_t VolumeView::in_sync() const {
  std::size_t fewest = segments[0].in_sync();
  for (const SegmentView& segment : segments) fewest = std::min(fewest, segment.in_sync());
  return fewest;
}

bool Older(const v1::Configuration& a, const v1::Configuration& b) {
  return Version(a) < Version(b);
}

absl::StatusOr<VolumeView> FindVolume(const std::vector<NodeAnswer>& nodes,
                                      const std::string& name) {
  if (absl::Status status = CheckIdentities(nodes, name); !status.ok()) return status;
  VolumeView view;
  view.name = name;
  for (const NodeAnswer& node : nodes) {
    if (!node.status.ok()) view.silent_nodes.push_back(node.name);
    for (const v1::Replica& replica : node.replicas) {
      if (replica.volume() != name) continue;
      if (!view.volume_id.empty() && view.volume_id != replica.volume_id()) {
        return absl::FailedPreconditionError(absl::StrCat(
            "there are two volumes of the name '", name, "', with the ids ", view.volume_id,
            " and ", replica.volume_id(), "; name only the nodes of one of them"));
      }
      view.volume_id = replica.volume_id();
      view.promised = std::max(view.promised, replica.promised_attachment());
      const bool listed = std::find(view.session_nodes.begin(), view.session_nodes.end(),
                                    node.name) != view.session_nodes.end();
      if (replica.in_session() && !listed) view.session_nodes.push_back(node.name);
    }
  }
  if (view.volume_id.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no node has a replica of a volume '", name, "'", SilentText(view)));
  }
  FindServing(nodes, &view);
  view.segments.push_back(FindSegment(nodes, view, 0));
  std::uint32_t count = view.segments[0].configuration.segment_count();
  for (const NodeAnswer& node : nodes) {
    if (!view.segments[0].configuration.members().empty()) break;
    // Nobody says how many there are: as many as there are traces of.
    for (const v1::Replica& replica : node.replicas) {
      if (replica.volume() == name) count = std::max(count, replica.segment() + 1);
    }
  }
  for (std::uint32_t i = 1; i < count; ++i) view.segments.push_back(FindSegment(nodes, view, i));
  for (const NodeAnswer& node : nodes) {
    for (const v1::Replica& replica : node.replicas) {
      const bool further = replica.segment() > 0 && replica.segment() >= count;
      if (replica.volume() == name && further) view.strays.push_back(Unnamed(node, replica));
    }
  }
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
  for (const SegmentView& segment : volume.segments) {
    const absl::Status status = CheckReachable(volume, segment);
    if (status.ok()) continue;
    return absl::Status(status.code(), absl::StrCat(SegmentPrefix(volume, segment.segment),
                                                    std::string(status.message())));
  }
  return absl::OkStatus();
}

absl::Status CheckReachable(const VolumeView& volume, const SegmentView& segment) {
  if (segment.configuration.members().empty()) {
    return absl::UnavailableError(
        absl::StrCat("no replica of it with a readable record answers", SilentText(volume)));
  }
  if (segment.forced_attachment > segment.configuration.forced_attachment()) {
    return absl::UnavailableError(
        absl::StrCat("an operator went on from one copy (attachment ", segment.forced_attachment,
                     "), and no member of that answers", SilentText(volume)));
  }
  const auto answers = [&segment](const v1::Member& member) {
    const PlacedMember* const placed = segment.Find(member.replica_id());
    return placed != nullptr && placed->replica && placed->replica->has_configuration();
  };
  const v1::Configuration& configuration = segment.configuration;
  for (const auto* set : {&configuration.members(), &configuration.predecessor()}) {
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
    if (in_sync == 0 && set == &configuration.members()) {
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

bool LeftBehind(const SegmentView& segment, const v1::Replica& replica) {
  return Quarantined(replica) ||
         (replica.has_configuration() &&
          replica.configuration().forced_attachment() < segment.forced_attachment);
}

bool Quarantined(const v1::Replica& replica) { return replica.succeeded_by_attachment() != 0; }

std::string ExplainForce(const VolumeView& volume, const SegmentView& segment,
                         const PlacedMember& placed) {
  const std::string& id = placed.member.replica_id();
  std::string has =
      "it is of a history that an operator has left, and lacks every write of the other";
  std::vector<std::string> others;
  for (const PlacedMember& member : segment.members) {
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
