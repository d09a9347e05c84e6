#include "provisioner/placement/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace keelson::provisioner::placement {
namespace {

using control::v1::Settings;
using ::testing::AllOf;
using ::testing::HasSubstr;

using Pairs = std::vector<std::pair<std::string, std::string>>;

Parameters Map(const Pairs& pairs) { return Parameters(pairs.begin(), pairs.end()); }

Settings Parsed(const Pairs& parameters, const Pairs& mutable_parameters = {}) {
  const auto settings = ParseSettings(Map(parameters), Map(mutable_parameters));
  EXPECT_TRUE(settings.ok()) << settings.status();
  return settings.value_or(Settings());
}

std::string Refusal(const Pairs& parameters, const Pairs& mutable_parameters = {}) {
  const absl::Status status = ParseSettings(Map(parameters), Map(mutable_parameters)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(SettingsTest, HaveDefaults) {
  const Settings settings = Parsed({});
  EXPECT_EQ(settings.replicas(), 3u);
  EXPECT_EQ(settings.min_in_sync(), 2u);
  EXPECT_EQ(settings.data_locality(), "disabled");
  EXPECT_FALSE(settings.zone_spread());
  EXPECT_EQ(settings.frontend(), "auto");
  EXPECT_EQ(settings.iops(), 0u);
  EXPECT_EQ(settings.bandwidth_bytes_per_second(), 0u);
}

TEST(SettingsTest, TakeEveryParameter) {
  const Settings settings = Parsed({{"replicas", "5"},
                                    {"minInSync", "3"},
                                    {"dataLocality", "bestEffort"},
                                    {"zoneSpread", "true"},
                                    {"frontend", "nbd"},
                                    {"encrypted", "false"},
                                    {"thin", "true"},
                                    {"iops", "5000"},
                                    {"bandwidth", "100Mi"},
                                    {"csi.storage.k8s.io/fstype", "xfs"},
                                    {"storage.kubernetes.io/csiProvisionerIdentity", "1-2-x"}});
  EXPECT_EQ(settings.replicas(), 5u);
  EXPECT_EQ(settings.min_in_sync(), 3u);
  EXPECT_EQ(settings.data_locality(), "bestEffort");
  EXPECT_TRUE(settings.zone_spread());
  EXPECT_EQ(settings.frontend(), "nbd");
  EXPECT_EQ(settings.iops(), 5000u);
  EXPECT_EQ(settings.bandwidth_bytes_per_second(), 100u << 20);
}

TEST(SettingsTest, TheDefaultOfMinInSyncFollowsTheReplicas) {
  EXPECT_EQ(Parsed({{"replicas", "1"}}).min_in_sync(), 1u);
  EXPECT_EQ(Parsed({{"replicas", "2"}}).min_in_sync(), 1u);
  EXPECT_EQ(Parsed({{"replicas", "4"}}).min_in_sync(), 2u);
}

TEST(SettingsTest, MutableParametersWin) {
  const Settings settings =
      Parsed({{"replicas", "3"}, {"iops", "100"}}, {{"replicas", "1"}, {"bandwidth", "2M"}});
  EXPECT_EQ(settings.replicas(), 1u);
  EXPECT_EQ(settings.min_in_sync(), 1u);
  EXPECT_EQ(settings.iops(), 100u);
  EXPECT_EQ(settings.bandwidth_bytes_per_second(), 2'000'000u);
}

TEST(SettingsTest, ReadQuantitiesAsKubernetesDoes) {
  const auto bandwidth = [](const std::string& text) {
    return Parsed({{"bandwidth", text}}).bandwidth_bytes_per_second();
  };
  EXPECT_EQ(bandwidth("0"), 0u);
  EXPECT_EQ(bandwidth("4096"), 4096u);
  EXPECT_EQ(bandwidth("3Ki"), 3072u);
  EXPECT_EQ(bandwidth("3k"), 3000u);
  EXPECT_EQ(bandwidth("1Gi"), 1u << 30);
  EXPECT_EQ(bandwidth("1G"), 1'000'000'000u);
  EXPECT_EQ(bandwidth("1Ti"), std::uint64_t{1} << 40);
  EXPECT_EQ(bandwidth("8388607Ti"), std::uint64_t{8388607} << 40);
  for (const std::string text : {"", "Mi", "-1", "+1", " 1", "1 Mi", "1.5Mi", "1mi", "1Pi", "0x10",
                                 "8388608Ti", "99999999999999999999"}) {
    EXPECT_THAT(Refusal({{"bandwidth", text}}),
                AllOf(HasSubstr("parameter 'bandwidth' is '" + text + "'"), HasSubstr("100Mi")));
  }
}

TEST(SettingsTest, NameTheParameterTheValueAndWhatIsAllowed) {
  EXPECT_EQ(Refusal({{"replicas", "6"}}), "parameter 'replicas' is '6'; allowed is 1 to 5");
  EXPECT_EQ(Refusal({{"replicas", "0"}}), "parameter 'replicas' is '0'; allowed is 1 to 5");
  EXPECT_EQ(Refusal({{"replicas", "two\n"}}),
            "parameter 'replicas' is 'two\\n'; allowed is 1 to 5");
  EXPECT_THAT(Refusal({{"minInSync", "0"}}), HasSubstr("1 to the number of replicas"));
  EXPECT_THAT(Refusal({{"dataLocality", "best-effort"}}),
              HasSubstr("'best-effort'; allowed is disabled, bestEffort or strictLocal"));
  EXPECT_THAT(Refusal({{"zoneSpread", "yes"}}), HasSubstr("true or false"));
  EXPECT_THAT(Refusal({{"frontend", "ublk"}}), HasSubstr("auto, loop or nbd"));
  EXPECT_THAT(Refusal({{"encrypted", "true"}}),
              HasSubstr("allowed is false: there is no encryption of volumes yet"));
  EXPECT_THAT(Refusal({{"thin", "false"}}), HasSubstr("allowed is true"));
  EXPECT_THAT(Refusal({{"iops", "1k"}}), HasSubstr("requests per second"));
  EXPECT_THAT(Refusal({{"replicas", std::string(1000, '1')}}), HasSubstr("1...'; allowed is"));
}

TEST(SettingsTest, SayWhichParameterWasProbablyMeant) {
  EXPECT_EQ(
      Refusal({{"replica", "3"}}),
      "there is no parameter 'replica' (is 'replicas' meant?); known are replicas, minInSync, "
      "dataLocality, zoneSpread, frontend, encrypted, thin, iops, bandwidth");
  EXPECT_THAT(Refusal({{"datalocality", "disabled"}}), HasSubstr("is 'dataLocality' meant?"));
  EXPECT_THAT(Refusal({{"numberOfReplicas", "3"}}), testing::Not(HasSubstr("meant")));
  EXPECT_THAT(Refusal({{std::string(100'000, 'x'), ""}}), HasSubstr("xxx...'"));
  EXPECT_THAT(Refusal({}, {{"io", "3"}}), HasSubstr("is 'iops' meant?"));
}

TEST(SettingsTest, RefuseWhatDoesNotGoTogether) {
  EXPECT_THAT(Refusal({{"dataLocality", "strictLocal"}}),
              AllOf(HasSubstr("'dataLocality' is 'strictLocal'"), HasSubstr("'replicas' is 3")));
  EXPECT_EQ(Parsed({{"dataLocality", "strictLocal"}, {"replicas", "1"}}).data_locality(),
            "strictLocal");
  EXPECT_EQ(Refusal({{"replicas", "2"}, {"minInSync", "3"}}),
            "parameter 'minInSync' is 3 and 'replicas' is 2; allowed is 1 to 2");
  EXPECT_EQ(Parsed({{"replicas", "2"}, {"minInSync", "2"}}).min_in_sync(), 2u);
}

TEST(SettingsTest, OnlySomeAreChangedLater) {
  EXPECT_THAT(Refusal({}, {{"zoneSpread", "true"}}),
              AllOf(HasSubstr("parameter 'zoneSpread' ('true') cannot be changed later"),
                    HasSubstr("replicas, minInSync, iops and bandwidth can")));
  const Settings present = Parsed({{"replicas", "3"}, {"iops", "100"}});
  const auto changed = ChangeSettings(present, Map({{"bandwidth", "1Mi"}}));
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->iops(), 100u);
  EXPECT_EQ(changed->bandwidth_bytes_per_second(), 1u << 20);
  EXPECT_EQ(changed->min_in_sync(), 2u);
  EXPECT_FALSE(ChangeSettings(present, Map({{"frontend", "nbd"}})).ok());
}

TEST(SettingsTest, MinInSyncFallsWithTheReplicasAndDoesNotRise) {
  const auto changed = [](const Settings& present, const Pairs& parameters) {
    const auto settings = ChangeSettings(present, Map(parameters));
    EXPECT_TRUE(settings.ok()) << settings.status();
    return settings.value_or(Settings());
  };
  const Settings three = Parsed({{"replicas", "3"}});
  const Settings two = changed(three, {{"replicas", "2"}});
  EXPECT_EQ(two.min_in_sync(), 1u);
  EXPECT_EQ(changed(three, {{"replicas", "1"}}).min_in_sync(), 1u);
  EXPECT_EQ(changed(two, {{"replicas", "5"}}).min_in_sync(), 2u);
  EXPECT_EQ(changed(three, {{"replicas", "2"}, {"minInSync", "2"}}).min_in_sync(), 2u);
  EXPECT_FALSE(ChangeSettings(three, Map({{"minInSync", "4"}})).ok());
  const Settings local = Parsed({{"replicas", "1"}, {"dataLocality", "strictLocal"}});
  EXPECT_FALSE(ChangeSettings(local, Map({{"replicas", "2"}})).ok());
}

}  // namespace
}  // namespace keelson::provisioner::placement
