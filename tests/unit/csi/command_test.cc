#include "csi/command.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "csi/fd.h"

namespace keelson::csi {
namespace {

constexpr std::chrono::seconds kLong(60);

TEST(CommandTest, GivesStatusAndOutputOfTheTool) {
  const auto result = RunCommand({"ls", "/nowhere-at-all"}, -1, kLong);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->exit_code, 2);
  EXPECT_NE(result->output.find("/nowhere-at-all"), std::string::npos);
}

TEST(CommandTest, NoShellLooksAtArguments) {
  const auto result = RunCommand({"echo", "$(id); `id` > /x"}, -1, kLong);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->output, "$(id); `id` > /x\n");
}

TEST(CommandTest, TheEnvironmentIsFixed) {
  setenv("KEELSON_CANARY", "leaked", 1);
  const auto result = RunCommand({"env"}, -1, kLong);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->output, "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C\n");
}

TEST(CommandTest, StartsInTheGivenDirectory) {
  const Fd directory(open("/usr", O_PATH | O_DIRECTORY));
  EXPECT_EQ(RunCommand({"pwd"}, directory.get(), kLong)->output, "/usr\n");
  EXPECT_EQ(RunCommand({"pwd"}, -1, kLong)->output, "/\n");
}

TEST(CommandTest, AToolThatDoesNotEndIsStopped) {
  const auto result = RunCommand({"sleep", "1000"}, -1, std::chrono::milliseconds(50));
  EXPECT_TRUE(absl::IsDeadlineExceeded(result.status())) << result.status();
}

TEST(CommandTest, AToolThatIsNotInstalledIsNamed) {
  const auto result = RunCommand({"mkfs.nothing"}, -1, kLong);
  EXPECT_TRUE(absl::IsFailedPrecondition(result.status()));
  EXPECT_NE(result.status().message().find("mkfs.nothing"), absl::string_view::npos);
}

TEST(CommandTest, MuchOutputIsReadAndItsEndKept) {
  const auto result = RunCommand({"seq", "1", "200000"}, -1, kLong);
  ASSERT_TRUE(result.ok());
  EXPECT_LE(result->output.size(), 4096u);
  EXPECT_NE(result->output.find("\n200000\n"), std::string::npos);
}

TEST(CommandTest, OutputBecomesOnePrintableLine) {
  EXPECT_EQ(OneLine("a\n\n b\x1b[0m\t"), "a b [0m");
  EXPECT_LE(OneLine(std::string(5000, 'x')).size(), 603u);
}

}  // namespace
}  // namespace keelson::csi
