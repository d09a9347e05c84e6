#include "csi/redact.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "csi/names.h"

namespace keelson::csi {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(RedactTest, ShowsWhatIsHarmlessAndHidesTheRest) {
  pb::NodeStageVolumeRequest request;
  request.set_volume_id("ks-1");
  request.set_staging_target_path("/a/b");
  (*request.mutable_secrets())["key-of-secret"] = "canary-1";
  (*request.mutable_publish_context())["context-key"] = "canary-2";
  auto* mount = request.mutable_volume_capability()->mutable_mount();
  mount->set_fs_type("ext4");
  mount->add_mount_flags("canary-3");
  const std::string text = RedactedText(request);
  EXPECT_THAT(text, HasSubstr("volume_id=\"ks-1\""));
  EXPECT_THAT(text, HasSubstr("fs_type=\"ext4\""));
  EXPECT_THAT(text, HasSubstr("publish_context=keys[context-key]"));
  EXPECT_THAT(text, HasSubstr("secrets=hidden"));
  EXPECT_THAT(text, HasSubstr("mount_flags=(8 bytes)"));
  EXPECT_THAT(text, Not(HasSubstr("canary")));
  EXPECT_THAT(text, Not(HasSubstr("key-of-secret")));
}

TEST(RedactTest, NothingFromARequestBreaksALine) {
  pb::DeleteVolumeRequest request;
  request.set_volume_id("a\nevent=forged \"b\"");
  EXPECT_THAT(RedactedText(request), Not(HasSubstr("\n")));
  EXPECT_THAT(RedactedText(request), HasSubstr("\\n"));
}

}  // namespace
}  // namespace keelson::csi
