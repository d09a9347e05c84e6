// What only a store on a disk can meet; the rest is in cluster_store_test.cc.

#include "provisioner/store/rocks_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "provisioner/store/envelope.h"
#include "tests/unit/provisioner/store/dying_file_system.h"

namespace keelson::provisioner {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kVolumeKey[] = "d\x01";  // begins the key of a volume in the database

class RocksStoreTest : public ::testing::Test {
 protected:
  RocksStoreTest() {
    std::string pattern = ::testing::TempDir() + "rocks_store_XXXXXX";
    parent_ = mkdtemp(pattern.data());
    directory_ = parent_ + "/store";
  }
  ~RocksStoreTest() override { std::filesystem::remove_all(parent_); }

  absl::StatusOr<std::unique_ptr<RocksStore>> Open(
      std::shared_ptr<rocksdb::FileSystem> file_system =
          std::make_shared<DyingFileSystem>(DyingFileSystem::kNever)) {
    return RocksStore::Open({.directory = directory_, .file_system = std::move(file_system)});
  }
  absl::Status OpenStatus() { return Open().status(); }
  // Makes the store and `count` volumes v1, v2, ...
  void MakeVolumes(int count) {
    auto store = Open();
    ASSERT_TRUE(store.ok()) << store.status();
    for (int i = 1; i <= count; ++i) {
      const std::string key = "v" + std::to_string(i);
      ASSERT_TRUE((*store)->Put(Kind::kVolume, key, "value of " + key, 0).ok());
    }
  }
  // The database without our code.
  std::unique_ptr<rocksdb::DB> Raw() {
    rocksdb::DB* db = nullptr;
    const rocksdb::Status status = rocksdb::DB::Open(rocksdb::Options(), directory_, &db);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return std::unique_ptr<rocksdb::DB>(db);
  }
  void PutRaw(const std::string& key, const std::string& value) {
    EXPECT_TRUE(Raw()->Put(rocksdb::WriteOptions(), key, value).ok());
  }
  std::string GetRaw(const std::string& key) {
    std::string value;
    EXPECT_TRUE(Raw()->Get(rocksdb::ReadOptions(), key, &value).ok());
    return value;
  }
  std::string LargestLog() {
    std::string largest;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      if (entry.path().extension() != ".log") continue;
      if (largest.empty() || entry.file_size() > std::filesystem::file_size(largest)) {
        largest = entry.path().string();
      }
    }
    return largest;
  }

  std::string parent_;
  std::string directory_;
};

TEST_F(RocksStoreTest, KeepsRecordsAndRevisionsOverAnOpening) {
  std::uint64_t last = 0;
  {
    auto store = Open();
    ASSERT_TRUE(store.ok()) << store.status();
    const std::uint64_t kept = (*store)->Put(Kind::kVolume, "kept", "1", 0).value();
    const std::uint64_t gone = (*store)->Put(Kind::kVolume, "gone", "2", 0).value();
    ASSERT_TRUE((*store)->Put(Kind::kVolume, "kept", "3", kept).ok());
    ASSERT_TRUE((*store)->Delete(Kind::kVolume, "gone", gone).ok());
    last = (*store)->List(Kind::kVolume)->revision;
  }
  auto store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  auto listing = (*store)->List(Kind::kVolume);
  ASSERT_EQ(listing->records.size(), 1u);
  EXPECT_EQ(listing->records[0].value, "3");
  EXPECT_EQ(listing->revision, last);
  EXPECT_EQ((*store)->Put(Kind::kVolume, "gone", "4", 0).value(), last + 1);
}

TEST_F(RocksStoreTest, IsForItsUserOnly) {
  const mode_t before = umask(0);
  MakeVolumes(1);
  umask(before);
  struct stat found {};
  ASSERT_EQ(stat(directory_.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0700u);
  ASSERT_EQ(chmod(directory_.c_str(), 0755), 0);
  EXPECT_EQ(OpenStatus(), absl::OkStatus());
  ASSERT_EQ(stat(directory_.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0700u);
}

TEST_F(RocksStoreTest, IsOpenInOneProcessAtATime) {
  auto store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  const absl::Status second = OpenStatus();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.message()),
              AllOf(HasSubstr(directory_ + " is open in another keelson-provisioner"),
                    HasSubstr("stop that one first")));
  EXPECT_TRUE((*store)->Put(Kind::kVolume, "v", "", 0).ok());
}

