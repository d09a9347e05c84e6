#include "blockstore/wire/hello.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <string>

#include "blockstore/pool/superblock.h"
#include "tests/unit/wire/wire_samples.h"

namespace keelson::wire {
namespace {

using testing::Bytes;

Hello SomeHello() {
  Hello hello;
  hello.role = Role::kReplica;
  hello.version_min = 2;
  hello.version_max = 6;
  hello.version_chosen = 4;
  hello.features_offered = 0x11;
  hello.features_required = 0x10;
  hello.text = "a reason";
  return hello;
}

// What a decoder makes of `bytes` in pieces of `step`; `left` is what it did not consume.
absl::StatusOr<std::optional<Hello>> Decode(std::string_view bytes, std::size_t step,
                                            std::size_t* left = nullptr) {
  HelloDecoder decoder;
  absl::StatusOr<std::optional<Hello>> result = std::optional<Hello>();
  while (!bytes.empty()) {
    std::span<const std::byte> input = Bytes(bytes.substr(0, step));
    bytes.remove_prefix(input.size());
    result = decoder.Next(&input);
    if (left != nullptr) *left = input.size() + bytes.size();
    if (!result.ok() || result->has_value()) return result;
    EXPECT_TRUE(input.empty());
  }
  return result;
}

std::string Problem(std::string_view bytes) {
  const auto decoded = Decode(bytes, bytes.size());
  return decoded.ok() ? "none" : std::string(decoded.status().message());
}

TEST(HelloTest, SurvivesTheWireInAnySplit) {
  for (Hello hello : {SomeHello(), Hello{}}) {
    const std::string bytes = EncodeHello(hello) + "what follows";
    for (const std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{64}, bytes.size()}) {
      std::size_t left = 0;
      const auto decoded = Decode(bytes, step, &left);
      ASSERT_TRUE(decoded.ok()) << decoded.status();
      ASSERT_TRUE(decoded->has_value());
      EXPECT_EQ(**decoded, hello);
      EXPECT_EQ(left, std::string_view("what follows").size());
    }
  }
}

TEST(HelloTest, WaitsForTheWholeOfIt) {
  const std::string bytes = EncodeHello(SomeHello());
  for (std::size_t size = 1; size < bytes.size(); ++size) {
    const auto decoded = Decode(bytes.substr(0, size), size);
    ASSERT_TRUE(decoded.ok());
    EXPECT_FALSE(decoded->has_value()) << size;
  }
}

TEST(HelloTest, RefusesAStrangerAtItsFirstEightBytes) {
  EXPECT_NE(Problem("GET / HT").find("not a hello of the data protocol"), std::string::npos);
}

TEST(HelloTest, RefusesADamagedOne) {
  const std::string good = EncodeHello(SomeHello());
  for (std::size_t at = 8; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x20);
    EXPECT_NE(Problem(bad).find("checksum"), std::string::npos) << at;
  }
}

TEST(HelloTest, RefusesATextBeyondTheBound) {
  std::string bytes = EncodeHello(Hello{});
  RawHello raw;
  std::memcpy(&raw, bytes.data(), sizeof(raw));
  raw.text_bytes = kHelloTextBytesMax + 1;
  raw.crc32c = pool::Crc32c(std::as_bytes(std::span(&raw, 1)).first(offsetof(RawHello, crc32c)));
  std::memcpy(bytes.data(), &raw, sizeof(raw));
  EXPECT_NE(Problem(bytes).find("text of 1025 bytes"), std::string::npos);
}

TEST(HelloTest, RefusesARangeOfVersionsThatIsNone) {
  Hello hello = SomeHello();
  hello.version_min = 7;
  EXPECT_NE(Problem(EncodeHello(hello)).find("names the versions 7 to 6"), std::string::npos);
  hello.version_min = 0;
  EXPECT_NE(Problem(EncodeHello(hello)).find("names the versions 0 to 6"), std::string::npos);
}

TEST(HelloTest, ChoosesTheHighestVersionOfBoth) {
  Hello engine;
  engine.version_min = 1;
  engine.version_max = 5;
  Hello ours;
  ours.version_min = 3;
  ours.version_max = 9;
  const Hello answer = AnswerHello(engine, ours);
  EXPECT_EQ(answer.version_chosen, 5);
  EXPECT_EQ(answer.role, Role::kReplica);
  EXPECT_TRUE(CheckHelloAnswer(answer, engine).ok());
}

TEST(HelloTest, RefusesVersionsThatDoNotMeetWithAReasonTheEngineReads) {
  Hello engine;
  engine.version_min = 3;
  engine.version_max = 4;
  const Hello answer = AnswerHello(engine, Hello{});
  EXPECT_EQ(answer.version_chosen, 0);
  const absl::Status status = CheckHelloAnswer(answer, engine);
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_NE(std::string(status.message()).find("versions 3 to 4 and this member 1 to 1; upgrade"),
            std::string::npos)
      << status;
}

TEST(HelloTest, RefusesARequiredFeatureThatTheOtherSideLacks) {
  Hello demanding;
  demanding.features_offered = kFeatureTls;
  demanding.features_required = kFeatureTls;
  EXPECT_NE(AnswerHello(demanding, Hello{}).text.find("requires protocol features 0x1"),
            std::string::npos);
  EXPECT_NE(AnswerHello(Hello{}, demanding).text.find("this member requires"), std::string::npos);
  EXPECT_EQ(AnswerHello(demanding, demanding).version_chosen, 1);
}

TEST(HelloTest, RefusesAnAnswerThatChoseWhatWasNotOffered) {
  Hello answer = AnswerHello(Hello{}, Hello{});
  answer.version_chosen = 2;
  EXPECT_TRUE(absl::IsUnavailable(CheckHelloAnswer(answer, Hello{})));
  answer = AnswerHello(Hello{}, Hello{});
  answer.role = Role::kEngine;
  EXPECT_TRUE(absl::IsUnavailable(CheckHelloAnswer(answer, Hello{})));
  Hello replica;
  replica.role = Role::kReplica;
  EXPECT_FALSE(AnswerHello(replica, Hello{}).text.empty());
}

}  // namespace
}  // namespace keelson::wire
