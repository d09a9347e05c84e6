#pragma once
// The parameters of StorageClasses and VolumeAttributesClasses (docs/storageclass.md). Pure
// functions of values; any thread. Every error is INVALID_ARGUMENT and names the parameter, its
// value and what is allowed.

#include <string>

#include "absl/status/statusor.h"
#include "google/protobuf/map.h"
#include "proto/keelson/v1/provisioner.pb.h"

namespace keelson::provisioner::placement {

// As they are in the requests of provisioner.proto.
using Parameters = google::protobuf::Map<std::string, std::string>;

// Of a volume that is to be made. `mutable_parameters` win. Keys that begin with
// csi.storage.k8s.io/ or storage.kubernetes.io/ are Kubernetes' own and not looked at.
absl::StatusOr<control::v1::Settings> ParseSettings(const Parameters& parameters,
                                                    const Parameters& mutable_parameters);

// Of a volume that has `present`; what is not named stays. A minInSync that is the default follows
// the replicas; another one falls with fewer replicas to what one of them may miss, as it does at
// the engine.
absl::StatusOr<control::v1::Settings> ChangeSettings(const control::v1::Settings& present,
                                                     const Parameters& mutable_parameters);

}  // namespace keelson::provisioner::placement
