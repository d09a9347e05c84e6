#pragma once
// The object records of layers, as they go into a batch. Encoding only.

#include "blockstore/pool/ids.h"
#include "blockstore/pool/meta_store.h"
#include "blockstore/pool/records.pb.h"
#include "blockstore/replica/layer_table.h"

namespace keelson::replica {

void ToRecord(const pool::Epoch& epoch, pool::EpochRecord* record);
void PutLayer(const Layer& layer, pool::MetaBatch* batch);

}  // namespace keelson::replica
