// What every ClusterStore promises, of each of them.

#include "provisioner/store/cluster_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "provisioner/store/memory_store.h"
#include "provisioner/store/rocks_store.h"

namespace keelson::provisioner {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct InMemory {
  std::unique_ptr<ClusterStore> Open() { return std::make_unique<MemoryStore>(); }
};

struct OnDisk {
  OnDisk() {
    std::string pattern = ::testing::TempDir() + "cluster_store_XXXXXX";
    directory = mkdtemp(pattern.data());
  }
  ~OnDisk() { std::filesystem::remove_all(directory); }
  std::unique_ptr<ClusterStore> Open() {
    auto store = RocksStore::Open({.directory = directory, .file_system = nullptr});
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  std::string directory;
};

// What a watcher was told, and a way to wait for it.
class Told {
 public:
  void operator()(const Change& change) {
    const std::lock_guard lock(mutex_);
    texts_.push_back(std::string(KindName(change.kind)) + " " + change.key +
                     (change.present ? " at " : " deleted at ") + std::to_string(change.revision));
    revisions_.push_back(change.revision);
    told_.notify_all();
  }
  std::vector<std::string> WaitUntil(std::uint64_t revision) {
    std::unique_lock lock(mutex_);
    told_.wait(lock, [&] { return !revisions_.empty() && revisions_.back() >= revision; });
    return texts_;
  }
  std::vector<std::string> Texts() {
    const std::lock_guard lock(mutex_);
    return texts_;
  }
  std::vector<std::uint64_t> Revisions() {
    const std::lock_guard lock(mutex_);
    return revisions_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable told_;
  std::vector<std::string> texts_;
  std::vector<std::uint64_t> revisions_;
};

template <typename Where>
class ClusterStoreTest : public ::testing::Test {
 protected:
  ClusterStore& store() { return *store_; }
  std::uint64_t Put(Kind kind, const std::string& key, const std::string& value,
                    std::uint64_t expected_revision = 0) {
    auto revision = store_->Put(kind, key, value, expected_revision);
    EXPECT_TRUE(revision.ok()) << revision.status();
    return revision.value_or(0);
  }
  std::vector<std::string> Keys(Kind kind) {
    std::vector<std::string> keys;
    auto listing = store_->List(kind);
    EXPECT_TRUE(listing.ok()) << listing.status();
    for (const Record& record : listing->records) keys.push_back(record.key);
    return keys;
  }

  Where where_;
  std::unique_ptr<ClusterStore> store_ = where_.Open();
};

class Names {
 public:
  template <typename Where>
  static std::string GetName(int) {
    return std::is_same_v<Where, OnDisk> ? "Rocks" : "Memory";
  }
};
using Stores = ::testing::Types<InMemory, OnDisk>;
TYPED_TEST_SUITE(ClusterStoreTest, Stores, Names);

TYPED_TEST(ClusterStoreTest, GivesBackWhatWasPutLast) {
  const std::string bytes("\0\xff{}", 4);
  const std::uint64_t first = this->Put(Kind::kVolume, "ks-1", bytes);
  auto record = this->store().Get(Kind::kVolume, "ks-1");
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->key, "ks-1");
  EXPECT_EQ(record->value, bytes);
  EXPECT_EQ(record->revision, first);

