#include "proto/rpc/size_text.h"

#include <gtest/gtest.h>

namespace keelson::rpc {
namespace {

TEST(SizeTextTest, ParsesNumbersWithBinarySuffixes) {
  const std::pair<const char*, std::uint64_t> samples[] = {
      {"0", 0},
      {"4096", 4096},
      {"4096b", 4096},
      {"4k", 4096},
      {"4K", 4096},
      {"1m", 1 << 20},
      {"1MiB", 1 << 20},
      {"1gb", 1 << 30},
      {"1.5g", (std::uint64_t{3} << 30) / 2},
      {"0.25t", std::uint64_t{1} << 38},
      {"2T", std::uint64_t{2} << 40},
      {"1p", std::uint64_t{1} << 50},
      {"9223372036854775807", INT64_MAX},
  };
  for (const auto& [text, size_bytes] : samples) {
    const absl::StatusOr<std::uint64_t> parsed = ParseSize(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, size_bytes) << text;
  }
}

TEST(SizeTextTest, RefusesEverythingElseAndNamesIt) {
  for (const char* text : {"",
                           "k",
                           "g1",
                           "-1",
                           "+1",
                           "1q",
                           "1kk",
                           "1 k",
                           " 1",
                           "1.",
                           ".5",
                           "1.2.3",
                           "0.3",
                           "1.1k",
                           "1.0000000001g",
                           "0x10",
                           "1e3",
                           "9223372036854775808",
                           "8192p",
                           "99999999999999999999999"}) {
    const absl::StatusOr<std::uint64_t> parsed = ParseSize(text);
    ASSERT_TRUE(absl::IsInvalidArgument(parsed.status())) << text;
    EXPECT_NE(std::string(parsed.status().message()).find(std::string("'") + text + "'"),
              std::string::npos);
  }
}

TEST(SizeTextTest, ShowsSizesWithoutRoundingUp) {
  EXPECT_EQ(HumanSize(0), "0 B");
  EXPECT_EQ(HumanSize(1023), "1023 B");
  EXPECT_EQ(HumanSize(1024), "1 KiB");
  EXPECT_EQ(HumanSize(1536), "1.5 KiB");
  EXPECT_EQ(HumanSize((1 << 20) - 1), "1023.9 KiB");
  EXPECT_EQ(HumanSize(std::uint64_t{16} << 20), "16 MiB");
  EXPECT_EQ(HumanSize(std::uint64_t{1} << 50), "1 PiB");
  EXPECT_EQ(HumanSize(UINT64_MAX), "15.9 EiB");
}

}  // namespace
}  // namespace keelson::rpc
