#include "provisioner/store/memory_store.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace keelson::provisioner {
namespace {

// A piece of work as a reconciler has it: three writes, each of which may have been made before.
absl::Status Work(ClusterStore* store) {
  auto made = store->Put(Kind::kVolume, "ks-1", "making", 0);
  if (!made.ok() && !absl::IsAlreadyExists(made.status())) return made.status();
  auto record = store->Get(Kind::kVolume, "ks-1");
  if (!record.ok()) return record.status();
  if (record->value == "making") {
    auto ready = store->Put(Kind::kVolume, "ks-1", "ready", record->revision);
    if (!ready.ok()) return ready.status();
  }
  auto node = store->Put(Kind::kNode, "a", "", 0);
  return absl::IsAlreadyExists(node.status()) ? absl::OkStatus() : node.status();
}

TEST(MemoryStoreTest, CutsARunAtEveryWriteMadeOrNot) {
  for (const bool made : {false, true}) {
    for (std::uint64_t write = 1; write <= 3; ++write) {
      MemoryStore store;
      store.FailAt({.write = write, .made = made, .stays = true});
      EXPECT_EQ(Work(&store).code(), absl::StatusCode::kUnavailable);
      EXPECT_EQ(store.writes(), write);
      EXPECT_EQ(store.Get(Kind::kVolume, "ks-1").status().code(), absl::StatusCode::kUnavailable);
      store.Answer();
      EXPECT_EQ(store.List(Kind::kVolume)->revision, made ? write : write - 1);
      EXPECT_EQ(Work(&store), absl::OkStatus());
      EXPECT_EQ(store.Get(Kind::kVolume, "ks-1")->value, "ready");
    }
  }
  MemoryStore store;
  EXPECT_EQ(Work(&store), absl::OkStatus());
  EXPECT_EQ(store.writes(), 3u);
}

TEST(MemoryStoreTest, FailsOnceAndGoesOn) {
  MemoryStore store;
  store.FailAt({.write = 2});
  const auto first = store.Put(Kind::kVolume, "v", "1", 0);
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(store.Put(Kind::kVolume, "v", "2", 0).ok());  // refused: does not count
  EXPECT_EQ(store.Put(Kind::kVolume, "v", "2", *first).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(store.Get(Kind::kVolume, "v")->value, "1");
  EXPECT_TRUE(store.Put(Kind::kVolume, "v", "2", *first).ok());
}

TEST(MemoryStoreTest, AnswersNothingWhileItIsToldSo) {
  MemoryStore store;
  store.StopAnswering();
  constexpr absl::StatusCode kUnavailable = absl::StatusCode::kUnavailable;
  EXPECT_EQ(store.Get(Kind::kVolume, "v").status().code(), kUnavailable);
  EXPECT_EQ(store.List(Kind::kVolume).status().code(), kUnavailable);
  EXPECT_EQ(store.Put(Kind::kVolume, "v", "", 0).status().code(), kUnavailable);
  EXPECT_EQ(store.Delete(Kind::kVolume, "v", 1).code(), kUnavailable);
  store.Answer();
  EXPECT_TRUE(store.Put(Kind::kVolume, "v", "", 0).ok());
}

TEST(MemoryStoreTest, TellsAChangeWhoseMakerWasNotTold) {
  MemoryStore store;
  std::vector<std::string> told;
  auto watcher = store.Watch([&told](const Change& change) { told.push_back(change.key); });
  store.FailAt({.write = 1, .made = true});
  EXPECT_FALSE(store.Put(Kind::kVolume, "made", "", 0).ok());
  store.FailAt({.write = 1, .made = false});
  EXPECT_FALSE(store.Put(Kind::kVolume, "not-made", "", 0).ok());
  store.DrainWatchers();
  EXPECT_EQ(told, std::vector<std::string>{"made"});
}

}  // namespace
}  // namespace keelson::provisioner
