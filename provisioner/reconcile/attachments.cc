#include "provisioner/reconcile/attachments.h"

#include <algorithm>
#include <utility>

namespace keelson::provisioner {

bool DoesNotAnswer(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

v1::Frontend FrontendOf(const control::v1::Settings& settings) {
  if (settings.frontend() == "nbd") return v1::FRONTEND_NBD;
  if (settings.frontend() == "loop") return v1::FRONTEND_LOOP;
  return v1::FRONTEND_AUTO;
}

void Mint(rec::AttachmentRecord wanted, rec::VolumeRecord* volume) {
  volume->set_attachments(volume->attachments() + 1);
  wanted.set_number(volume->attachments());
  *volume->mutable_attachment() = std::move(wanted);
}

void Abandon(const std::string& node, rec::VolumeRecord* volume) {
  const auto& abandoned = volume->abandoned_nodes();
  if (std::find(abandoned.begin(), abandoned.end(), node) != abandoned.end()) return;
  volume->add_abandoned_nodes(node);
}

void AddClient(const rec::ClientRecord& client,
               google::protobuf::RepeatedPtrField<v1::VolumeClient>* list) {
  v1::VolumeClient* const added = list->Add();
  added->set_node(client.node());
  added->set_ticket(client.ticket());
  added->set_read_only(client.read_only());
}

bool IsServed(const rec::VolumeRecord& volume, const rec::PublicationRecord& publication) {
  const rec::AttachmentRecord& attachment = volume.attachment();
  if (!attachment.served() || attachment.maintenance()) return false;
  if (attachment.shared() != !publication.ticket().empty()) return false;
  return attachment.shared() ? publication.shown_attachment() == attachment.number()
                             : attachment.node() == publication.node();
}

}  // namespace keelson::provisioner
