#include "blockstore/pool/rocks_meta_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/sync.h"
#include "blockstore/pool/rocks_status.h"

namespace keelson::pool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

// The real file system, with syncs that are counted and can be made to fail.
class CountingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  CountingFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "CountingFileSystem"; }

  std::atomic<int> log_syncs{0};
  std::atomic<bool> fail_syncs{false};
  std::atomic<bool> fail_appends{false};

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus status =
        FileSystemWrapper::NewWritableFile(name, options, result, debug);
    if (status.ok() && name.ends_with(".log")) {
      *result = std::make_unique<LogFile>(this, std::move(*result));
    }
    return status;
  }

 private:
  class LogFile final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    LogFile(CountingFileSystem* owner, std::unique_ptr<rocksdb::FSWritableFile> file)
        : FSWritableFileOwnerWrapper(std::move(file)), owner_(owner) {}
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
      if (owner_->fail_appends) return rocksdb::IOStatus::NoSpace("the test's disk is full");
      return FSWritableFileOwnerWrapper::Append(data, options, debug);
    }
    using FSWritableFileOwnerWrapper::Append;
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
      ++owner_->log_syncs;
      if (owner_->fail_syncs) return rocksdb::IOStatus::IOError("the test's sync fails");
      return FSWritableFileOwnerWrapper::Sync(options, debug);
    }

   private:
    CountingFileSystem* owner_;
  };
};

class RocksMetaStoreTest : public ::testing::Test {
 protected:
  RocksMetaStoreTest() {
    std::string pattern = ::testing::TempDir() + "rocks_meta_store_XXXXXX";
    directory_ = mkdtemp(pattern.data());
    auto reactor = io::MakeReactor({.buffer_arena_bytes = std::size_t{4} << 20});
    EXPECT_TRUE(reactor.ok()) << reactor.status();
    reactor_ = *std::move(reactor);
  }
  ~RocksMetaStoreTest() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  absl::Status Open(bool create) {
    auto store = RocksMetaStore::Open(
        reactor_.get(),
        {.directory = directory_ + "/meta", .create = create, .file_system = file_system_});
    if (!store.ok()) return store.status();
    store_ = *std::move(store);
    return absl::OkStatus();
  }

  // Runs `task` to its end on the reactor.
  void Run(io::Task<void> task) {
    io::Gate gate;
    gate.Spawn(RunAndStop(reactor_.get(), std::move(task)));
    reactor_->Run();
  }
  static io::Task<void> RunAndStop(io::Reactor* reactor, io::Task<void> task) {
    co_await std::move(task);
    reactor->Stop();
  }

  static io::Task<void> CommitInto(MetaStore* store, const MetaBatch* batch, bool synced,
                                   absl::Status* result) {
    *result = co_await store->Commit(batch, synced);
  }
  absl::Status Commit(const MetaBatch& batch, bool synced) {
    absl::Status result;
    Run(CommitInto(store_.get(), &batch, synced, &result));
    return result;
  }
  static io::Task<void> GetInto(MetaStore* store, Table table, std::string key,
                                absl::StatusOr<std::optional<std::string>>* result) {
    *result = co_await store->Get(table, std::move(key));
  }
  std::optional<std::string> Get(Table table, const std::string& key) {
    absl::StatusOr<std::optional<std::string>> result;
    Run(GetInto(store_.get(), table, key, &result));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : std::nullopt;
  }
  static io::Task<void> ScanInto(MetaStore* store, Table table, std::string prefix,
                                 std::string after, std::size_t count_max,
                                 std::vector<MetaEntry>* result) {
    auto entries = co_await store->Scan(table, std::move(prefix), std::move(after), count_max);
    EXPECT_TRUE(entries.ok()) << entries.status();
    if (entries.ok()) *result = *std::move(entries);
  }
  std::vector<MetaEntry> Scan(Table table, const std::string& prefix, const std::string& after,
                              std::size_t count_max) {
    std::vector<MetaEntry> result;
    Run(ScanInto(store_.get(), table, prefix, after, count_max, &result));
    return result;
  }

  std::string directory_;
  std::shared_ptr<CountingFileSystem> file_system_;
  std::unique_ptr<io::Reactor> reactor_;
  std::unique_ptr<RocksMetaStore> store_;
};

