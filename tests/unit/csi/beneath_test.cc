#include "csi/beneath.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace keelson::csi {
namespace {

namespace fs = std::filesystem;

class BeneathTest : public ::testing::Test {
 protected:
  BeneathTest() {
    char pattern[] = "/tmp/keelson-beneath-XXXXXX";
    base_ = fs::canonical(mkdtemp(pattern));
    root_ = base_ / "root";
    fs::create_directories(root_ / "a/b");
    fs::create_directories(base_ / "outside/b");
    std::ofstream(base_ / "outside/b/secret") << "x";
  }
  ~BeneathTest() override { fs::remove_all(base_); }

  static std::string NameOf(const Fd& fd) {
    return fs::read_symlink(absl::StrCat("/proc/self/fd/", fd.get())).string();
  }

  fs::path base_;
  fs::path root_;
};

TEST_F(BeneathTest, OpensWhatIsBelowItsRoot) {
  const auto beneath = Beneath::Open(root_);
  ASSERT_TRUE(beneath.ok());
  const auto fd = beneath->OpenPath(root_ / "a/b", O_DIRECTORY);
  ASSERT_TRUE(fd.ok()) << fd.status();
  EXPECT_EQ(NameOf(*fd), (root_ / "a/b").string());
  EXPECT_TRUE(absl::IsNotFound(beneath->OpenPath(root_ / "a/none", 0).status()));
  EXPECT_TRUE(absl::IsNotFound(beneath->OpenPath(root_ / "none/none", 0).status()));
}

TEST_F(BeneathTest, PathsOutsideOfTheRootAreRefusedByTheirText) {
  const auto beneath = Beneath::Open(root_);
  for (const std::string& path :
       {std::string("/"), std::string("some/path"), root_.string(), root_.string() + "/",
        root_.string() + "/a/../../outside", root_.string() + "/./a", root_.string() + "/a//b",
        root_.string() + "-other/a", (base_ / "outside/b").string(),
        root_.string() + "/a\nevent=forged", root_.string() + "/" + std::string(5000, 'a')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(beneath->OpenPath(path, 0).status())) << path;
  }
}

TEST_F(BeneathTest, NoSymbolicLinkIsFollowed) {
  const auto beneath = Beneath::Open(root_);
  fs::create_directory_symlink(base_ / "outside", root_ / "link");
  fs::create_directory_symlink("a", root_ / "inner");
  for (const char* path : {"link/b", "inner/b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(beneath->OpenPath(root_ / path, 0).status())) << path;
    EXPECT_FALSE(beneath->OpenParent(root_ / path / "x").ok()) << path;
  }
  EXPECT_FALSE(beneath->OpenPath(root_ / "link", O_DIRECTORY).ok());
}

TEST_F(BeneathTest, TheRootItselfMayBeReachedByALink) {
  fs::create_directory_symlink(root_, base_ / "alias");
  const auto beneath = Beneath::Open(base_ / "alias");
  ASSERT_TRUE(beneath.ok());
  EXPECT_EQ(beneath->real_root(), root_.string());
  EXPECT_TRUE(beneath->OpenPath(base_ / "alias/a/b", O_DIRECTORY).ok());
}

// Somebody exchanges a directory on the way for a link to elsewhere, all the time.
TEST_F(BeneathTest, AnExchangedDirectoryNeverLeadsOutside) {
  fs::create_directory_symlink(base_ / "outside", root_ / "trap");
  const auto beneath = Beneath::Open(root_);
  std::atomic<bool> stop{false};
  std::thread racer([&] {
    while (!stop) {
      renameat2(AT_FDCWD, (root_ / "a").c_str(), AT_FDCWD, (root_ / "trap").c_str(),
                RENAME_EXCHANGE);
    }
  });
  int opened = 0;
  int refused = 0;
  int outside = 0;
  for (int i = 0; i < 200'000 && (i < 20'000 || opened < 1000 || refused < 1000); ++i) {
    const auto place = beneath->OpenParent(root_ / "a/b");
    if (place.ok() && !absl::StartsWith(NameOf(place->parent), root_.string())) ++outside;
    const auto fd = beneath->OpenPath(root_ / "a/b", O_DIRECTORY);
    if (fd.ok() && !absl::StartsWith(NameOf(*fd), root_.string())) ++outside;
    ++(fd.ok() ? opened : refused);
  }
  stop = true;
  racer.join();
  EXPECT_EQ(outside, 0);
  EXPECT_GT(opened, 0);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace keelson::csi
