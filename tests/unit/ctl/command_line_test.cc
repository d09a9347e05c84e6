#include "provisioner/ctl/command_line.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace keelson::ctl {
namespace {

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

Outcome Keelctl(std::vector<const char*> words) {
  words.insert(words.begin(), "keelctl");
  std::ostringstream out;
  std::ostringstream err;
  Outcome outcome;
  outcome.code = RunCommandLine(static_cast<int>(words.size()), words.data(), &out, &err);
  outcome.out = out.str();
  outcome.err = err.str();
  return outcome;
}

void ExpectOneLine(const Outcome& outcome, int code) {
  EXPECT_EQ(outcome.code, code) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err.rfind("keelctl: ", 0), 0u) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
}

TEST(CommandLineTest, AnswersWrongUsageWithOneLineAndTwo) {
  ExpectOneLine(Keelctl({}), 2);
  ExpectOneLine(Keelctl({"volume"}), 2);
  ExpectOneLine(Keelctl({"volume", "create", "a"}), 2);
  ExpectOneLine(Keelctl({"volume", "create", "a", "--size", "much"}), 2);
  ExpectOneLine(Keelctl({"volume", "list", "--output", "xml"}), 2);
  ExpectOneLine(Keelctl({"volume", "list", "--timeout", "0"}), 2);
  ExpectOneLine(Keelctl({"pool", "create", "d", "--size", "1g", "--device", "/dev/x"}), 2);
  ExpectOneLine(Keelctl({"no-such-command"}), 2);
  ExpectOneLine(Keelctl({"volume", "create", "a", "--size", "1g", "--replicas", "6"}), 2);
  ExpectOneLine(Keelctl({"volume", "attach", "a", "--force"}), 2);
  ExpectOneLine(Keelctl({"replica", "replace", "a", "--from", "b"}), 2);
  ExpectOneLine(Keelctl({"volume", "client", "add", "a"}), 2);
  ExpectOneLine(Keelctl({"volume", "client"}), 2);
}

TEST(CommandLineTest, AnswersHelpAndVersionWithZero) {
  EXPECT_EQ(Keelctl({"--help"}).code, 0);
  EXPECT_NE(Keelctl({"volume", "--help"}).out.find("snapshot-delete"), std::string::npos);
  EXPECT_EQ(Keelctl({"--version"}).code, 0);
}

TEST(CommandLineTest, SaysWhenNoDaemonAnswers) {
  const Outcome outcome =
      Keelctl({"--socket", "/nonexistent/blockstore.sock", "volume", "list", "-o", "json"});
  ExpectOneLine(outcome, 1);
  EXPECT_NE(outcome.err.find("/nonexistent/blockstore.sock"), std::string::npos);
}

TEST(CommandLineTest, AsksForTheNodesWhereItNeedsThem) {
  for (const std::vector<const char*>& words :
       std::vector<std::vector<const char*>>{{"why", "v"},
                                             {"volume", "status", "v"},
                                             {"volume", "attach", "v", "--on", "a"},
                                             {"replica", "add", "v", "--on", "a"}}) {
    const Outcome outcome = Keelctl(words);
    ExpectOneLine(outcome, 1);
    EXPECT_NE(outcome.err.find("KEELSON_NODES"), std::string::npos) << outcome.err;
  }
  ExpectOneLine(Keelctl({"--node", "a", "volume", "list"}), 1);
}

TEST(CommandLineTest, TakesASocketBeforeTheNodesOfTheEnvironment) {
  setenv("KEELSON_NODES", "a=/nonexistent/a.sock,b=/nonexistent/b.sock", 1);
  EXPECT_NE(Keelctl({"volume", "list"}).out.find("node b does not answer"), std::string::npos);
  const Outcome one = Keelctl({"--socket", "/nonexistent/c.sock", "volume", "list"});
  unsetenv("KEELSON_NODES");
  EXPECT_NE(one.err.find("c.sock"), std::string::npos) << one.err;
}

TEST(CommandLineTest, GoingOnFromOneCopyIsNotAskedForByHalf) {
  const std::vector<const char*> attach = {"volume", "attach", "v"};
  std::vector<const char*> words = attach;
  words.push_back("--yes-lose-newer-writes");
  ExpectOneLine(Keelctl(words), 2);
  words = attach;
  words.insert(words.end(), {"--force-from", "r"});
  ExpectOneLine(Keelctl(words), 2);
}

TEST(CommandLineTest, RefusesACloneSourceWithoutASnapshot) {
  const Outcome outcome = Keelctl({"volume", "clone", "source", "new"});
  ExpectOneLine(outcome, 1);
  EXPECT_NE(outcome.err.find("VOLUME@SNAPSHOT"), std::string::npos);
}

}  // namespace
}  // namespace keelson::ctl
