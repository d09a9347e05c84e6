#pragma once
// Checks of what callers send, apart from any record. INVALID_ARGUMENT names the field. Pure
// functions; any thread.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "google/protobuf/map.h"
#include "google/protobuf/repeated_field.h"
#include "proto/keelson/v1/provisioner.pb.h"
#include "provisioner/reconcile/records.h"

namespace keelson::provisioner {

// Volumes have at least and at most so many bytes, in whole blocks.
inline constexpr std::uint64_t kVolumeBytesMin = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kVolumeBytesMax = std::uint64_t{1} << 50;
inline constexpr std::uint64_t kBlockBytes = 4096;

// 1 to 128 bytes of UTF-8 without control characters.
absl::Status CheckName(std::string_view field, std::string_view name);
// Of a node: 1 to 253 of [A-Za-z0-9._-], and no path.
absl::Status CheckNodeName(std::string_view name);

// There are no parameters of a snapshot; Kubernetes adds its own to every request.
absl::Status CheckSnapshotParameters(
    const google::protobuf::Map<std::string, std::string>& parameters);

// What the volume can be used as, whoever asks: a known mode, a file system that there is, no file
// system that several nodes write.
absl::Status CheckCapability(const control::v1::Capability& capability);
absl::Status CheckCapabilities(
    const google::protobuf::RepeatedPtrField<control::v1::Capability>& capabilities);

// Whether callers still have the volume: it is not deleted, nor deleted and kept for its snapshots.
bool Lives(const rec::VolumeRecord& record);
// NOT_FOUND when it does not live any more, or another one has taken its name: what may come about
// while a call works on it.
absl::Status CheckStillThere(const rec::VolumeRecord& record, const std::string& id);

// Whether nodes may have it at the same time.
bool IsMultiNode(control::v1::AccessMode mode);
bool IsReadOnly(control::v1::AccessMode mode);
bool SameCapability(const control::v1::Capability& a, const control::v1::Capability& b);

// The bytes a volume shall have: at least `required`, at most `limit` (0: no limit), `fallback`
// when neither says more. INVALID_ARGUMENT, OUT_OF_RANGE.
absl::StatusOr<std::uint64_t> SizeInRange(std::uint64_t required_bytes, std::uint64_t limit_bytes,
                                          std::uint64_t fallback_bytes);

}  // namespace keelson::provisioner
