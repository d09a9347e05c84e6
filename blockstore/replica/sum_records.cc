#include "blockstore/replica/sum_records.h"

namespace keelson::replica {

bool PutChecksums(const Layer& layer, const Replica* writer, const pool::ChecksumBlock& checksums,
                  const pool::BlockBits& present, pool::MetaBatch* batch, std::string* scratch) {
  pool::SumRecord record;
  record.owner = {layer.number(), checksums.owner.extent};
  record.generation = layer.ChecksumsValidFrom(checksums.owner.extent);
  if (writer != nullptr && record.generation > writer->clean_generation()) return false;
  record.known = checksums.known & present;
  record.crc32c = checksums.crc32c;
  // An extent without blocks (its first write failed) is not in the stored map: no record either.
  if (record.known.Any()) {
    pool::EncodeSumRecord(record, scratch);
    batch->Put(pool::Table::kSums, pool::EncodeSumKey(checksums.pool_extent), *scratch);
  }
  return true;
}

}  // namespace keelson::replica
