// Random sequences of calls against the model. Environment: KEELSON_SEEDS, how many (10,000);
// KEELSON_SEED, this one alone, whose calls are printed.

#include "tests/unit/conformance/sequence.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace keelson::csi {
namespace {

constexpr std::uint64_t kSeedsDefault = 10'000;
// Restarts wait a little for threads of gRPC.
constexpr std::uint64_t kLanes = 4;

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// Looks for the canary in every line.
class CanarySink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::atomic<std::uint64_t> lines = 0;
  std::atomic<bool> found = false;

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    ++lines;
    const std::string_view text(message.payload.data(), message.payload.size());
    if (text.find(kSecretCanary) != text.npos) found = true;
  }
  void flush_() override {}
};

class SequenceTest : public ::testing::Test {
 protected:
  SequenceTest() : sink_(std::make_shared<CanarySink>()), before_(spdlog::default_logger()) {
    auto logger = std::make_shared<spdlog::logger>("canary", sink_);
    logger->set_level(spdlog::level::debug);
    spdlog::set_default_logger(logger);
  }
  ~SequenceTest() override {
    spdlog::set_default_logger(before_);
    EXPECT_GT(sink_->lines, 0u);
    EXPECT_FALSE(sink_->found) << "a secret is in the log";
  }

  const std::shared_ptr<CanarySink> sink_;
  const std::shared_ptr<spdlog::logger> before_;
};

bool RunSeed(World* world, std::uint64_t seed, bool print) {
  Sequence sequence(world, seed);
  const std::string wrong = sequence.Run();
  if (print) std::cout << sequence.history();
  if (wrong.empty()) return true;
  ADD_FAILURE() << "repeat with KEELSON_SEED=" << seed << "\n" << sequence.history() << wrong;
  return false;
}

TEST_F(SequenceTest, RandomCallsAreAnsweredAsTheModelSaysAndNothingIsLeft) {
  if (const std::uint64_t seed = FromEnvironment("KEELSON_SEED", 0); seed != 0) {
    World world;
    RunSeed(&world, seed, /*print=*/true);
    return;
  }
  const std::uint64_t seeds = FromEnvironment("KEELSON_SEEDS", kSeedsDefault);
  std::atomic<std::uint64_t> next = 1;
  const auto lane = [&] {
    World world;
    while (!HasFailure()) {
      const std::uint64_t seed = next++;
      if (seed > seeds || !RunSeed(&world, seed, /*print=*/false)) return;
    }
  };
  std::vector<std::thread> lanes;
  for (std::uint64_t i = 0; i < kLanes; ++i) lanes.emplace_back(lane);
  for (std::thread& one : lanes) one.join();
}

}  // namespace
}  // namespace keelson::csi
