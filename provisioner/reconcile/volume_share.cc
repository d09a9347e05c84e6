// VolumeReconciler: a volume that several nodes use at once (R16). Its engine has no frontend of
// its own; every node, that of the engine too, is a client on its list. So the engine can go to
// another node beneath clients that go on, each of which is pointed there.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/attachments.h"
#include "provisioner/reconcile/volume_reconciler.h"

namespace keelson::provisioner {
namespace {

const rec::PublicationRecord* PublishedOn(const rec::VolumeRecord& volume,
                                          const std::string& node) {
  for (const rec::PublicationRecord& publication : volume.publications()) {
    if (publication.node() == node) return &publication;
  }
  return nullptr;
}

rec::ClientRecord ClientOf(const rec::PublicationRecord& publication) {
  rec::ClientRecord client;
  client.set_node(publication.node());
  client.set_ticket(publication.ticket());
  client.set_read_only(publication.read_only());
  return client;
}

bool IsSame(const rec::ClientRecord& a, const rec::ClientRecord& b) {
  return a.node() == b.node() && a.ticket() == b.ticket() && a.read_only() == b.read_only();
}

template <typename Clients>
bool Has(const Clients& clients, const rec::ClientRecord& wanted) {
  return std::any_of(clients.begin(), clients.end(),
                     [&](const rec::ClientRecord& one) { return IsSame(one, wanted); });
}

// Whether the engine's own list is this one; tickets are not shown.
bool Lists(const v1::GetVolumeStatusResponse& engine,
           const std::vector<rec::ClientRecord>& wanted) {
  std::size_t listed = 0;
  for (const v1::ClientStatus& client : engine.clients()) {
    if (client.leaving()) continue;
    ++listed;
    const bool found = std::any_of(wanted.begin(), wanted.end(), [&](const auto& one) {
      return one.node() == client.node() && one.read_only() == client.read_only();
    });
    if (!found) return false;
  }
  return listed == wanted.size();
}

}  // namespace

bool VolumeReconciler::IsShared(const rec::VolumeRecord& volume) {
  return volume.attachment().shared() ||
         std::any_of(volume.publications().begin(), volume.publications().end(),
                     [](const auto& publication) { return !publication.ticket().empty(); });
}

VolumeReconciler::Step VolumeReconciler::SettleShared(Pass* pass) {
  const rec::AttachmentRecord attachment = pass->record().attachment();
  if (!attachment.node().empty() && !attachment.shared()) return ReleaseEngine(pass);
  // Those who leave keep their place on the list until their node has ended what it showed.
  absl::Status trouble;
  std::vector<rec::ClientRecord> clients;
  for (const rec::ClientRecord& client : attachment.clients()) {
    if (PublishedOn(pass->record(), client.node()) != nullptr) continue;
    const absl::Status ended = EndClient(pass, client.node());
    if (ended.ok()) continue;
    trouble.Update(ended);
    clients.push_back(client);
  }
  for (const rec::PublicationRecord& publication : pass->record().publications()) {
    clients.push_back(ClientOf(publication));
  }
  if (clients.empty()) {
    return attachment.node().empty() ? Step(Progress::kDone) : ReleaseEngine(pass);
  }
  const bool read_only = std::all_of(clients.begin(), clients.end(),
                                     [](const auto& client) { return client.read_only(); });
  const std::string wanted = EngineNode(pass->record());
  if (wanted.empty()) {
    return absl::UnavailableError(
        "no node that answers can serve it to others: give the block stores --client-listen");
  }
  if (!attachment.node().empty() &&
      (attachment.node() != wanted || (attachment.read_only() && !read_only))) {
    return ReleaseEngine(pass);
  }
  if (attachment.node().empty()) {
    RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
      rec::AttachmentRecord made;
      made.set_node(wanted);
      made.set_read_only(read_only);
      made.set_shared(true);
      made.mutable_clients()->Assign(clients.begin(), clients.end());
      Mint(std::move(made), changed);
      return absl::OkStatus();
    }));
    return Progress::kAgain;
  }
  if (!attachment.served()) return StartEngine(pass);
  const Step looked = LookAtEngine(pass);
  if (!looked.ok() || *looked == Progress::kAgain) return looked;
  const Step listed = SettleClients(pass, clients);
  if (!listed.ok() || *listed == Progress::kAgain) return listed;
  const Step shown = ShowToClients(pass);
  if (!shown.ok() || *shown == Progress::kAgain) return shown;
  return trouble.ok() ? Step(Progress::kDone) : Step(trouble);
}

std::string VolumeReconciler::EngineNode(const rec::VolumeRecord& volume) const {
  const std::string& present = volume.attachment().node();
  const auto usable = [&](const std::string& node) {
    return env_->Answers(node) && env_->IntentOf(node) != "draining" &&
           !env_->stores->View(node).node.client_address().empty();
  };
  // Its silence may end: only what is lost is taken from it.
  if (!present.empty() && !env_->Lost(present) && env_->IntentOf(present) != "draining") {
    return present;
  }
  const auto published = [&](const std::string& node) {
    return PublishedOn(volume, node) != nullptr;
  };
  std::string best = env_->Lost(present) ? "" : present;
  int best_score = 0;
  const auto consider = [&](const std::string& node, bool has_copy) {
    const int score = (has_copy ? 2 : 0) + (published(node) ? 1 : 0) + 1;
    if (score <= best_score || !usable(node)) return;
    best = node;
    best_score = score;
  };
  for (const rec::SegmentRecord& segment : volume.segments()) {
    for (const rec::ReplicaRecord& replica : segment.replicas()) {
      if (replica.life() == rec::ReplicaRecord::MEMBER) {
        consider(replica.node(), !replica.witness());
      }
    }
  }
  for (const rec::PublicationRecord& publication : volume.publications()) {
    consider(publication.node(), false);
  }
  return best;
}