  const std::uint64_t second = this->Put(Kind::kVolume, "ks-1", "", first);
  record = this->store().Get(Kind::kVolume, "ks-1");
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->value, "");
  EXPECT_EQ(record->revision, second);
}

TYPED_TEST(ClusterStoreTest, HasNothingOfADeletedRecord) {
  const std::uint64_t revision = this->Put(Kind::kNode, "a", "1");
  EXPECT_EQ(this->store().Delete(Kind::kNode, "a", revision), absl::OkStatus());
  const absl::Status gone = this->store().Get(Kind::kNode, "a").status();
  EXPECT_EQ(gone, absl::NotFoundError("no node 'a'"));
  EXPECT_THAT(this->Keys(Kind::kNode), IsEmpty());
  EXPECT_EQ(this->store().Delete(Kind::kNode, "a", revision), gone);
  EXPECT_EQ(this->store().Put(Kind::kNode, "a", "2", revision).status(), gone);
}

TYPED_TEST(ClusterStoreTest, DoesNotMakeARecordThatIsThere) {
  const std::uint64_t revision = this->Put(Kind::kVolume, "ks-1", "mine");
  const absl::Status status = this->store().Put(Kind::kVolume, "ks-1", "theirs", 0).status();
  EXPECT_EQ(status, absl::AlreadyExistsError("volume 'ks-1' exists already (revision " +
                                             std::to_string(revision) + ")"));
  EXPECT_EQ(this->store().Get(Kind::kVolume, "ks-1")->value, "mine");
}

TYPED_TEST(ClusterStoreTest, DoesNotChangeWhatChangedMeanwhile) {
  const std::uint64_t seen = this->Put(Kind::kVolume, "ks-1", "1");
  const std::uint64_t present = this->Put(Kind::kVolume, "ks-1", "2", seen);
  const absl::Status late = absl::AbortedError("volume 'ks-1' changed meanwhile (its revision is " +
                                               std::to_string(present) + ", not " +
                                               std::to_string(seen) + "): read it again");
  EXPECT_EQ(this->store().Put(Kind::kVolume, "ks-1", "3", seen).status(), late);
  EXPECT_EQ(this->store().Delete(Kind::kVolume, "ks-1", seen), late);
  EXPECT_EQ(this->store().Put(Kind::kVolume, "ks-1", "3", present + 1).status().code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(this->store().Get(Kind::kVolume, "ks-1")->value, "2");
}

TYPED_TEST(ClusterStoreTest, DeletesNothingWithoutARevision) {
  this->Put(Kind::kVolume, "ks-1", "1");
  EXPECT_EQ(this->store().Delete(Kind::kVolume, "ks-1", 0).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(this->store().Get(Kind::kVolume, "ks-1").ok());
}

TYPED_TEST(ClusterStoreTest, NeverUsesARevisionAgain) {
  std::uint64_t last = 0;
  for (const std::string value : {"1", "2", "3"}) {
    const std::uint64_t volume = this->Put(Kind::kVolume, "same", value);
    const std::uint64_t node = this->Put(Kind::kNode, "same", value);
    EXPECT_GT(volume, last);
    EXPECT_GT(node, volume);
    ASSERT_TRUE(this->store().Delete(Kind::kVolume, "same", volume).ok());
    ASSERT_TRUE(this->store().Delete(Kind::kNode, "same", node).ok());
    EXPECT_GT(this->store().List(Kind::kNode)->revision, node);
    last = this->store().List(Kind::kNode)->revision;
  }
}

TYPED_TEST(ClusterStoreTest, ListsTheRecordsOfOneKindByKey) {
  EXPECT_EQ(this->store().List(Kind::kSnapshot)->revision, 0u);
  EXPECT_THAT(this->Keys(Kind::kSnapshot), IsEmpty());
  for (const std::string key : {"b", "B", "a.1", "a", "-", "_", "9"}) {
    this->Put(Kind::kSnapshot, key, "of " + key);
  }
  this->Put(Kind::kVolume, "c", "");
  const std::uint64_t last = this->Put(Kind::kGroup, "d", "");
  auto listing = this->store().List(Kind::kSnapshot);
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_EQ(listing->revision, last);
  EXPECT_THAT(this->Keys(Kind::kSnapshot), ElementsAre("-", "9", "B", "_", "a", "a.1", "b"));
  for (const Record& record : listing->records) EXPECT_EQ(record.value, "of " + record.key);
}

TYPED_TEST(ClusterStoreTest, RefusesKeysThatAreNotAllowed) {
  const std::string longest(kKeyBytesMax, 'k');
  this->Put(Kind::kVolume, longest, "1");
  const std::vector<std::string> refused = {"",         longest + "k",         "a/b", "a b",
                                            "\xc3\xa4", std::string("a\0", 2), "a\n"};
  for (const std::string& key : refused) {
    const absl::Status got = this->store().Get(Kind::kVolume, key).status();
    EXPECT_EQ(got.code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(std::string(got.message()), HasSubstr("1 to 253 characters of [A-Za-z0-9._-]"));
    EXPECT_EQ(this->store().Put(Kind::kVolume, key, "", 0).status(), got);
    EXPECT_EQ(this->store().Delete(Kind::kVolume, key, 1), got);
  }
  EXPECT_THAT(this->Keys(Kind::kVolume), ElementsAre(longest));
}

TYPED_TEST(ClusterStoreTest, TakesValuesOfUpToOneMebibyte) {
  const std::string largest(kValueBytesMax, 'v');
  this->Put(Kind::kGroup, "ksg-1", largest);
  EXPECT_EQ(this->store().Get(Kind::kGroup, "ksg-1")->value, largest);
  EXPECT_EQ(this->store().Put(Kind::kGroup, "ksg-2", largest + "v", 0).status(),
            absl::InvalidArgumentError("the record of group 'ksg-2' would have 1048577 bytes: a "
                                       "record has at most 1048576"));
}

TYPED_TEST(ClusterStoreTest, TellsWatchersEveryChangeInOrder) {
  this->Put(Kind::kVolume, "before", "");
  Told told;
  Told also;
  auto watcher = this->store().Watch(std::ref(told));
  auto other = this->store().Watch(std::ref(also));
  const std::uint64_t volume = this->Put(Kind::kVolume, "v", "1");
  const std::uint64_t node = this->Put(Kind::kNode, "n", "1");
  const std::uint64_t changed = this->Put(Kind::kVolume, "v", "2", volume);
  EXPECT_FALSE(this->store().Put(Kind::kVolume, "v", "3", volume).ok());  // not a change
  ASSERT_TRUE(this->store().Delete(Kind::kVolume, "v", changed).ok());
  const std::uint64_t deleted = this->store().List(Kind::kVolume)->revision;
  const std::vector<std::string> all = {
      "volume v at " + std::to_string(volume), "node n at " + std::to_string(node),
      "volume v at " + std::to_string(changed), "volume v deleted at " + std::to_string(deleted)};
  EXPECT_EQ(told.WaitUntil(deleted), all);
  EXPECT_EQ(also.WaitUntil(deleted), all);
}

TYPED_TEST(ClusterStoreTest, TellsNothingAfterAWatchHasEnded) {
  Told ended;
  Told goes_on;
  auto watcher = this->store().Watch(std::ref(ended));
  auto other = this->store().Watch(std::ref(goes_on));
  ended.WaitUntil(this->Put(Kind::kVolume, "v1", ""));
  watcher.reset();
  goes_on.WaitUntil(this->Put(Kind::kVolume, "v2", ""));
  EXPECT_EQ(ended.Texts().size(), 1u);
}

TYPED_TEST(ClusterStoreTest, EndsAWatchOnlyAfterACallbackThatRuns) {
  std::mutex mutex;
  std::condition_variable changed;
  bool entered = false;
  bool may_leave = false;
  bool left = false;
  auto watcher = this->store().Watch([&](const Change&) {
    std::unique_lock lock(mutex);
    entered = true;
    changed.notify_all();
    changed.wait(lock, [&] { return may_leave; });
    left = true;
  });
  this->Put(Kind::kVolume, "v", "");
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return entered; });
  }
  std::thread release([&] {
    const std::lock_guard lock(mutex);
    may_leave = true;
    changed.notify_all();
  });
  watcher.reset();
  EXPECT_TRUE(left);
  release.join();
}

TYPED_TEST(ClusterStoreTest, LetsACallbackEndItsOwnWatch) {
  Told told;
  std::unique_ptr<ClusterStore::Watcher> watcher;
  int calls = 0;
  watcher = this->store().Watch([&](const Change&) {
    ++calls;
    watcher.reset();
  });
  auto other = this->store().Watch(std::ref(told));
  this->Put(Kind::kVolume, "v1", "");
  told.WaitUntil(this->Put(Kind::kVolume, "v2", ""));
  EXPECT_EQ(calls, 1);
}

TYPED_TEST(ClusterStoreTest, LosesNoChangeOfThreadsThatRace) {
  constexpr int kThreads = 4;
  constexpr int kAdditions = 25;
  Told told;
  auto watcher = this->store().Watch(std::ref(told));
  this->Put(Kind::kVolume, "sum", "0");
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this] {
      for (int done = 0; done < kAdditions;) {
        auto seen = this->store().Get(Kind::kVolume, "sum");
        ASSERT_TRUE(seen.ok()) << seen.status();
        const std::string more = std::to_string(std::stoi(seen->value) + 1);
        const auto put = this->store().Put(Kind::kVolume, "sum", more, seen->revision);
        if (put.ok()) {
          ++done;
        } else {
          ASSERT_EQ(put.status().code(), absl::StatusCode::kAborted);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto sum = this->store().Get(Kind::kVolume, "sum");
  EXPECT_EQ(sum->value, std::to_string(kThreads * kAdditions));
  told.WaitUntil(sum->revision);
  std::vector<std::uint64_t> every;
  for (std::uint64_t revision = 1; revision <= sum->revision; ++revision) every.push_back(revision);
  EXPECT_EQ(told.Revisions(), every);
}

}  // namespace
}  // namespace keelson::provisioner
