// VolumeReconciler: the engine, where it is wanted and nowhere else.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/attachments.h"
#include "provisioner/reconcile/plan.h"
#include "provisioner/reconcile/volume_reconciler.h"

namespace keelson::provisioner {
namespace {

v1::Frontend FrontendFor(const rec::AttachmentRecord& attachment,
                         const control::v1::Settings& settings) {
  const bool none_uses_it_here = attachment.shared() || attachment.maintenance();
  return none_uses_it_here ? v1::FRONTEND_NONE : FrontendOf(settings);
}

}  // namespace

absl::Status VolumeReconciler::DetachAt(const std::string& node, const std::string& volume,
                                        BlockStore::Part part) const {
  const absl::StatusOr<BlockStore> store = env_->StoreOf(node);
  const absl::Status detached = store.ok() ? store->DetachVolume(volume, part) : store.status();
  if (absl::IsNotFound(detached) || absl::IsAborted(detached)) return absl::OkStatus();
  return detached;
}

v1::SegmentHint VolumeReconciler::HintOf(const rec::VolumeRecord& volume, int segment,
                                         bool planned) const {
  v1::SegmentHint hint;
  hint.set_segment(static_cast<std::uint32_t>(segment));
  for (const rec::ReplicaRecord& replica : volume.segments(segment).replicas()) {
    if (replica.life() == rec::ReplicaRecord::PLANNED && !planned) continue;
    *hint.add_members() = env_->MemberOf(replica);
  }
  return hint;
}

v1::AttachTarget VolumeReconciler::TargetOf(const rec::VolumeRecord& volume) const {
  v1::AttachTarget target;
  target.set_volume_id(volume.uuid());
  target.set_segment_bytes(volume.segment_bytes());
  target.set_attachment(volume.attachment().number());
  for (int i = 0; i < volume.segments_size(); ++i) {
    // What is only planned may not exist. Where it became a member and the record does not say so
    // yet, the others lead to it: a hint may be one change behind (R13).
    v1::SegmentHint hint = HintOf(volume, i, /*planned=*/false);
    if (!hint.members().empty()) *target.add_segments() = std::move(hint);
  }
  return target;
}

VolumeReconciler::Step VolumeReconciler::SettleAttachment(Pass* pass) {
  const rec::VolumeRecord& record = pass->record();
  if (IsShared(record)) return SettleShared(pass);
  const rec::AttachmentRecord& attachment = record.attachment();
  const bool published = !record.publications().empty();
  std::string wanted = attachment.maintenance() && !published ? attachment.node() : "";
  bool read_only = published;  // only when all of them are
  for (const rec::PublicationRecord& publication : record.publications()) {
    if (wanted.empty() || publication.node() == attachment.node()) wanted = publication.node();
    read_only = read_only && publication.read_only();
  }
  const bool other_kind = !attachment.node().empty() && published &&
                          (attachment.maintenance() || (attachment.read_only() && !read_only));
  if (!attachment.node().empty() && (attachment.node() != wanted || other_kind)) {
    return ReleaseEngine(pass);
  }
  if (wanted.empty()) return Progress::kDone;
  if (attachment.node().empty()) {
    RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
      rec::AttachmentRecord made;
      made.set_node(wanted);
      made.set_read_only(read_only);
      Mint(std::move(made), changed);
      return absl::OkStatus();
    }));
    return Progress::kAgain;
  }
  return attachment.served() ? LookAtEngine(pass) : StartEngine(pass);
}