TEST_F(RocksStoreTest, RefusesDirectoriesThatCannotBeAStore) {
  const std::string file = parent_ + "/file";
  std::ofstream(file) << "text";
  const auto refusal = [](const std::string& directory) {
    const absl::Status status =
        RocksStore::Open({.directory = directory, .file_system = nullptr}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(refusal(file), "store directory " + file + " is not a directory");
  EXPECT_THAT(refusal(parent_ + "/no/store"), HasSubstr("its parent is not a directory"));
  EXPECT_THAT(refusal(file + "/store"), HasSubstr("its parent is not a directory"));
  EXPECT_THAT(refusal(parent_), HasSubstr("holds something that is not a store (file)"));
  EXPECT_FALSE(std::filesystem::exists(parent_ + "/CURRENT"));
}

TEST_F(RocksStoreTest, RefusesALayoutOfANewerProgram) {
  MakeVolumes(1);
  EXPECT_EQ(GetRaw("m/format"), "1");
  PutRaw("m/format", "2");
  const absl::Status status = OpenStatus();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(directory_ + " has layout 2"), HasSubstr("up to 1")));
}

TEST_F(RocksStoreTest, RefusesALayoutThatCannotBeRead) {
  MakeVolumes(1);
  for (const std::string format : {"", "0", "one"}) {
    PutRaw("m/format", format);
    EXPECT_EQ(OpenStatus().code(), absl::StatusCode::kDataLoss) << format;
  }
  EXPECT_TRUE(Raw()->Delete(rocksdb::WriteOptions(), "m/format").ok());
  EXPECT_EQ(OpenStatus().code(), absl::StatusCode::kDataLoss);
  PutRaw("m/format", "1");
  EXPECT_EQ(OpenStatus(), absl::OkStatus());
  PutRaw("m/revision", "?");
  EXPECT_EQ(OpenStatus().code(), absl::StatusCode::kDataLoss);
}

TEST_F(RocksStoreTest, SaysWhichRecordIsDamaged) {
  MakeVolumes(2);
  const std::string other = GetRaw(std::string(kVolumeKey) + "v2");
  for (const std::string& bytes : {std::string(), other}) {
    PutRaw(std::string(kVolumeKey) + "v1", bytes);
    auto store = Open();
    ASSERT_TRUE(store.ok()) << store.status();
    const absl::Status status = (*store)->Get(Kind::kVolume, "v1").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("the record of volume 'v1' in the store at " + directory_),
                      HasSubstr("keelctl adopt")));
    EXPECT_EQ((*store)->List(Kind::kVolume).status(), status);
    EXPECT_EQ((*store)->Put(Kind::kVolume, "v1", "", 1).status(), status);
    EXPECT_EQ((*store)->Delete(Kind::kVolume, "v1", 1), status);
    EXPECT_EQ((*store)->Get(Kind::kVolume, "v2")->value, "value of v2");
    EXPECT_TRUE((*store)->List(Kind::kNode).ok());
  }
}

TEST_F(RocksStoreTest, DoesNotBeginAnewOverWhatIsLeftOfAStore) {
  MakeVolumes(2);
  std::filesystem::remove(directory_ + "/CURRENT");
  const absl::Status status = OpenStatus();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("has lost its file CURRENT"));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/CURRENT"));
}

TEST_F(RocksStoreTest, RefusesALogThatIsBrokenInTheMiddle) {
  MakeVolumes(3);
  const std::string log = LargestLog();
  std::string bytes;
  {
    std::ifstream in(log, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const std::size_t second = bytes.find("value of v2");
  ASSERT_NE(second, std::string::npos);
  bytes[second] = '?';
  std::ofstream(log, std::ios::binary) << bytes;
  const absl::Status status = OpenStatus();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(directory_ + " is damaged"));
}

TEST_F(RocksStoreTest, AnswersNothingMoreAfterAWriteThatFailed) {
  auto disk = std::make_shared<DyingFileSystem>(DyingFileSystem::kNever);
  auto store = Open(disk);
  ASSERT_TRUE(store.ok()) << store.status();
  const std::uint64_t revision = (*store)->Put(Kind::kVolume, "v", "1", 0).value();
  disk->DieAfter(1);  // the log takes the write, and its sync fails
  const absl::Status status = (*store)->Put(Kind::kVolume, "v", "2", revision).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(directory_), HasSubstr("writing volume 'v'"),
                    HasSubstr("may be there or not")));
  const absl::Status later = (*store)->Get(Kind::kVolume, "v").status();
  EXPECT_EQ(later.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(later.message()), HasSubstr("restart keelson-provisioner"));
  EXPECT_EQ((*store)->List(Kind::kVolume).status(), later);
  EXPECT_EQ((*store)->Put(Kind::kVolume, "w", "", 0).status(), later);
  EXPECT_EQ((*store)->Delete(Kind::kVolume, "v", revision), later);
  store->reset();
  store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->Get(Kind::kVolume, "v")->value, "2");  // this one had been made
}

