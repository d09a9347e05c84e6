#pragma once
// RocksMetaStore: the MetaStore of production, over RocksDB. One column family per Table.
//
// Owned by a pool; called on the pool's reactor only, and answers there (one Post for a group of
// completions). RocksDB's blocking calls run on three threads of its own:
//   commit  takes every queued commit, merges them into one batch and writes it to RocksDB's log
//           (write(2), no sync); unsynced commits are answered then;
//   sync    makes the log durable for the synced commits that have been written, all of them with
//   one
//           fdatasync, while the commit thread goes on: an allocating write never waits for a sync;
//   read    Get and Scan.
// So a synced commit may be answered after an unsynced one submitted later; they take effect in the
// order of Submit all the same.
//
// Can fail: any commit (disk full, I/O error) and RocksDB's background work. The first failure is
// final: every later commit is UNAVAILABLE until the store is opened again. Reads go on.

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <rocksdb/write_batch.h>

#include <array>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/reactor.h"
#include "blockstore/pool/handoff_queue.h"
#include "blockstore/pool/meta_store.h"

namespace keelson::pool {

struct RocksMetaStoreOptions {
  std::string directory;  // of the store itself, for example /pools/a/meta; its parent must exist
  bool create = false;    // make it if it does not exist
  // What RocksDB's files live in; empty: the operating system's file system. Tests record or break
  // it.
  std::shared_ptr<rocksdb::FileSystem> file_system;
  std::size_t write_buffer_bytes = std::size_t{32} << 20;  // memtables of all tables together
  std::size_t block_cache_bytes = std::size_t{8} << 20;
};

class RocksMetaStore final : public MetaStore {
 public:
  // Blocks while RocksDB recovers its log. `reactor` outlives the store.
  //   DATA_LOSS: there is no store at the directory (without `create`), or it is damaged.
  //   FAILED_PRECONDITION: another process has it open, or a newer program made it.
  static absl::StatusOr<std::unique_ptr<RocksMetaStore>> Open(io::Reactor* reactor,
                                                              const RocksMetaStoreOptions& options);
  ~RocksMetaStore() override;

  void Submit(CommitOp* op) override;
  io::Task<absl::StatusOr<std::optional<std::string>>> Get(Table table, std::string key) override;
  io::Task<absl::StatusOr<std::vector<MetaEntry>>> Scan(Table table, std::string prefix,
                                                        std::string after,
                                                        std::size_t count_max) override;

 private:
  class Failure;  // the first error, from whichever thread met it
  struct ReadOp;

  RocksMetaStore(io::Reactor* reactor, std::string directory);
  absl::Status OpenDatabase(const RocksMetaStoreOptions& options);
  void StartThreads();
  void StopThreads();

  void CommitLoop();
  absl::Status WriteGroup(CommitOp* first, const CommitOp* end);
  void AnswerWritten(CommitOp* first, CommitOp* end, const absl::Status& result);
  void SyncLoop();
  void Answer(CommitOp* first);
  void ReadLoop();
  void RunRead(ReadOp* op);
  absl::Status RunGet(ReadOp* op);
  absl::Status RunScan(ReadOp* op);

  io::Reactor* reactor_;
  std::string directory_;
  std::unique_ptr<rocksdb::Env> env_;  // only around an injected file system; outlives db_
  std::shared_ptr<Failure> failure_;   // shared: RocksDB's options keep listeners that way
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;  // db_'s; destroyed through it
  std::array<rocksdb::ColumnFamilyHandle*, kTableCount> tables_{};

  rocksdb::WriteBatch group_;  // the commit thread's; keeps its memory
  HandoffQueue<CommitOp> commits_;
  HandoffQueue<CommitOp> syncs_;
  HandoffQueue<ReadOp> reads_;
  std::thread commit_thread_;
  std::thread sync_thread_;
  std::thread read_thread_;
};

}  // namespace keelson::pool
