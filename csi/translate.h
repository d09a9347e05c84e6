#pragma once
// Messages of the specification to messages of the provisioner and back. Pure functions; any
// thread. What they are given has been checked (checks.h).

#include <google/protobuf/repeated_ptr_field.h>

#include "csi/checks.h"
#include "csi/names.h"

namespace keelson::csi {

control::Capability ToControl(const pb::VolumeCapability& capability);
void ToControl(const google::protobuf::RepeatedPtrField<pb::VolumeCapability>& from,
               google::protobuf::RepeatedPtrField<control::Capability>* to);
void ToControl(const google::protobuf::RepeatedPtrField<pb::Topology>& from,
               google::protobuf::RepeatedPtrField<control::Topology>* to);

// Without the reserved keys.
void CopyParameters(const StringMap& from, StringMap* to);

// volume_context stays empty: the id says everything, so nothing in it can become outdated.
pb::Volume FromControl(const control::Volume& volume);
pb::Snapshot FromControl(const control::Snapshot& snapshot);
pb::VolumeGroupSnapshot FromControl(const control::GroupSnapshot& group);
pb::VolumeHealth HealthOf(const control::Volume& volume);

}  // namespace keelson::csi
