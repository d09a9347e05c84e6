#pragma once
// RocksStore: the ClusterStore that is embedded in the provisioner, over RocksDB in a directory of
// its own (mode 0700). Owned by the program's main thread; any thread.
//
// One process at a time: RocksDB locks the directory. Every write is synced before it is answered,
// and writes go one after the other, so the store is what it was after the last answered write, or
// one later, whenever the process or the machine dies. Records are a few megabytes.
//
// The first write that fails, and any failure of RocksDB's background work, is final: whether that
// write was made is known only after the log has been read again, so every later call, a reading
// one too, is UNAVAILABLE until the store is opened anew. A provisioner ends then and is started
// again.
//
// In the database: `m/format` the version of this layout, in decimal; `m/revision` the last
// revision given out, in an envelope around nothing; `d`, a byte for the kind, and the key: a
// record, in an envelope (envelope.h).

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "provisioner/store/cluster_store.h"
#include "provisioner/store/watch_hub.h"

namespace keelson::provisioner {

struct RocksStoreOptions {
  std::string directory;  // made when it does not exist; its parent must
  // What RocksDB's files live in; empty: the operating system's file system. Tests break it.
  std::shared_ptr<rocksdb::FileSystem> file_system;
};

class RocksStore final : public ClusterStore {
 public:
  // Blocks while RocksDB reads its log.
  //   FAILED_PRECONDITION  another process has it open, a newer program made it, or the directory
  //                        cannot be used for it
  //   DATA_LOSS            it is damaged, or a part of it is missing
  //   UNAVAILABLE          the disk does not take or give what it should
  static absl::StatusOr<std::unique_ptr<RocksStore>> Open(const RocksStoreOptions& options);
  ~RocksStore() override;

  absl::StatusOr<Record> Get(Kind kind, std::string_view key) override;
  absl::StatusOr<Listing> List(Kind kind) override;
  absl::StatusOr<std::uint64_t> Put(Kind kind, std::string_view key, std::string_view value,
                                    std::uint64_t expected_revision) override;
  absl::Status Delete(Kind kind, std::string_view key, std::uint64_t expected_revision) override;
  std::unique_ptr<Watcher> Watch(std::function<void(const Change&)> callback) override;

 private:
  class Failure;  // the first one, from whichever thread met it

  explicit RocksStore(std::string directory);
  absl::Status OpenDatabase(const RocksStoreOptions& options);
  absl::Status BeginLayout();
  absl::Status ReadLayout(const std::string& format);

  absl::StatusOr<std::optional<std::string>> Read(const rocksdb::ReadOptions& options,
                                                  std::string_view key);
  absl::StatusOr<std::optional<Record>> ReadRecord(Kind kind, std::string_view key);
  absl::StatusOr<std::optional<std::uint64_t>> PresentRevision(Kind kind, std::string_view key);
  absl::StatusOr<std::uint64_t> ReadRevision(const rocksdb::ReadOptions& options);
  absl::Status Scan(Kind kind, const rocksdb::ReadOptions& options, Listing* listing);
  absl::StatusOr<std::uint64_t> Write(Kind kind, std::string_view key,
                                      std::optional<std::string_view> value);
  absl::Status Damaged(std::string_view what, std::string_view why) const;

  const std::string directory_;
  std::unique_ptr<rocksdb::Env> env_;  // only around an injected file system; outlives db_
  std::shared_ptr<Failure> failure_;   // shared: RocksDB's options keep listeners that way
  std::unique_ptr<rocksdb::DB> db_;
  std::mutex write_mutex_;           // from the check of a write to the end of its sync
  std::uint64_t last_revision_ = 0;  // under write_mutex_
  WatchHub hub_;
};

}  // namespace keelson::provisioner
