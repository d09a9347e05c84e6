#pragma once
// What a volume's record and a block store are told of engines and their clients. Values in, values
// out; any thread.

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "proto/keelson/v1/blockstore.pb.h"
#include "provisioner/reconcile/records.h"

namespace keelson::provisioner {

// Of a client's ticket: 128 random bits.
inline constexpr std::size_t kTicketDigits = 32;

// A call's error that says nothing but that the block store was not reached, or not in time.
bool DoesNotAnswer(const absl::Status& status);

// How the volume is shown where it is used.
v1::Frontend FrontendOf(const control::v1::Settings& settings);

// Gives the volume the attachment that is wanted, under the next number (R1).
void Mint(rec::AttachmentRecord wanted, rec::VolumeRecord* volume);

// The node may still have something of the volume that is not wanted; it is told when it answers.
void Abandon(const std::string& node, rec::VolumeRecord* volume);

void AddClient(const rec::ClientRecord& client,
               google::protobuf::RepeatedPtrField<v1::VolumeClient>* list);

// Whether the volume can be used on the node of this publication.
bool IsServed(const rec::VolumeRecord& volume, const rec::PublicationRecord& publication);

}  // namespace keelson::provisioner
