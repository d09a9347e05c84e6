#include "blockstore/replica/records.h"

#include <string>

namespace keelson::replica {

void ToRecord(const pool::Epoch& epoch, pool::EpochRecord* record) {
  record->set_attachment(epoch.attachment);
  record->set_restart(epoch.restart);
  record->set_engine_id(std::string(epoch.engine.view()));
}

void PutLayer(const Layer& layer, pool::MetaBatch* batch) {
  pool::LayerRecord record;
  if (layer.parent() != nullptr) record.set_parent(layer.parent()->number().value);
  record.set_owner_replica(layer.owner().value);
  if (layer.sealed().has_value()) {
    ToRecord(layer.sealed()->epoch, record.mutable_sealed()->mutable_epoch());
    record.mutable_sealed()->set_counter(layer.sealed()->counter);
  }
  batch->Put(pool::Table::kObjects, pool::ObjectKey(pool::kLayerPrefix, layer.number().value),
             record.SerializeAsString());
}

}  // namespace keelson::replica
