#include "csi/mount_options.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

namespace keelson::csi {
namespace {

absl::StatusOr<MountOptions> Parse(std::initializer_list<const char*> flags) {
  google::protobuf::RepeatedPtrField<std::string> field;
  for (const char* flag : flags) *field.Add() = flag;
  return ParseMountFlags(field);
}

TEST(MountOptionsTest, SortsOptionsByWhoUnderstandsThem) {
  const auto options = Parse({"noatime,nosuid", "ro", "discard", "data=ordered"});
  ASSERT_TRUE(options.ok());
  EXPECT_TRUE(options->read_only);
  EXPECT_EQ(options->attributes, std::uint64_t{MOUNT_ATTR_NOATIME | MOUNT_ATTR_NOSUID});
  const std::vector<std::pair<std::string, std::string>> expected = {{"discard", ""},
                                                                     {"data", "ordered"}};
  EXPECT_EQ(options->file_system, expected);
}

TEST(MountOptionsTest, TheLastOfOppositesWins) {
  EXPECT_FALSE(Parse({"ro", "rw"})->read_only);
  EXPECT_EQ(Parse({"noatime", "relatime"})->attributes, 0u);
  EXPECT_EQ(Parse({"nosuid,suid"})->attributes, 0u);
}

TEST(MountOptionsTest, CommasInQuotesBelongToTheValue) {
  const auto options = Parse({"context=\"system_u:object_r:container_file_t:s0:c1,c2\""});
  ASSERT_TRUE(options.ok());
  ASSERT_EQ(options->file_system.size(), 1u);
  EXPECT_EQ(options->file_system[0].second, "system_u:object_r:container_file_t:s0:c1,c2");
}

TEST(MountOptionsTest, DropsWhatOnlyTheMountProgramUnderstands) {
  const auto options = Parse({"defaults", "_netdev", "nofail", "x-systemd.automount", ""});
  ASSERT_TRUE(options.ok());
  EXPECT_TRUE(options->file_system.empty());
}

TEST(MountOptionsTest, RefusesWhatWouldMakeItAnotherMountAndNeverRepeatsAValue) {
  for (const char* bad : {"bind", "remount", "shared", "loop", "journal_path=/dev/sda",
                          "logdev=/dev/sda", "source=/dev/sda", "noatime,rbind"}) {
    const auto options = Parse({bad});
    EXPECT_TRUE(absl::IsInvalidArgument(options.status())) << bad;
    EXPECT_EQ(options.status().message().find("/dev/sda"), absl::string_view::npos);
  }
}

TEST(MountOptionsTest, ReadsTheAttributesOfTheKernelsTable) {
  EXPECT_EQ(AttributesOf("rw,relatime"), 0u);
  EXPECT_EQ(AttributesOf("ro,nosuid,noexec,noatime"),
            std::uint64_t{MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME});
  EXPECT_EQ(AttributesOf("rw"), std::uint64_t{MOUNT_ATTR_STRICTATIME});
}

}  // namespace
}  // namespace keelson::csi
