// rpc::UnixPathOf: addresses of programs.

#include "proto/rpc/channel.h"

#include <gtest/gtest.h>

namespace keelson {
namespace {

TEST(ChannelTest, TakesThePathOfAUnixAddressInBothForms) {
  EXPECT_EQ(*rpc::UnixPathOf("unix:/run/a.sock"), "/run/a.sock");
  EXPECT_EQ(*rpc::UnixPathOf("unix:///run/a.sock"), "/run/a.sock");
}

TEST(ChannelTest, RefusesWhatIsNoAbsolutePath) {
  for (const char* const address : {"", "/run/a.sock", "unix:", "unix:/", "unix:run/a.sock",
                                    "unix://run/a.sock", "tcp:127.0.0.1:80", "127.0.0.1:80"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(rpc::UnixPathOf(address).status())) << address;
  }
}

}  // namespace
}  // namespace keelson
