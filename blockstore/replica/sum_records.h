#pragma once
// The one place that decides whether the checksums of an extent may be stored, and stores them
// (rule R17). Encoding only: the caller commits the batch.

#include <string>

#include "blockstore/pool/checksum_table.h"
#include "blockstore/pool/meta_store.h"
#include "blockstore/replica/replica.h"

namespace keelson::replica {

// Adds the checksums of the blocks `present` of an extent of `layer` to the batch. `writer` is the
// replica whose head the layer is, or nullptr. False, and nothing is added, while they may not be
// stored: the region was written in an interval that is still open. `scratch` is memory to reuse.
bool PutChecksums(const Layer& layer, const Replica* writer, const pool::ChecksumBlock& checksums,
                  const pool::BlockBits& present, pool::MetaBatch* batch, std::string* scratch);

}  // namespace keelson::replica
