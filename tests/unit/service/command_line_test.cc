#include "blockstore/service/command_line.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/unit/service/temporary_directory.h"

namespace keelson::service {
namespace {

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

Outcome Blockstore(std::vector<std::string> words) {
  words.insert(words.begin(), "keelson-blockstore");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Outcome outcome;
  outcome.code = RunCommandLine(static_cast<int>(argv.size()), argv.data());
  std::fflush(stdout);
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}

TEST(CommandLineTest, AnswersWrongUsageWithTwo) {
  EXPECT_EQ(Blockstore({"--no-such-option"}).code, 2);
  EXPECT_EQ(Blockstore({"--io", "floppy"}).code, 2);
  EXPECT_EQ(Blockstore({"--reactors", "0"}).code, 2);
  EXPECT_EQ(Blockstore({"tool"}).code, 2);
  EXPECT_EQ(Blockstore({"tool", "check"}).code, 2);
  EXPECT_EQ(Blockstore({"tool", "bench", "dir", "--bs", "4095"}).code, 2);
  EXPECT_EQ(Blockstore({"tool", "bench", "dir", "--volume-size", "1000k"}).code, 2);
  const Outcome public_nbd = Blockstore({"--nbd-tcp", "0.0.0.0:10809"});
  EXPECT_EQ(public_nbd.code, 2);
  EXPECT_NE(public_nbd.err.find("loopback"), std::string::npos) << public_nbd.err;
  EXPECT_EQ(Blockstore({"--data-listen", "localhost:1"}).code, 2);
  EXPECT_EQ(Blockstore({"--data-address", "10.0.0.1:1"}).code, 2) << "without --data-listen";
  EXPECT_EQ(Blockstore({"--data-listen", "10.0.0.1:1", "--data-address", "0.0.0.0:1"}).code, 2);
  EXPECT_EQ(Blockstore({"--client-listen", "localhost:1"}).code, 2);
  EXPECT_EQ(Blockstore({"--client-address", "10.0.0.1:1"}).code, 2) << "without --client-listen";
  EXPECT_EQ(Blockstore({"--client-listen", "0.0.0.0:9761"}).code, 2);
  EXPECT_EQ(Blockstore({"--backlog-limit", "-1"}).code, 2);
  EXPECT_EQ(Blockstore({"--resync-rate", "fast"}).code, 2);
  const Outcome everywhere = Blockstore({"--data-listen", "0.0.0.0:9760"});
  EXPECT_EQ(everywhere.code, 2);
  EXPECT_NE(everywhere.err.find("--data-address"), std::string::npos) << everywhere.err;
  EXPECT_EQ(Blockstore({"--help"}).code, 0);
  EXPECT_EQ(Blockstore({"--version"}).code, 0);
}

TEST(CommandLineTest, MakesChecksDumpsAndMeasuresAPoolOffline) {
  const TemporaryDirectory directory;
  const std::string pool = directory.Child("pool");
  const Outcome made = Blockstore({"tool", "create", pool, "--size", "32m"});
  ASSERT_EQ(made.code, 0) << made.err;
  const std::string id = made.out.substr(0, made.out.find('\n'));
  EXPECT_EQ(id.size(), 32u);
  EXPECT_EQ(Blockstore({"tool", "create", pool, "--size", "32m"}).code, 1);

  const Outcome checked = Blockstore({"tool", "check", pool, "--verify-data", "--json"});
  EXPECT_EQ(checked.code, 0) << checked.err;
  EXPECT_TRUE(nlohmann::json::parse(checked.out)["problems"].empty());
  EXPECT_NE(Blockstore({"tool", "dump", pool}).out.find(id), std::string::npos);

  const Outcome bench = Blockstore({"tool", "bench", pool, "--volume-size", "4m", "--rw", "randrw",
                                    "--size", "1m", "--iodepth", "4", "--json"});
  ASSERT_EQ(bench.code, 0) << bench.err;
  const nlohmann::json result = nlohmann::json::parse(bench.out);
  EXPECT_EQ(result["operations"], 256);
  EXPECT_EQ(result["rw"], "randrw");
  EXPECT_GT(result["iops"], 0);
}

TEST(CommandLineTest, SaysInOneLineWhyAToolFailed) {
  const TemporaryDirectory directory;
  for (const char* tool : {"check", "dump", "bench"}) {
    const Outcome outcome = Blockstore({"tool", tool, directory.Child("nothing")});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find("keelson-blockstore: "), std::string::npos);
    EXPECT_NE(outcome.err.find("nothing"), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace keelson::service
