#pragma once
// What the specification asks of every request (csi.proto; "Size limits", "Volume capabilities",
// "Capacity range"), independent of any state: pure functions, any thread. What fails is
// INVALID_ARGUMENT, and the message names the field and what is allowed, never a secret's value or
// a mount flag.

#include <google/protobuf/map.h>
#include <google/protobuf/message.h>
#include <google/protobuf/repeated_ptr_field.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "csi/names.h"

namespace keelson::csi {

using StringMap = google::protobuf::Map<std::string, std::string>;

// Strings of at most 128 bytes (node ids 256, paths 4095), maps and mount flags of 4 KiB together,
// secrets' keys of [A-Za-z0-9._-]: in every field of the message and of those inside it.
absl::Status CheckSizes(const google::protobuf::Message& request);

// A name that the caller gives: present, no control characters.
absl::Status CheckName(std::string_view field, const std::string& name);

// A field that must be there.
absl::Status CheckPresent(std::string_view field, const std::string& value);

// Whether the provisioner may ever have given out this id (1 to 64 of [a-z0-9-]). One that it
// cannot have given names nothing; callers answer so without asking anybody.
bool CanBeId(std::string_view id);

// The id as a message or a log line may show it: whatever is not an id of ours is not repeated.
std::string ShownId(const std::string& id);

// Whether a node may ever have registered under this name (1 to 63 of [A-Za-z0-9._-], the first and
// last of them alphanumeric: it is also the value of a topology label).
bool CanBeNode(std::string_view name);

// Access type and mode are there and known, the file system is one that nodes can make, and a file
// system is never shared by writers on several nodes.
absl::Status CheckCapability(const pb::VolumeCapability& capability);
// At least one, each as above.
absl::Status CheckCapabilities(
    const google::protobuf::RepeatedPtrField<pb::VolumeCapability>& capabilities);

// Neither is negative, one is given, and the limit is not below what is required.
absl::Status CheckCapacityRange(const pb::CapacityRange& range);

absl::Status CheckMaxEntries(std::int32_t max_entries);

// Keys that Kubernetes reserves; a driver is to ignore them.
bool IsReserved(std::string_view key);

bool IsReaderOnly(pb::VolumeCapability::AccessMode::Mode mode);

}  // namespace keelson::csi