VolumeReconciler::Step VolumeReconciler::ReleaseEngine(Pass* pass) {
  const std::string node = pass->record().attachment().node();
  const std::uint64_t number = pass->record().attachment().number();
  // The node may be a client of its own engine, and go on as that of the next one.
  const absl::Status detached = DetachAt(
      node, pass->id(),
      pass->record().attachment().shared() ? BlockStore::Part::kEngine : BlockStore::Part::kAll);
  const bool gone = detached.ok();
  // A node that is lost is fenced by the next attachment; until then nobody reads the volume, so
  // nothing that it acknowledges can contradict anything.
  if (!gone && !(DoesNotAnswer(detached) && env_->Lost(node))) return detached;
  RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
    if (changed->attachment().number() != number) return absl::OkStatus();
    changed->clear_attachment();
    if (!gone) Abandon(node, changed);
    return absl::OkStatus();
  }));
  spdlog::info("event=volume_detached volume={} node={} attachment={} lost={}", pass->id(), node,
               number, !gone);
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::StartEngine(Pass* pass) {
  const rec::AttachmentRecord attachment = pass->record().attachment();
  ASSIGN_OR_RETURN(const BlockStore store, env_->StoreOf(attachment.node()));
  v1::AttachVolumeRequest request;
  request.set_name(pass->id());
  request.set_read_only(attachment.read_only());
  request.set_frontend(FrontendFor(attachment, pass->record().settings()));
  for (const rec::ClientRecord& client : attachment.clients()) {
    AddClient(client, request.mutable_clients());
  }
  *request.mutable_target() = TargetOf(pass->record());
  if (!attachment.maintenance()) *request.mutable_qos() = QosOf(pass->record().settings());
  const absl::StatusOr<v1::AttachVolumeResponse> attached = store.AttachVolume(request);
  if (absl::IsAborted(attached.status())) {
    // Somebody has promised a higher number: these records are older than the volume. Higher than
    // any that a member knows is the next one.
    std::uint64_t promised = pass->record().attachments();
    std::set<std::string> nodes;
    for (const rec::SegmentRecord& segment : pass->record().segments()) {
      for (const rec::ReplicaRecord& replica : segment.replicas()) nodes.insert(replica.node());
    }
    for (const std::string& node : nodes) {
      const absl::StatusOr<BlockStore> other = env_->StoreOf(node);
      if (!other.ok()) continue;
      const absl::StatusOr<v1::ListReplicasResponse> replicas = other->ListReplicas({});
      if (!replicas.ok()) continue;
      for (const v1::Replica& replica : replicas->replicas()) {
        if (replica.volume_id() != pass->record().uuid()) continue;
        promised = std::max(promised, replica.promised_attachment());
      }
    }
    RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
      if (changed->attachment().number() != attachment.number()) return absl::OkStatus();
      changed->set_attachments(promised);
      changed->clear_attachment();
      return absl::OkStatus();
    }));
    return attached.status();  // after the pause of a failure
  }
  RETURN_IF_ERROR(attached.status());
  RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
    if (changed->attachment().number() != attachment.number()) return absl::OkStatus();
    changed->mutable_attachment()->set_served(true);
    return absl::OkStatus();
  }));
  spdlog::info("event=volume_attached volume={} node={} attachment={} maintenance={}", pass->id(),
               attachment.node(), attachment.number(), attachment.maintenance());
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::LookAtEngine(Pass* pass) {
  const rec::AttachmentRecord attachment = pass->record().attachment();
  ASSIGN_OR_RETURN(const BlockStore store, env_->StoreOf(attachment.node()));
  absl::StatusOr<v1::GetVolumeStatusResponse> status = store.GetVolumeStatus(pass->id());
  const bool only_client = status.ok() && status->has_remote() && status->segments_size() == 0;
  if (absl::IsNotFound(status.status()) || only_client) {
    // The node does not remember it: its state was lost, or somebody detached it by hand.
    RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
      if (changed->attachment().number() == attachment.number()) changed->clear_attachment();
      return absl::OkStatus();
    }));
    return Progress::kAgain;
  }
  RETURN_IF_ERROR(status.status());
  pass->seen = *std::move(status);
  return Progress::kDone;
}

std::string VolumeReconciler::MaintenanceNode(const Pass& pass) const {
  std::string fallback;
  for (const rec::SegmentRecord& segment : pass.volume.value.segments()) {
    for (const rec::ReplicaRecord& replica : segment.replicas()) {
      if (replica.life() != rec::ReplicaRecord::MEMBER || !env_->Answers(replica.node())) continue;
      if (!replica.witness()) return replica.node();
      fallback = replica.node();
    }
  }
  return fallback;
}

VolumeReconciler::Step VolumeReconciler::NeedEngine(Pass* pass, std::optional<BlockStore>* store) {
  const rec::AttachmentRecord& attachment = pass->record().attachment();
  if (attachment.served() && pass->seen) {
    ASSIGN_OR_RETURN(BlockStore there, env_->StoreOf(attachment.node()));
    *store = std::move(there);
    return Progress::kDone;
  }
  if (!attachment.node().empty()) {
    return absl::UnavailableError(
        absl::StrCat("its engine on node ", attachment.node(), " does not serve yet"));
  }
  const std::string node = MaintenanceNode(*pass);
  if (node.empty()) {
    return absl::UnavailableError("no node with a copy of it answers; bring one of them back");
  }
  RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
    if (!changed->attachment().node().empty()) return absl::OkStatus();
    rec::AttachmentRecord made;
    made.set_node(node);
    made.set_maintenance(true);
    Mint(std::move(made), changed);
    return absl::OkStatus();
  }));
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::TellAbandoned(Pass* pass) {
  const std::vector<std::string> nodes(pass->record().abandoned_nodes().begin(),
                                       pass->record().abandoned_nodes().end());
  for (const std::string& node : nodes) {
    // Its present engine and its present client, if they are there, are not to be ended.
    const rec::VolumeRecord& record = pass->record();
    const bool engine = record.attachment().node() == node;
    const bool client =
        IsShared(record) && std::any_of(record.publications().begin(), record.publications().end(),
                                        [&](const auto& one) { return one.node() == node; });
    const bool nothing_old = engine && (client || !IsShared(record));
    bool told = nothing_old || !env_->records->nodes().Find(node).ok();
    if (!told && env_->Answers(node)) {
      told = DetachAt(node, pass->id(),
                      engine   ? BlockStore::Part::kClient
                      : client ? BlockStore::Part::kEngine
                               : BlockStore::Part::kAll)
                 .ok();
    }
    if (!told) continue;  // looked at again when the node's state changes
    RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
      auto* const abandoned = changed->mutable_abandoned_nodes();
      abandoned->erase(std::remove(abandoned->begin(), abandoned->end(), node), abandoned->end());
      return absl::OkStatus();
    }));
    return Progress::kAgain;
  }
  return Progress::kDone;
}

}  // namespace keelson::provisioner
