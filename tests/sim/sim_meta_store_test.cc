// What a simulated metadata store keeps and loses.

#include "tests/sim/sim_meta_store.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace keelson::sim {
namespace {

using pool::MetaBatch;
using pool::Table;

class SimMetaStoreTest : public ::testing::Test {
 protected:
  void Start(std::uint64_t seed) {
    static_cast<void>(store_.release());
    world_ = std::make_unique<World>(seed);
    disk_ = world_->AddMetaDisk("/meta");
    Reopen();
  }
  void SetUp() override { Start(1); }
  void TearDown() override { static_cast<void>(store_.release()); }

  void Reopen() {
    process_ = world_->StartProcess();
    auto opened = disk_->Open(process_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = *std::move(opened);
  }
  void Die(bool power_cut) {
    static_cast<void>(store_.release());
    if (power_cut) {
      world_->PowerCut();
    } else {
      world_->Kill(process_);
    }
  }
  static io::Task<absl::Status> CommitTask(pool::MetaStore* store, int key, bool synced) {
    MetaBatch batch;
    batch.Put(Table::kMap, absl::StrCat("key", key), absl::StrCat(key));
    absl::Status status = co_await store->Commit(&batch, synced);
    co_return status;
  }
  static io::internal::Detached Spawn(io::Task<absl::Status> task) {
    static_cast<void>(co_await std::move(task));
  }
  absl::Status Commit(int key, bool synced) {
    return *world_->RunTask(CommitTask(store_.get(), key, synced));
  }
  // How many of key 0 .. 9 are there; -1 when they are not the first ones.
  int PrefixLength() {
    auto found = world_->RunTask(store_->Scan(Table::kMap, "key", "", 100));
    EXPECT_TRUE(found.has_value() && found->ok());
    for (std::size_t i = 0; i < (*found)->size(); ++i) {
      if ((**found)[i].first != absl::StrCat("key", i)) return -1;
    }
    return static_cast<int>((*found)->size());
  }

  std::unique_ptr<World> world_;
  SimMetaDisk* disk_ = nullptr;
  SimReactor* process_ = nullptr;
  std::unique_ptr<pool::MetaStore> store_;
};

TEST_F(SimMetaStoreTest, KeepsCompletedCommitsWhenTheProcessDies) {
  for (int key = 0; key < 10; ++key) ASSERT_TRUE(Commit(key, false).ok());
  Die(/*power_cut=*/false);
  Reopen();
  EXPECT_EQ(PrefixLength(), 10);
}

TEST_F(SimMetaStoreTest, KeepsAPrefixNotBelowTheLastSyncedCommitAtAPowerCut) {
  std::set<int> seen;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Start(seed);
    for (int key = 0; key < 10; ++key) ASSERT_TRUE(Commit(key, key == 4).ok());
    Die(/*power_cut=*/true);
    Reopen();
    seen.insert(PrefixLength());
  }
  EXPECT_EQ(seen, (std::set<int>{5, 6, 7, 8, 9, 10}));
}

TEST_F(SimMetaStoreTest, AppliesAPrefixOfWhatWasSubmittedWhenTheProcessDies) {
  std::set<int> seen;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Start(seed);
    ASSERT_TRUE(Commit(0, true).ok());
    for (int key = 1; key < 4; ++key) Spawn(CommitTask(store_.get(), key, true));
    Die(/*power_cut=*/false);
    Reopen();
    seen.insert(PrefixLength());
  }
  EXPECT_EQ(seen, (std::set<int>{1, 2, 3, 4}));
}

TEST_F(SimMetaStoreTest, FailsForGoodAfterAFailedCommitWhoseOutcomeIsUnknown) {
  std::set<int> seen;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Start(seed);
    ASSERT_TRUE(Commit(0, true).ok());
    disk_->faults().commit_error = 1;
    EXPECT_EQ(Commit(1, true).code(), absl::StatusCode::kInternal);
    disk_->faults().commit_error = 0;
    EXPECT_EQ(Commit(2, true).code(), absl::StatusCode::kInternal);
    Die(/*power_cut=*/false);
    Reopen();
    seen.insert(PrefixLength());
    EXPECT_TRUE(Commit(3, true).ok());
  }
  EXPECT_EQ(seen, (std::set<int>{1, 2}));
}

TEST_F(SimMetaStoreTest, ScansByPrefixInPages) {
  for (int key = 0; key < 10; ++key) ASSERT_TRUE(Commit(key, false).ok());
  auto page = world_->RunTask(store_->Scan(Table::kMap, "key", "key2", 3));
  ASSERT_TRUE(page.has_value() && page->ok());
  ASSERT_EQ((*page)->size(), 3u);
  EXPECT_EQ((**page)[0].first, "key3");
  EXPECT_EQ((**page)[2].second, "5");
  auto none = world_->RunTask(store_->Scan(Table::kMap, "kez", "", 3));
  ASSERT_TRUE(none.has_value() && none->ok());
  EXPECT_TRUE((*none)->empty());
}

TEST_F(SimMetaStoreTest, RefusesASecondOpener) {
  EXPECT_EQ(disk_->Open(process_).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace keelson::sim
