#include "blockstore/pool/format.h"

#include <gtest/gtest.h>

#include <random>

namespace keelson::pool {
namespace {

ExtentState SomeState(std::mt19937_64* random) {
  ExtentState state;
  if ((*random)() % 3 != 0) {
    state.pool_extent = static_cast<std::uint32_t>((*random)() % 1000);
    if ((*random)() % 3 == 0) {
      state.present = BlockBits::All();
    } else {
      for (std::uint64_t& word : state.present.words()) word = (*random)();
    }
  }
  for (std::uint64_t& word : state.zeroed.words()) word = (*random)();
  state.zeroed = state.zeroed & ~state.present;
  return state;
}

TEST(FormatTest, MapEntriesReadBack) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const ExtentState state = SomeState(&random);
    std::string value;
    AppendExtentState(state, &value);
    const auto decoded = DecodeExtentState(value);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, state);
  }
}

TEST(FormatTest, AFullBitmapIsDropped) {
  ExtentState state;
  state.pool_extent = 5;
  state.present = BlockBits::All();
  std::string value;
  AppendExtentState(state, &value);
  EXPECT_EQ(value.size(), 8U);
}

TEST(FormatTest, EveryCutOfEveryValueIsDamageAndNeverACrash) {
  std::mt19937_64 random(2);
  std::string map_value;
  AppendExtentState(SomeState(&random), &map_value);
  SumRecord sums;
  std::string sum_value;
  EncodeSumRecord(sums, &sum_value);
  for (std::size_t size = 0; size < map_value.size(); ++size) {
    EXPECT_FALSE(DecodeExtentState(std::string_view(map_value).substr(0, size)).ok()) << size;
  }
  for (std::size_t size = 0; size < sum_value.size(); ++size) {
    SumRecord out;
    EXPECT_FALSE(DecodeSumRecord(std::string_view(sum_value).substr(0, size), &out).ok()) << size;
  }
  EXPECT_FALSE(DecodeExtentState(map_value + "x").ok());
}

TEST(FormatTest, ABlockBothPresentAndZeroedIsDamage) {
  ExtentState state;
  state.pool_extent = 1;
  state.present = BlockBits::Range(0, 10);
  state.zeroed = BlockBits::Range(9, 1);
  std::string value;
  AppendExtentState(state, &value);
  EXPECT_EQ(DecodeExtentState(value).status().code(), absl::StatusCode::kDataLoss);
}

TEST(FormatTest, RandomBytesNeverCrashADecoder) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(random() % 130, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 5);
    (void)DecodeExtentState(bytes);
    (void)DecodeLogRecord(bytes);
    (void)DecodeGeneration(bytes);
    (void)DecodeMapKey(bytes);
    (void)DecodeNoteKey(bytes);
    SumRecord out;
    (void)DecodeSumRecord(bytes, &out);
  }
}

TEST(FormatTest, LogRecordsReadBackInOrder) {
  std::mt19937_64 random(4);
  Uuid incarnation;
  incarnation.bytes = {9, 9};
  std::string value;
  BeginLogRecord(incarnation, &value);
  std::vector<LogEntry> entries;
  for (std::uint32_t i = 0; i < 20; ++i) {
    LogEntry entry;
    entry.key = {{random()}, i};
    entry.gone = i % 4 == 0;
    if (!entry.gone) entry.state = SomeState(&random);
    AppendLogEntry(entry, &value);
    entries.push_back(entry);
  }
  const auto decoded = DecodeLogRecord(value);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->incarnation, incarnation);
  ASSERT_EQ(decoded->entries.size(), entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(decoded->entries[i].key, entries[i].key);
    EXPECT_EQ(decoded->entries[i].gone, entries[i].gone);
    EXPECT_EQ(decoded->entries[i].state, entries[i].state);
  }
}

TEST(FormatTest, KeysSortByNumber) {
  EXPECT_LT(EncodeMapKey({{1}, 300}), EncodeMapKey({{2}, 0}));
  EXPECT_LT(EncodeMapKey({{1}, 255}), EncodeMapKey({{1}, 256}));
  EXPECT_LT(EncodeSumKey(255), EncodeSumKey(65536));
}

TEST(GenerationTest, ComparesAttachmentThenRestartThenEngineThenCounter) {
  Generation a{{1, 0, {}}, 9};
  Generation b{{2, 0, {}}, 1};
  EXPECT_LT(a, b);
  EXPECT_LT((Generation{{2, 0, {}}, 8}), (Generation{{2, 1, {}}, 1}));
  EXPECT_LT((Generation{{2, 1, {}}, 1}), (Generation{{2, 1, {}}, 2}));
  const auto decoded = DecodeGeneration(EncodeGeneration(b));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(*decoded, b);
}

}  // namespace
}  // namespace keelson::pool
