// Data through the whole server: random requests against a model, and long pipelines.

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>

#include "tests/unit/frontend/nbd_conversation.h"

namespace keelson::frontend::testing {
namespace {

using nbd::Command;

std::uint64_t Seed() {
  const char* seed = std::getenv("KEELSON_SEED");
  return seed == nullptr ? 1 : std::strtoull(seed, nullptr, 10);
}

// Takes all chunks of one reply of a read; returns its data.
std::string TakeRead(ReplyReader* reader, std::uint32_t length) {
  std::string data;
  while (data.size() < length) {
    const ReplyMessage reply = reader->Reply(length);
    EXPECT_EQ(reply.error, 0u);
    if (reply.error != 0 || reply.data.empty()) break;
    data += reply.data;
  }
  return data;
}

class NbdDataTest : public ::testing::TestWithParam<bool> {};

TEST_P(NbdDataTest, RandomRequestsAgreeWithAModel) {
  constexpr std::uint64_t kDeviceBytes = 16 << 20;
  const std::uint64_t seed = Seed();
  SCOPED_TRACE("KEELSON_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  NbdConversation talk({}, kDeviceBytes);
  talk.Open(GetParam());
  std::string model(kDeviceBytes, '\0');
  for (int round = 0; round < 600; ++round) {
    const bool large = random() % 16 == 0;
    const std::uint64_t blocks_max = large ? 768 : 24;
    const std::uint64_t offset = random() % (kDeviceBytes / 4096 - blocks_max) * 4096;
    const auto length = static_cast<std::uint32_t>((1 + random() % blocks_max) * 4096);
    const std::size_t splits[] = {11, 4096, 100'000, std::size_t{1} << 30};
    talk.client().set_read_bytes_max(large ? 100'000 : splits[random() % 4]);
    switch (random() % 4) {
      case 0: {
        std::string data(length, '\0');
        for (char& byte : data) byte = static_cast<char>(random());
        ASSERT_EQ(talk.ErrorOf(Command::kWrite, offset, length, 0, data), 0u);
        model.replace(offset, length, data);
        break;
      }
      case 1:
        ASSERT_EQ(talk.ErrorOf(Command::kTrim, offset, length), 0u);
        model.replace(offset, length, length, '\0');
        break;
      case 2: {
        const std::uint16_t flags = random() % 2 == 0 ? nbd::kCommandNoHole : 0;
        ASSERT_EQ(talk.ErrorOf(Command::kWriteZeroes, offset, length, flags), 0u);
        model.replace(offset, length, length, '\0');
        break;
      }
      default: {
        ReplyReader reader(talk.Request(Command::kRead, offset, length));
        ASSERT_TRUE(TakeRead(&reader, length) == model.substr(offset, length)) << round;
        ASSERT_TRUE(reader.Done());
      }
    }
  }
}

TEST_P(NbdDataTest, AThousandPipelinedRequestsAreAllAnsweredInFewWrites) {
  NbdConversation talk;
  talk.Open(GetParam());
  const std::size_t writes_before = talk.client().write_calls();
  std::string stream;
  for (std::uint64_t cookie = 0; cookie < 1000; ++cookie) {
    const std::uint64_t offset = cookie / 2 * 4096;
    if (cookie % 2 == 0) {
      stream += RequestBytes(Command::kWrite, cookie, offset, 4096);
      stream.append(4096, static_cast<char>(cookie % 128));
    } else {
      stream += RequestBytes(Command::kRead, cookie, offset, 4096);
    }
  }
  talk.Say(stream);
  ReplyReader reader(talk.Hear());
  std::map<std::uint64_t, ReplyMessage> replies;
  while (!reader.Done() && !HasFailure()) {
    ReplyReader ahead = reader;
    const std::uint64_t cookie = ahead.Reply().cookie;
    replies[cookie] = reader.Reply(cookie % 2 == 1 ? 4096 : 0);
  }
  ASSERT_EQ(replies.size(), 1000u);
  for (const auto& [cookie, reply] : replies) {
    ASSERT_EQ(reply.error, 0u);
    // The device orders overlapping calls; a write was started before the read behind it.
    if (cookie % 2 == 1) {
      ASSERT_EQ(reply.data, std::string(4096, static_cast<char>((cookie - 1) % 128)));
    }
  }
  EXPECT_LE(talk.client().write_calls() - writes_before, 100u);
}

INSTANTIATE_TEST_SUITE_P(Replies, NbdDataTest, ::testing::Bool(), [](const auto& param_info) {
  return std::string(param_info.param ? "structured" : "simple");
});

}  // namespace
}  // namespace keelson::frontend::testing
