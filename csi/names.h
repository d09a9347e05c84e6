#pragma once
// Short names for the generated namespaces: `pb` is the Container Storage Interface, `control` the
// provisioner's interface, `store` the block store's.

#include "proto/csi/v1/csi.pb.h"
#include "proto/keelson/v1/blockstore.pb.h"
#include "proto/keelson/v1/provisioner.pb.h"

namespace keelson::csi {

namespace pb = ::csi::v1;
namespace control = ::keelson::control::v1;
namespace store = ::keelson::v1;

}  // namespace keelson::csi