absl::Status VolumeReconciler::EndClient(Pass* pass, const std::string& node) {
  const absl::Status ended = DetachAt(node, pass->id(), BlockStore::Part::kClient);
  if (ended.ok() || !(DoesNotAnswer(ended) && env_->Lost(node))) return ended;
  // The engine serves it no more as soon as the list is without it; the node is told when it can
  // be.
  return Change(pass, [&](rec::VolumeRecord* changed) {
    Abandon(node, changed);
    return absl::OkStatus();
  });
}

VolumeReconciler::Step VolumeReconciler::SettleClients(
    Pass* pass, const std::vector<rec::ClientRecord>& clients) {
  const rec::AttachmentRecord& attachment = pass->record().attachment();
  const std::uint64_t number = attachment.number();
  const auto& recorded = attachment.clients();
  const auto record = [&](const std::vector<rec::ClientRecord>& list) {
    return Change(pass, [&](rec::VolumeRecord* changed) {
      if (changed->attachment().number() != number) return absl::OkStatus();
      changed->mutable_attachment()->mutable_clients()->Assign(list.begin(), list.end());
      return absl::OkStatus();
    });
  };
  // Recorded before it is served, and until it is not: an unpublish waits for what is recorded.
  std::vector<rec::ClientRecord> both(recorded.begin(), recorded.end());
  for (const rec::ClientRecord& client : clients) {
    if (!Has(both, client)) both.push_back(client);
  }
  const bool adds = both.size() > static_cast<std::size_t>(recorded.size());
  if (adds) {
    RETURN_IF_ERROR(record(both));
  } else if (both.size() == clients.size() && Lists(*pass->seen, clients)) {
    return Progress::kDone;
  }
  ASSIGN_OR_RETURN(const BlockStore store, env_->StoreOf(pass->record().attachment().node()));
  v1::SetClientsRequest request;
  request.set_volume(pass->id());
  request.set_attachment(number);
  for (const rec::ClientRecord& client : clients) AddClient(client, request.mutable_clients());
  RETURN_IF_ERROR(store.SetClients(request));
  RETURN_IF_ERROR(record(clients));
  spdlog::info("event=clients_listed volume={} attachment={} clients={}", pass->id(), number,
               clients.size());
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::ShowToClients(Pass* pass) {
  const rec::AttachmentRecord attachment = pass->record().attachment();
  const std::string address = env_->stores->View(attachment.node()).node.client_address();
  const auto publications = pass->record().publications();
  absl::Status trouble;
  bool changed = false;
  for (const rec::PublicationRecord& publication : publications) {
    const absl::Status shown = ShowTo(pass, publication, address);
    // One that does not answer keeps no other waiting.
    trouble.Update(shown);
    if (!shown.ok() || publication.shown_attachment() == attachment.number()) continue;
    RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* record) {
      for (rec::PublicationRecord& one : *record->mutable_publications()) {
        if (one.ticket() == publication.ticket()) one.set_shown_attachment(attachment.number());
      }
      return absl::OkStatus();
    }));
    changed = true;
  }
  if (!trouble.ok()) return trouble;
  return changed ? Progress::kAgain : Progress::kDone;
}

absl::Status VolumeReconciler::ShowTo(Pass* pass, const rec::PublicationRecord& publication,
                                      const std::string& engine_address) {
  const rec::AttachmentRecord& attachment = pass->record().attachment();
  const std::string& node = publication.node();
  if (!env_->Answers(node)) {
    return absl::UnavailableError(
        absl::StrCat("node ", node, ", where it is published, does not answer"));
  }
  ASSIGN_OR_RETURN(const BlockStore store, env_->StoreOf(node));
  if (publication.shown_attachment() == attachment.number()) {
    const absl::StatusOr<v1::GetVolumeStatusResponse> status = store.GetVolumeStatus(pass->id());
    if (!status.ok() && !absl::IsNotFound(status.status())) return status.status();
    const bool as_it_should = status.ok() && status->has_remote() && status->error().empty() &&
                              status->remote().attachment() == attachment.number() &&
                              status->remote().address() == engine_address &&
                              status->remote().size_bytes() >= pass->record().made_bytes();
    if (as_it_should) return absl::OkStatus();
  }
  v1::AttachVolumeRequest request;
  request.set_name(pass->id());
  request.set_read_only(publication.read_only());
  request.set_frontend(FrontendOf(pass->record().settings()));
  request.mutable_remote()->set_address(engine_address);
  request.mutable_remote()->set_ticket(publication.ticket());
  request.mutable_remote()->set_attachment(attachment.number());
  RETURN_IF_ERROR(store.AttachVolume(request).status());
  spdlog::info("event=volume_shown volume={} node={} engine={} attachment={}", pass->id(), node,
               attachment.node(), attachment.number());
  return absl::OkStatus();
}

}  // namespace keelson::provisioner
