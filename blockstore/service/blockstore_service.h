#pragma once
// The gRPC face of a Node (proto/keelson/v1/blockstore.proto): decoding, logging and status mapping
// only. Called on gRPC's threads.

#include <memory>

#include "blockstore/service/node.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace keelson::service {

// `node` outlives the service.
std::unique_ptr<grpc::Service> MakeBlockStoreService(Node* node);

}  // namespace keelson::service