MetaBatch OnePut(Table table, std::string_view key, std::string_view value) {
  MetaBatch batch;
  batch.Put(table, key, value);
  return batch;
}

TEST_F(RocksMetaStoreTest, KeepsTablesApartAndCommitsOverAReopen) {
  ASSERT_TRUE(Open(/*create=*/true).ok());
  MetaBatch batch;
  batch.Put(Table::kObjects, "k", "object");
  batch.Put(Table::kMap, "k", "map");
  batch.Put(Table::kLog, "gone", "x");
  batch.Delete(Table::kLog, "gone");
  ASSERT_TRUE(Commit(batch, /*synced=*/true).ok());
  EXPECT_EQ(Get(Table::kObjects, "k"), "object");

  store_.reset();
  ASSERT_TRUE(Open(/*create=*/false).ok());
  EXPECT_EQ(Get(Table::kObjects, "k"), "object");
  EXPECT_EQ(Get(Table::kMap, "k"), "map");
  EXPECT_EQ(Get(Table::kSums, "k"), std::nullopt);
  EXPECT_EQ(Get(Table::kLog, "gone"), std::nullopt);
}

TEST_F(RocksMetaStoreTest, ScansAPrefixInOrderAndInPages) {
  ASSERT_TRUE(Open(/*create=*/true).ok());
  const std::string last_prefix = "\xff\xff";
  MetaBatch batch;
  for (const char* key : {"a", "b1", "b2", "b3", "c"}) batch.Put(Table::kMap, key, key);
  batch.Put(Table::kMap, last_prefix + "1", "end");
  ASSERT_TRUE(Commit(batch, /*synced=*/false).ok());

  EXPECT_THAT(Scan(Table::kMap, "b", "", 2), ElementsAre(Pair("b1", "b1"), Pair("b2", "b2")));
  EXPECT_THAT(Scan(Table::kMap, "b", "b2", 2), ElementsAre(Pair("b3", "b3")));
  EXPECT_THAT(Scan(Table::kMap, "b", "b3", 2), ElementsAre());
  EXPECT_THAT(Scan(Table::kMap, last_prefix, "", 9), ElementsAre(Pair(last_prefix + "1", "end")));
  EXPECT_EQ(Scan(Table::kMap, "", "", 9).size(), 6u);
  EXPECT_EQ(Scan(Table::kMap, "", "b", 9).size(), 5u);
}

io::Task<void> CommitMany(MetaStore* store, int count, std::vector<int>* order) {
  io::Gate gate;
  std::vector<MetaBatch> batches(static_cast<std::size_t>(count));
  struct One {
    static io::Task<void> Go(MetaStore* store, const MetaBatch* batch, int number,
                             std::vector<int>* order) {
      const absl::Status committed = co_await store->Commit(batch, /*synced=*/true);
      EXPECT_TRUE(committed.ok()) << committed;
      order->push_back(number);
    }
  };
  for (int i = 0; i < count; ++i) {
    MetaBatch& batch = batches[static_cast<std::size_t>(i)];
    batch.Put(Table::kNotes, "same key", std::to_string(i));
    gate.Spawn(One::Go(store, &batch, i, order));
  }
  co_await gate.Close();
}

