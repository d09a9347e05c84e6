#include "provisioner/ctl/cluster_format.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "proto/rpc/size_text.h"
#include "provisioner/ctl/scrub_report.h"

namespace keelson::ctl {
namespace {

using nlohmann::json;

std::string StateName(const v1::Member& member) {
  if (member.witness()) return "witness";
  switch (member.state()) {
    case v1::MEMBER_STATE_IN_SYNC:
      return "in-sync";
    case v1::MEMBER_STATE_SYNCING:
      return "syncing";
    case v1::MEMBER_STATE_OUT:
      return "out";
    default:
      return "unknown";
  }
}

const v1::MemberStatus* StatusOf(const VolumeView& volume, const PlacedMember& placed) {
  if (!volume.status) return nullptr;
  for (const v1::SegmentStatus& segment : volume.status->segments()) {
    for (const v1::MemberStatus& member : segment.members()) {
      if (member.member().replica_id() == placed.member.replica_id()) return &member;
    }
  }
  return nullptr;
}

// What to know about a member beside its state.
std::string NoteOf(const VolumeView& volume, const PlacedMember& placed) {
  const v1::MemberStatus* status = StatusOf(volume, placed);
  if (status != nullptr && status->member().state() == v1::MEMBER_STATE_SYNCING) {
    return absl::StrCat(status->resync_regions_left(), " regions left, ",
                        rpc::HumanSize(status->resync_copied_bytes()), " copied",
                        status->problem().empty() ? "" : "; ", status->problem());
  }
  if (status != nullptr && !status->problem().empty()) return status->problem();
  if (status != nullptr) return status->connected() ? "connected" : "not connected";
  if (placed.node.empty()) return "its node does not answer";
  if (!placed.replica) return "its replica is not there";
  if (!placed.replica->has_configuration()) return "its record is unreadable";
  if (placed.replica->restarted()) return "its machine or pool restarted since";
  return "answers";
}

std::string StateOf(const VolumeView& volume) {
  if (!volume.serving_node.empty()) {
    return absl::StrCat(volume.status->error().empty() ? "attached on " : "ended on ",
                        volume.serving_node, volume.status->read_only() ? " read-only" : "",
                        volume.status->device().empty() ? "" : " as ", volume.status->device(),
                        volume.status->device_warning().empty() ? "" : "; ",
                        volume.status->device_warning());
  }
  if (!volume.resuming_node.empty()) return absl::StrCat("to resume on ", volume.resuming_node);
  return volume.session_nodes.empty() ? "detached" : "in use elsewhere";
}

json ToJson(const VolumeView& volume, const SegmentView& segment, const PlacedMember& placed) {
  const v1::MemberStatus* status = StatusOf(volume, placed);
  return {{"segment", segment.segment},
          {"node", placed.node},
          {"pool_id", placed.member.pool_id()},
          {"replica_id", placed.member.replica_id()},
          {"address", placed.member.address()},
          {"witness", placed.member.witness()},
          {"state", StateName(placed.member)},
          {"connected", status != nullptr && status->connected()},
          {"problem", status != nullptr ? status->problem() : ""},
          {"resync_regions_left", status != nullptr ? status->resync_regions_left() : 0},
          {"resync_copied_bytes", status != nullptr ? status->resync_copied_bytes() : 0}};
}

json LeftoverToJson(std::uint32_t segment, const PlacedMember& placed, bool left_behind) {
  return {{"segment", segment},
          {"node", placed.node},
          {"pool_id", placed.member.pool_id()},
          {"replica_id", placed.member.replica_id()},
          {"left_behind", left_behind},
          {"quarantined", Quarantined(*placed.replica)}};
}

std::string ClientState(const v1::ClientStatus& client) {
  if (client.leaving()) return "leaving: its last requests still run";
  return client.connected() ? "connected" : "not connected";
}

json ClientsToJson(const VolumeView& volume) {
  json clients = json::array();
  if (!volume.status) return clients;
  for (const v1::ClientStatus& client : volume.status->clients()) {
    clients.push_back({{"node", client.node()},
                       {"read_only", client.read_only()},
                       {"connected", client.connected()},
                       {"leaving", client.leaving()},
                       {"requests_in_flight", client.requests_in_flight()}});
  }
  return clients;
}

json ToJson(const VolumeView& volume) {
  json members = json::array(), leftovers = json::array();
  bool forced = false;
  for (const SegmentView& segment : volume.segments) {
    forced = forced || segment.configuration.forced();
    for (const PlacedMember& placed : segment.members) {
      members.push_back(ToJson(volume, segment, placed));
    }
    for (const PlacedMember& placed : segment.leftovers) {
      leftovers.push_back(
          LeftoverToJson(segment.segment, placed, LeftBehind(segment, *placed.replica)));
    }
  }
  for (const PlacedMember& placed : volume.strays) {
    leftovers.push_back(LeftoverToJson(placed.replica->segment(), placed, false));
  }
  std::string waiting_for;
  if (volume.status) {
    for (const v1::SegmentStatus& segment : volume.status->segments()) {
      if (waiting_for.empty()) waiting_for = segment.waiting_for();
    }
  }
  return {{"name", volume.name},
          {"volume_id", volume.volume_id},
          {"size_bytes", volume.size_bytes()},
          {"segments", volume.segments.size()},
          {"segment_bytes", volume.segment_bytes()},
          {"copies", volume.copies()},
          {"in_sync", volume.in_sync()},
          {"min_in_sync", volume.segments[0].configuration.min_in_sync()},
          {"state", StateOf(volume)},
          {"attached_on", volume.serving_node},
          {"attachment", volume.status ? volume.status->attachment() : volume.promised},
          {"uri", volume.status ? volume.status->uri() : ""},
          {"device", volume.status ? volume.status->device() : ""},
          {"device_warning", volume.status ? volume.status->device_warning() : ""},
          {"error", volume.status ? volume.status->error() : ""},
          {"iops", volume.status ? volume.status->qos().iops() : 0},
          {"bandwidth_bytes_per_second",
           volume.status ? volume.status->qos().bandwidth_bytes_per_second() : 0},
          {"waiting_for", waiting_for},
          {"scrub", volume.status ? ToJson(SummarizeScrub(*volume.status)) : json()},
          {"clients", ClientsToJson(volume)},
          {"silent_nodes", volume.silent_nodes},
          {"forced", forced},
          {"members", members},
          {"leftovers", leftovers}};
}

// "5" in front, when there are several segments.
void AddRow(const VolumeView& volume, std::uint32_t segment, std::vector<std::string> row,
            std::vector<std::vector<std::string>>* rows) {
  if (volume.segments.size() > 1) row.insert(row.begin(), absl::StrCat(segment));
  rows->push_back(std::move(row));
}

void PrintJson(const json& value, std::ostream* out) {
  *out << value.dump(2, ' ', false, json::error_handler_t::replace) << "\n";
}

// As the volume is listed: what Ask found of each node's attached volumes stands for its status.
VolumeView ListedView(const std::vector<NodeAnswer>& nodes, VolumeView view) {
  for (const NodeAnswer& node : nodes) {
    for (const v1::Volume& volume : node.volumes) {
      if (volume.name() != view.name || !volume.attached()) continue;
      view.serving_node = node.name;
      view.status.emplace();
      view.status->set_uri(volume.uri());
      view.status->set_device(volume.device());
      view.status->set_device_warning(volume.device_warning());
      view.status->set_error(volume.error());
      view.status->set_read_only(volume.read_only());
      if (volume.error().empty()) return view;
    }
  }
  return view;
}

}  // namespace

void PrintClients(Output output, const VolumeView& volume, std::ostream* out) {
  if (output == Output::kJson) {
    PrintJson(ClientsToJson(volume), out);
    return;
  }
  std::vector<std::vector<std::string>> rows = {{"NODE", "MODE", "STATE", "REQUESTS"}};
  for (const v1::ClientStatus& client : volume.status->clients()) {
    rows.push_back({client.node(), client.read_only() ? "read-only" : "read-write",
                    ClientState(client), absl::StrCat(client.requests_in_flight())});
  }
  *out << FormatTable(rows);
}

void PrintStatus(Output output, const VolumeView& volume, std::ostream* out) {
  if (output == Output::kJson) {
    PrintJson(ToJson(volume), out);
    return;
  }
  *out << volume.name << ": " << rpc::HumanSize(volume.size_bytes());
  if (volume.segments.size() > 1) *out << " in " << volume.segments.size() << " segments";
  *out << ", " << volume.in_sync() << " of " << volume.copies() << " copies in sync, "
       << StateOf(volume) << "\n";
  if (volume.status && !volume.status->uri().empty()) *out << volume.status->uri() << "\n";
  if (volume.status && volume.status->has_qos()) {
    const v1::Qos& qos = volume.status->qos();
    *out << "limited to";
    if (qos.iops() > 0) *out << " " << qos.iops() << " requests";
    if (qos.iops() > 0 && qos.bandwidth_bytes_per_second() > 0) *out << " and";
    if (qos.bandwidth_bytes_per_second() > 0) {
      *out << " " << rpc::HumanSize(qos.bandwidth_bytes_per_second());
    }
    *out << " in a second\n";
  }
  if (volume.status) {
    const ScrubReport scrub = SummarizeScrub(*volume.status);
    if (scrub.any) *out << FormatScrub(scrub) << "\n";
  }
  std::vector<std::vector<std::string>> rows = {{"NODE", "STATE", "ADDRESS", "REPLICA", "NOTE"}};
  if (volume.segments.size() > 1) rows[0].insert(rows[0].begin(), "SEGMENT");
  for (const SegmentView& segment : volume.segments) {
    for (const PlacedMember& placed : segment.members) {
      AddRow(volume, segment.segment,
             {placed.node.empty() ? "?" : placed.node, StateName(placed.member),
              placed.member.address().empty() ? "-" : placed.member.address(),
              placed.member.replica_id(), NoteOf(volume, placed)},
             &rows);
    }
    for (const PlacedMember& placed : segment.leftovers) {
      const bool quarantined = Quarantined(*placed.replica);
      const bool left_behind = LeftBehind(segment, *placed.replica);
      AddRow(volume, segment.segment,
             {placed.node,
              quarantined   ? "quarantined"
              : left_behind ? "left behind"
                            : "no member",
              "-", placed.member.replica_id(),
              quarantined   ? "an operator went on without it"
              : left_behind ? "an operator went on without it; it has not heard of it yet"
                            : "left over"},
             &rows);
    }
  }
  for (const PlacedMember& placed : volume.strays) {
    AddRow(volume, placed.replica->segment(),
           {placed.node, "no member", "-", placed.member.replica_id(),
            "left over from a growth that did not come to be"},
           &rows);
  }
  *out << FormatTable(rows);
  if (!volume.status) return;
  for (const v1::ClientStatus& client : volume.status->clients()) {
    *out << "client " << client.node() << (client.read_only() ? ", read-only: " : ": ")
         << ClientState(client) << "\n";
  }
}

void PrintVolumes(Output output, const std::vector<NodeAnswer>& nodes,
                  const std::map<std::string, VolumeView>& contested, std::ostream* out) {
  json list = json::array();
  std::vector<std::vector<std::string>> rows = {{"NAME", "SIZE", "COPIES", "IN SYNC", "STATE"}};
  for (const std::string& name : VolumeNames(nodes)) {
    const absl::StatusOr<VolumeView> found = FindVolume(nodes, name);
    if (!found.ok()) {
      list.push_back({{"name", name}, {"error", std::string(found.status().message())}});
      rows.push_back({name, "-", "-", "-", std::string(found.status().message())});
      continue;
    }
    const auto asked = contested.find(name);
    const VolumeView volume = asked != contested.end() ? asked->second : ListedView(nodes, *found);
    list.push_back(ToJson(volume));
    rows.push_back({name, rpc::HumanSize(volume.size_bytes()), absl::StrCat(volume.copies()),
                    absl::StrCat(volume.in_sync()), StateOf(volume)});
  }
  if (output == Output::kJson) {
    PrintJson(list, out);
    return;
  }
  *out << FormatTable(rows);
  for (const NodeAnswer& node : nodes) {
    if (node.status.ok()) continue;
    *out << "node " << node.name << " does not answer: " << std::string(node.status.message())
         << "\n";
  }
}

void PrintWhy(Output output, const std::string& sentence, std::ostream* out) {
  if (output == Output::kJson) {
    PrintJson({{"why", sentence}}, out);
  } else {
    *out << sentence << "\n";
  }
}

std::string FormatProgress(const std::string& node, const v1::MemberStatus& member) {
  return absl::StrCat("node ", node, ": ", StateName(member.member()), ", ",
                      member.resync_regions_left(), " regions of 4 MiB left, ",
                      rpc::HumanSize(member.resync_copied_bytes()), " copied",
                      member.problem().empty() ? "" : "; ", member.problem());
}

}  // namespace keelson::ctl
