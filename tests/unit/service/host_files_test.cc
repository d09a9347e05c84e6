#include "blockstore/service/host_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "blockstore/service/change_lock.h"
#include "blockstore/service/node_state.h"
#include "tests/unit/service/temporary_directory.h"

namespace keelson::service {
namespace {

TEST(HostFilesTest, ReplacesAFileAsAWhole) {
  const TemporaryDirectory directory;
  const std::string path = directory.Child("file");
  EXPECT_TRUE(absl::IsNotFound(ReadFile(path).status()));
  ASSERT_TRUE(ReplaceFile(path, "a long first content").ok());
  ASSERT_TRUE(ReplaceFile(path, "short").ok());
  EXPECT_EQ(*ReadFile(path), "short");
  EXPECT_FALSE(std::filesystem::exists(path + ".new"));
}

TEST(HostFilesTest, MakesDirectoriesForThisUserOnly) {
  const TemporaryDirectory directory;
  const std::string path = directory.Child("a/b");
  ASSERT_TRUE(MakeDirectory(path).ok());
  ASSERT_TRUE(MakeDirectory(path).ok());  // again: it is there
  struct stat info = {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST(HostFilesTest, GivesALockToOneHolderAtATime) {
  const TemporaryDirectory directory;
  {
    const absl::StatusOr<FileLock> first = FileLock::Take(directory.Child("lock"));
    ASSERT_TRUE(first.ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(FileLock::Take(directory.Child("lock")).status()));
  }
  EXPECT_TRUE(FileLock::Take(directory.Child("lock")).ok());
}

TEST(NodeStateTest, RemembersPoolsAndReadOnlyVolumes) {
  const TemporaryDirectory directory;
  {
    NodeState state(directory.path());
    ASSERT_TRUE(state.Load().ok());
    EXPECT_TRUE(state.pools().empty());
    ASSERT_TRUE(state.AddPool("/pools/b").ok());
    ASSERT_TRUE(state.AddPool("/pools/a").ok());
    ASSERT_TRUE(state.SetReadOnly("x", true).ok());
    ASSERT_TRUE(state.SetReadOnly("y", true).ok());
    ASSERT_TRUE(state.SetReadOnly("y", false).ok());
  }
  NodeState again(directory.path());
  ASSERT_TRUE(again.Load().ok());
  EXPECT_EQ(again.pools(), (std::vector<std::string>{"/pools/a", "/pools/b"}));
  EXPECT_TRUE(again.IsReadOnly("x"));
  EXPECT_FALSE(again.IsReadOnly("y"));
}

TEST(NodeStateTest, RefusesAFileThatIsNotItsOwn) {
  const TemporaryDirectory directory;
  for (const char* content : {"", "[]", "{", R"({"pools": []})", R"({"version": 1, "pools": 3})",
                              R"({"version": 1, "pools": [3]})"}) {
    std::ofstream(directory.Child("pools.json")) << content;
    NodeState state(directory.path());
    EXPECT_TRUE(absl::IsDataLoss(state.Load())) << content;
  }
  std::ofstream(directory.Child("pools.json")) << R"({"version": 1000, "pools": []})";
  NodeState state(directory.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(state.Load()));
}

TEST(ChangeLockTest, NamesWhatItWaitsForWhenPatienceEnds) {
  ChangeLock lock;
  absl::StatusOr<ChangeLock::Guard> first = lock.Take("check pool", std::chrono::milliseconds(0));
  ASSERT_TRUE(first.ok());
  const absl::Status second = lock.Take("create volume", std::chrono::milliseconds(0)).status();
  EXPECT_TRUE(absl::IsUnavailable(second));
  EXPECT_NE(second.message().find("check pool"), absl::string_view::npos);
  first->reset();
  EXPECT_TRUE(lock.Take("create volume", std::chrono::milliseconds(0)).ok());
}

}  // namespace
}  // namespace keelson::service