TEST_F(RocksMetaStoreTest, SyncsManyCommitsWithFewSyncsAndAnswersThemInOrder) {
  file_system_ = std::make_shared<CountingFileSystem>();
  ASSERT_TRUE(Open(/*create=*/true).ok());
  const int before = file_system_->log_syncs;
  std::vector<int> order;
  Run(CommitMany(store_.get(), 1000, &order));
  ASSERT_EQ(order.size(), 1000u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(Get(Table::kNotes, "same key"), "999");
  EXPECT_GE(file_system_->log_syncs - before, 1);
  EXPECT_LT(file_system_->log_syncs - before, 500);
}

TEST_F(RocksMetaStoreTest, SyncsForASyncedCommitOnly) {
  file_system_ = std::make_shared<CountingFileSystem>();
  ASSERT_TRUE(Open(/*create=*/true).ok());
  const int before = file_system_->log_syncs;
  ASSERT_TRUE(Commit(OnePut(Table::kLog, "a", "1"), /*synced=*/false).ok());
  EXPECT_EQ(file_system_->log_syncs, before);
  ASSERT_TRUE(Commit(OnePut(Table::kLog, "b", "1"), /*synced=*/true).ok());
  EXPECT_EQ(file_system_->log_syncs, before + 1);
  ASSERT_TRUE(Commit(MetaBatch(), /*synced=*/true).ok());  // an empty batch still is a barrier
}

TEST_F(RocksMetaStoreTest, AFailedSyncFailsEveryLaterCommitUntilReopened) {
  file_system_ = std::make_shared<CountingFileSystem>();
  ASSERT_TRUE(Open(/*create=*/true).ok());
  ASSERT_TRUE(Commit(OnePut(Table::kMap, "k", "old"), /*synced=*/true).ok());
  file_system_->fail_syncs = true;
  EXPECT_EQ(Commit(OnePut(Table::kMap, "k", "new"), /*synced=*/true).code(),
            absl::StatusCode::kInternal);
  file_system_->fail_syncs = false;
  const absl::Status later = Commit(OnePut(Table::kMap, "k", "newer"), /*synced=*/false);
  EXPECT_EQ(later.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(later.message()), HasSubstr("until the pool is opened again"));
  EXPECT_NE(Get(Table::kMap, "k"), std::nullopt);  // reads go on

  store_.reset();
  ASSERT_TRUE(Open(/*create=*/false).ok());
  EXPECT_TRUE(Commit(OnePut(Table::kMap, "k", "newer"), /*synced=*/true).ok());
}

TEST_F(RocksMetaStoreTest, AFullDiskFailsTheCommitAndThenTheStore) {
  file_system_ = std::make_shared<CountingFileSystem>();
  ASSERT_TRUE(Open(/*create=*/true).ok());
  file_system_->fail_appends = true;
  EXPECT_EQ(Commit(OnePut(Table::kMap, "k", "v"), /*synced=*/false).code(),
            absl::StatusCode::kResourceExhausted);
  file_system_->fail_appends = false;
  EXPECT_EQ(Commit(OnePut(Table::kMap, "k", "v"), /*synced=*/false).code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(RocksMetaStoreTest, SaysThatAMissingStoreIsMissing) {
  const absl::Status opened = Open(/*create=*/false);
  EXPECT_EQ(opened.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(opened.message()),
              HasSubstr("metadata store missing at " + directory_ + "/meta"));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/meta"));
}

TEST_F(RocksMetaStoreTest, SaysThatADamagedStoreIsDamaged) {
  ASSERT_TRUE(Open(/*create=*/true).ok());
  store_.reset();
  for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/meta")) {
    if (entry.path().filename().string().starts_with("MANIFEST")) {
      std::ofstream(entry.path(), std::ios::trunc) << "not a manifest";
    }
  }
  const absl::Status opened = Open(/*create=*/false);
  EXPECT_EQ(opened.code(), absl::StatusCode::kDataLoss) << opened;
  EXPECT_THAT(std::string(opened.message()), HasSubstr("is damaged"));
}

TEST_F(RocksMetaStoreTest, RefusesASecondOpener) {
  ASSERT_TRUE(Open(/*create=*/true).ok());
  const std::unique_ptr<RocksMetaStore> first = std::move(store_);
  const absl::Status second = Open(/*create=*/false);
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition) << second;
  EXPECT_THAT(std::string(second.message()), HasSubstr("open in another process"));
}

TEST(RocksStatusTest, TellsAFullDiskFromABrokenOne) {
  EXPECT_TRUE(RocksStatus(rocksdb::Status::OK(), "x").ok());
  EXPECT_EQ(RocksStatus(rocksdb::Status::NoSpace(), "x").code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RocksStatus(rocksdb::Status::IOError("bad"), "x").code(), absl::StatusCode::kInternal);
  EXPECT_EQ(RocksStatus(rocksdb::Status::Corruption("bad"), "x").code(),
            absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(RocksStatus(rocksdb::Status::Corruption("bad"), "the act").message()),
              HasSubstr("the act: Corruption: bad"));
}

}  // namespace
}  // namespace keelson::pool
