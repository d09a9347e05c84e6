// What a second publication answers, for each pair of access modes: on one node at one path and at
// two (the specification's table for NodePublishVolume), and on one node and on two
// (ControllerPublishVolume). Over the whole driver.

#include <gtest/gtest.h>

#include <functional>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "tests/unit/conformance/call.h"
#include "tests/unit/conformance/world.h"

namespace keelson::csi {
namespace {

using grpc::StatusCode;

const std::vector<Mode::Mode> kAllModes = {
    Mode::SINGLE_NODE_WRITER,       Mode::SINGLE_NODE_READER_ONLY, Mode::MULTI_NODE_READER_ONLY,
    Mode::MULTI_NODE_SINGLE_WRITER, Mode::MULTI_NODE_MULTI_WRITER, Mode::SINGLE_NODE_SINGLE_WRITER,
    Mode::SINGLE_NODE_MULTI_WRITER};

bool IsReader(Mode::Mode mode) {
  return mode == Mode::SINGLE_NODE_READER_ONLY || mode == Mode::MULTI_NODE_READER_ONLY;
}

bool IsMultiNode(Mode::Mode mode) {
  return mode == Mode::MULTI_NODE_READER_ONLY || mode == Mode::MULTI_NODE_SINGLE_WRITER ||
         mode == Mode::MULTI_NODE_MULTI_WRITER;
}

// A file system is not shared by writers on several nodes; nothing is published so.
bool IsPossible(Mode::Mode mode, bool block) {
  return block || !IsMultiNode(mode) || IsReader(mode);
}

// --- The table of several nodes ---

// What a volume that is on one node answers on a second one: the mode of the second call decides
// whether it may write where another writes.
StatusCode OnASecondNode(Mode::Mode first, Mode::Mode second) {
  if (!IsMultiNode(first) || !IsMultiNode(second)) return StatusCode::FAILED_PRECONDITION;
  const bool one_writer =
      first == Mode::MULTI_NODE_SINGLE_WRITER || second == Mode::MULTI_NODE_SINGLE_WRITER;
  const bool second_writer = one_writer && !IsReader(first) && !IsReader(second);
  return second_writer ? StatusCode::FAILED_PRECONDITION : StatusCode::OK;
}

// --- The table of one node ---

// Whether a volume of this mode is at one path of a node only.
bool IsAlone(Mode::Mode mode) {
  return mode == Mode::SINGLE_NODE_SINGLE_WRITER || mode == Mode::SINGLE_NODE_READER_ONLY;
}

class SecondPublishTest : public ::testing::Test {
 protected:
  // A volume with a file system in it, on no node.
  void MakeVolume(bool block) {
    Call call;
    call.op = Op::kCreateVolume;
    call.name = absl::StrCat("v", ++count_);
    call.required = 1 << 30;
    call.block = block;
    const Answer made = AskDriver(world_, call);
    ASSERT_EQ(made.code, StatusCode::OK) << made.message;
    id_ = made.id;
    block_ = block;
    world_.nodes().SetContent(id_, "ext4:1073741824");
  }
  void DeleteVolume() {
    for (const std::string& node : kDriverNodes) {
      for (const char* const pod : {"x", "y"}) Answered(On(Op::kNodeUnpublish, node, pod));
      Answered(On(Op::kUnstage, node));
      Answered(On(Op::kUnpublish, node));
    }
    Answered(On(Op::kDeleteVolume, ""));
    world_.Settle(1);
    EXPECT_EQ(world_.Leftovers(), "");
  }
  void Answered(const Call& call) {
    const Answer answer = AskDriver(world_, call);
    EXPECT_EQ(answer.code, StatusCode::OK) << call.Text() << ": " << answer.message;
  }
  Call On(Op op, const std::string& node, const std::string& pod = "x",
          Mode::Mode mode = Mode::SINGLE_NODE_MULTI_WRITER) {
    Call call;
    call.op = op;
    call.volume = id_;
    call.node = node;
    call.mode = mode;
    call.block = block_;
    call.staging = "/pods/staging/mount";
    call.target = absl::StrCat("/pods/", pod, "/mount");
    call.context = context_;
    return call;
  }
  void ForEveryPair(bool block, const std::function<void(Mode::Mode, Mode::Mode)>& test) {
    for (const Mode::Mode first : kAllModes) {
      for (const Mode::Mode second : kAllModes) {
        if (!IsPossible(first, block) || !IsPossible(second, block) || HasFailure()) continue;
        SCOPED_TRACE(absl::StrCat(Mode::Mode_Name(first), " and then ", Mode::Mode_Name(second),
                                  block ? ", block" : ", mount"));
        MakeVolume(block);
        test(first, second);
        DeleteVolume();
      }
    }
  }

  World world_;
  std::string id_;
  bool block_ = false;
  int count_ = 0;
  std::map<std::string, std::string> context_;
};

TEST_F(SecondPublishTest, OnTheSameNodeOnlyTheSameIsTheSame) {
  for (const bool block : {false, true}) {
    ForEveryPair(block, [&](Mode::Mode first, Mode::Mode second) {
      Answered(On(Op::kPublish, "a", "x", first));
      const Answer again = AskDriver(world_, On(Op::kPublish, "a", "x", second));
      EXPECT_EQ(again.code, first == second ? StatusCode::OK : StatusCode::ALREADY_EXISTS);
      Call other = On(Op::kPublish, "a", "x", first);
      other.readonly = true;
      EXPECT_EQ(AskDriver(world_, other).code,
                IsReader(first) ? StatusCode::OK : StatusCode::ALREADY_EXISTS);
    });
  }
}

TEST_F(SecondPublishTest, OnAnotherNodeOnlyModesOfSeveralNodes) {
  for (const bool block : {false, true}) {
    ForEveryPair(block, [&](Mode::Mode first, Mode::Mode second) {
      Answered(On(Op::kPublish, "a", "x", first));
      const Answer answer = AskDriver(world_, On(Op::kPublish, "b", "x", second));
      EXPECT_EQ(answer.code, OnASecondNode(first, second)) << answer.message;
      const bool names_it = answer.message.find("node a") != std::string::npos;
      EXPECT_TRUE(answer.code == StatusCode::OK || names_it) << answer.message;
    });
  }
}

// The controller admits one mode for a node; the node itself goes by the mode of each call.
TEST_F(SecondPublishTest, OnOneNodeAtOnePathAndAtTwo) {
  for (const bool block : {false, true}) {
    ForEveryPair(block, [&](Mode::Mode first, Mode::Mode second) {
      // A raw device is read-only for all or for nobody.
      if (block && IsReader(first) != IsReader(second)) return;
      const Answer published = AskDriver(world_, On(Op::kPublish, "a", "x", first));
      ASSERT_EQ(published.code, StatusCode::OK) << published.message;
      context_ = published.context;
      Answered(On(Op::kStage, "a", "x", first));
      Answered(On(Op::kNodePublish, "a", "x", first));
      const bool writes_more = !block && IsReader(second) && !IsReader(first);
      EXPECT_EQ(AskDriver(world_, On(Op::kNodePublish, "a", "x", second)).code,
                writes_more ? StatusCode::ALREADY_EXISTS : StatusCode::OK);
      EXPECT_EQ(AskDriver(world_, On(Op::kNodePublish, "a", "y", second)).code,
                IsAlone(second) ? StatusCode::FAILED_PRECONDITION : StatusCode::OK);
      EXPECT_EQ(world_.machine("a").target_count(), IsAlone(second) ? 1u : 2u);
    });
  }
}

}  // namespace
}  // namespace keelson::csi