// What answered writes left, and what the one that was not answered may have changed.
struct Expected {
  std::map<std::string, std::string> records;
  std::map<std::string, std::string> or_else;
  std::uint64_t revision = 0;
};

// Makes, changes and deletes until the disk dies; large values, so that tables are written too.
Expected Work(ClusterStore* store) {
  Expected expected;
  std::map<std::string, std::uint64_t> revisions;
  for (int i = 0; i < 24; ++i) {
    const std::string key = "v" + std::to_string(i % 5);
    const bool deletes = i % 7 == 6 && revisions.contains(key);
    const std::string value(i % 4 == 0 ? 600'000 : 100, static_cast<char>('a' + i));
    expected.or_else = expected.records;
    absl::Status status;
    if (deletes) {
      expected.or_else.erase(key);
      status = store->Delete(Kind::kVolume, key, revisions[key]);
      revisions.erase(key);
    } else {
      expected.or_else[key] = value;
      const std::uint64_t seen = revisions.contains(key) ? revisions[key] : 0;
      const auto put = store->Put(Kind::kVolume, key, value, seen);
      status = put.status();
      if (put.ok()) revisions[key] = *put;
    }
    if (!status.ok()) return expected;
    expected.records = expected.or_else;
    ++expected.revision;
  }
  return expected;
}

class RocksStoreDeathTest : public RocksStoreTest, public ::testing::WithParamInterface<bool> {};

TEST_P(RocksStoreDeathTest, HasEveryAnsweredWriteAndAtMostOneMore) {
  const bool power_cut = GetParam();
  int deaths = 0;
  bool ended = false;
  for (int operations = 0; !ended; operations += operations < 60 ? 1 : 3) {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directory(directory_);
    auto disk = std::make_shared<DyingFileSystem>(operations);
    Expected expected;
    if (auto store = Open(disk); store.ok()) {
      expected = Work(store->get());
      ended = expected.revision == 24;
    }
    if (power_cut) disk->CutPower();
    ++deaths;

    auto store = Open();
    ASSERT_TRUE(store.ok()) << "after " << operations << " operations: " << store.status();
    auto listing = (*store)->List(Kind::kVolume);
    ASSERT_TRUE(listing.ok()) << listing.status();
    std::map<std::string, std::string> found;
    for (const Record& record : listing->records) found[record.key] = record.value;
    if (listing->revision == expected.revision) {
      EXPECT_TRUE(found == expected.records) << "after " << operations << " operations";
    } else {
      EXPECT_EQ(listing->revision, expected.revision + 1) << "after " << operations;
      EXPECT_TRUE(found == expected.or_else) << "after " << operations << " operations";
    }
    auto next = (*store)->Put(Kind::kNode, "a", "", 0);
    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_EQ(*next, listing->revision + 1);
  }
  EXPECT_GT(deaths, 60);
}

INSTANTIATE_TEST_SUITE_P(Deaths, RocksStoreDeathTest, ::testing::Bool(),
                         [](const ::testing::TestParamInfo<bool>& power_cut) {
                           return power_cut.param ? "OfTheMachine" : "OfTheProcess";
                         });

TEST(EnvelopeTest, HasTheBytesThatItsHeaderDescribes) {
  const std::string bytes = Envelop("key", 0x0102030405060708, "value");
  EXPECT_EQ(bytes.substr(0, 9), std::string("\x01\x08\x07\x06\x05\x04\x03\x02\x01"));
  EXPECT_EQ(bytes.substr(13), "value");
  EXPECT_EQ(bytes.substr(9, 4), "\xad\x24\xc1\xc8");  // CRC32C of "key", those nine, "value"
  auto opened = OpenEnvelope("key", bytes);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->revision, 0x0102030405060708u);
  EXPECT_EQ(opened->value, "value");
}

TEST(EnvelopeTest, IsNotOpenedWhenAnythingOfItIsWrong) {
  const std::string whole = Envelop("key", 7, "value");
  EXPECT_TRUE(OpenEnvelope("key", whole).ok());
  EXPECT_FALSE(OpenEnvelope("kez", whole).ok());
  EXPECT_FALSE(OpenEnvelope("key", Envelop("key", 0, "value")).ok());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(OpenEnvelope("key", whole.substr(0, size)).ok()) << size;
    std::string flipped = whole;
    flipped[size] = static_cast<char>(flipped[size] ^ 0x20);
    EXPECT_EQ(OpenEnvelope("key", flipped).status().code(), absl::StatusCode::kDataLoss) << size;
  }
}

}  // namespace
}  // namespace keelson::provisioner
