// Controller: who has a volume where.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/attachments.h"
#include "provisioner/reconcile/ids.h"
#include "provisioner/service/controller.h"
#include "provisioner/service/request_checks.h"

namespace keelson::provisioner {
namespace {

constexpr char kContextAttachment[] = "keelson.io/attachment";
constexpr char kContextReadOnly[] = "keelson.io/read-only";

const rec::PublicationRecord* On(const rec::VolumeRecord& record, const std::string& node) {
  for (const rec::PublicationRecord& publication : record.publications()) {
    if (publication.node() == node) return &publication;
  }
  return nullptr;
}

// Whether the volume may be published on a further node beside those that have it.
absl::Status CheckOthers(const rec::VolumeRecord& record, const rec::PublicationRecord& wanted) {
  for (const rec::PublicationRecord& other : record.publications()) {
    const api::AccessMode mode = wanted.capability().access_mode();
    const api::AccessMode theirs = other.capability().access_mode();
    const bool one_writer =
        mode == api::MULTI_NODE_SINGLE_WRITER || theirs == api::MULTI_NODE_SINGLE_WRITER;
    const bool both_write = !other.read_only() && !wanted.read_only();
    if (IsMultiNode(theirs) && IsMultiNode(mode) && !(one_writer && both_write)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", record.id(), " is published on node ", other.node(),
                     " and cannot be on ", wanted.node(), " at the same time"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<api::PublishVolumeResponse> Controller::PublishVolume(
    const api::PublishVolumeRequest& request) {
  RETURN_IF_ERROR(request.node().empty() ? absl::InvalidArgumentError("node_id is missing")
                                         : absl::OkStatus());
  RETURN_IF_ERROR(CheckCapability(request.capability()));
  ASSIGN_OR_RETURN(const VolumeRow row, FindVolume(request.volume_id()));
  const auto node = reconciler_->records().nodes().Find(request.node().substr(0, kKeyBytesMax));
  if (!CheckNodeName(request.node()).ok() || absl::IsNotFound(node.status())) {
    return absl::NotFoundError(
        absl::StrCat("there is no node '", request.node().substr(0, 128), "'"));
  }
  RETURN_IF_ERROR(node.status());
  rec::PublicationRecord wanted;
  wanted.set_node(request.node());
  *wanted.mutable_capability() = request.capability();
  wanted.set_read_only(request.read_only() || IsReadOnly(request.capability().access_mode()));
  if (IsMultiNode(request.capability().access_mode())) wanted.set_ticket(RandomHex(kTicketDigits));
  if (node->value.volumes_max() != 0 && On(row.value, request.node()) == nullptr) {
    std::uint32_t there = 0;
    for (const VolumeRow& other : reconciler_->records().volumes().All()) {
      there += On(other.value, request.node()) != nullptr ? 1 : 0;
    }
    if (there >= node->value.volumes_max()) {
      return absl::ResourceExhaustedError(absl::StrCat("node ", request.node(), " has ", there,
                                                       " volumes, which is the most it takes"));
    }
  }
  const auto changed =
      reconciler_->records().volumes().Update(row.key, [&](rec::VolumeRecord* record) {
        if (record->id() != request.volume_id() || record->state() != rec::VolumeRecord::READY) {
          return absl::NotFoundError(
              absl::StrCat("there is no volume '", request.volume_id(), "' that is ready"));
        }
        if (record->capabilities_size() > 0 &&
            record->capabilities(0).block() != request.capability().block()) {
          return absl::InvalidArgumentError(absl::StrCat(
              "volume ", record->id(), " was made ",
              record->capabilities(0).block() ? "as raw block" : "with a file system"));
        }
        for (rec::PublicationRecord& adopted : *record->mutable_publications()) {
          // One whose record was lost: this says what it is. How it is served stays as it is.
          const bool unknown = adopted.capability().access_mode() == api::ACCESS_MODE_UNSPECIFIED;
          if (!unknown || adopted.node() != request.node()) continue;
          *adopted.mutable_capability() = wanted.capability();
          adopted.set_read_only(wanted.read_only());
        }
        if (const rec::PublicationRecord* const there = On(*record, request.node())) {
          if (SameCapability(there->capability(), wanted.capability()) &&
              there->read_only() == wanted.read_only()) {
            return absl::OkStatus();
          }
          return absl::AlreadyExistsError(
              absl::StrCat("volume ", record->id(), " is published on node ", request.node(),
                           " with another capability; unpublish it first"));
        }
        RETURN_IF_ERROR(CheckOthers(*record, wanted));
        *record->add_publications() = wanted;
        return absl::OkStatus();
      });
  RETURN_IF_ERROR(changed.status());
  absl::StatusOr<VolumeRow> now;
  RETURN_IF_ERROR(AwaitVolume(
      row.key,
      [&] {
        now = reconciler_->records().volumes().Find(row.key);
        if (!now.ok()) return true;
        const rec::PublicationRecord* const there = On(now->value, request.node());
        return there == nullptr || IsServed(now->value, *there);
      },
      absl::StrCat("the publication of volume ", request.volume_id(), " on node ",
                   request.node())));
  RETURN_IF_ERROR(now.status());
  if (On(now->value, request.node()) == nullptr) {
    return absl::AbortedError(absl::StrCat("volume ", request.volume_id(),
                                           " was unpublished from node ", request.node(),
                                           " meanwhile"));
  }
  api::PublishVolumeResponse response;
  (*response.mutable_publish_context())[kContextAttachment] =
      absl::StrCat(now->value.attachment().number());
  (*response.mutable_publish_context())[kContextReadOnly] = wanted.read_only() ? "true" : "false";
  return response;
}

absl::Status Controller::UnpublishVolume(const api::UnpublishVolumeRequest& request) {
  const absl::StatusOr<VolumeRow> row = FindVolume(request.volume_id());
  if (absl::IsNotFound(row.status())) return absl::OkStatus();
  RETURN_IF_ERROR(row.status());
  const auto leaves = [&](const std::string& node) {
    return request.node().empty() || node == request.node();
  };
  const auto changed =
      reconciler_->records().volumes().Update(row->key, [&](rec::VolumeRecord* record) {
        if (record->id() != request.volume_id()) return absl::OkStatus();
        auto* const all = record->mutable_publications();
        for (int i = all->size() - 1; i >= 0; --i) {
          if (leaves(all->Get(i).node())) all->DeleteSubrange(i, 1);
        }
        return absl::OkStatus();
      });
  if (absl::IsNotFound(changed.status())) return absl::OkStatus();
  RETURN_IF_ERROR(changed.status());
  const std::string key = row->key;
  return AwaitVolume(
      key,
      [&] {
        const absl::StatusOr<VolumeRow> now = reconciler_->records().volumes().Find(key);
        if (!now.ok() || now->value.id() != request.volume_id()) return true;
        const rec::AttachmentRecord& attachment = now->value.attachment();
        if (attachment.shared()) {
          return std::none_of(attachment.clients().begin(), attachment.clients().end(),
                              [&](const rec::ClientRecord& client) {
                                return leaves(client.node()) &&
                                       On(now->value, client.node()) == nullptr;
                              });
        }
        return attachment.node().empty() || attachment.maintenance() ||
               !leaves(attachment.node()) || On(now->value, attachment.node()) != nullptr;
      },
      absl::StrCat("the end of volume ", request.volume_id(), " on node ", request.node()));
}

}  // namespace keelson::provisioner
