#include "csi/options.h"

#include <gtest/gtest.h>

#include <vector>

namespace keelson::csi {
namespace {

absl::StatusOr<Options> Parse(std::vector<const char*> extra, bool with_node = true) {
  std::vector<const char*> argv = {"keelson-csi", "--provisioner", "unix:/p"};
  if (with_node) argv.insert(argv.end(), {"--node", "n1", "--blockstore", "unix:/b"});
  argv.insert(argv.end(), extra.begin(), extra.end());
  const auto options = ParseOptions(static_cast<int>(argv.size()), argv.data());
  if (!options.ok()) return options.status();
  return **options;
}

TEST(OptionsTest, AnEndpointIsASocketWhoseNameEndsInSock) {
  unsetenv("CSI_ENDPOINT");
  EXPECT_EQ(Parse({"--endpoint", "unix:///a/csi.sock"})->endpoint, "/a/csi.sock");
  EXPECT_FALSE(Parse({}).ok());
  EXPECT_FALSE(Parse({"--endpoint", "unix:///a/csi"}).ok());
  EXPECT_FALSE(Parse({"--endpoint", "tcp://1.2.3.4:5"}).ok());
  setenv("CSI_ENDPOINT", "unix:///env/csi.sock", 1);
  EXPECT_EQ(Parse({})->endpoint, "/env/csi.sock");
  EXPECT_EQ(Parse({"--endpoint", "unix:///a/csi.sock"})->endpoint, "/a/csi.sock");
  unsetenv("CSI_ENDPOINT");
}

TEST(OptionsTest, TopologyAlwaysHasTheNode) {
  const auto options = Parse({"--endpoint", "unix:/c.sock", "--topology", "zone=a", "--topology",
                              "topology.keelson.io/rack=7"});
  ASSERT_TRUE(options.ok()) << options.status();
  const std::map<std::string, std::string> expected = {{"topology.keelson.io/node", "n1"},
                                                       {"topology.keelson.io/rack", "7"},
                                                       {"topology.keelson.io/zone", "a"}};
  EXPECT_EQ(options->topology, expected);
  EXPECT_EQ(options->advertise, "unix:/b");
  for (const char* bad : {"zone", "zone=", "=a", "node=n2", "a/b=c"}) {
    EXPECT_FALSE(Parse({"--endpoint", "unix:/c.sock", "--topology", bad}).ok()) << bad;
  }
}

TEST(OptionsTest, AControllerNeedsNoNode) {
  EXPECT_TRUE(Parse({"--endpoint", "unix:/c.sock", "--mode", "controller"}, false).ok());
  EXPECT_FALSE(Parse({"--endpoint", "unix:/c.sock", "--mode", "node"}, false).ok());
  EXPECT_FALSE(Parse({"--endpoint", "unix:/c.sock", "--mode", "other"}).ok());
}

TEST(OptionsTest, BadValuesAreRefused) {
  for (const char* bad :
       {"--driver-name=-a", "--driver-name=a", "--driver-name=a_b", "--mount-root=relative",
        "--mount-root=/a/", "--volumes-max=-1", "--node=a/b", "--blockstore=/b", "--nothing"}) {
    EXPECT_FALSE(Parse({"--endpoint", "unix:/c.sock", bad}).ok()) << bad;
  }
}

}  // namespace
}  // namespace keelson::csi
