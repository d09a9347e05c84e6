// The programs end at each of the things that they do for a call, one after the other, and are
// started again; the same call then goes as if nothing had happened.

#include <gtest/gtest.h>

#include <functional>

#include "absl/strings/str_cat.h"
#include "tests/unit/conformance/sequence.h"

namespace keelson::csi {
namespace {

constexpr std::int64_t kGib = std::int64_t{1} << 30;
constexpr std::uint64_t kEventsMax = 200;

class DeathTest : public ::testing::Test {
 protected:
  // A call about the volume `id_` on node a.
  Call About(Op op) {
    Call call;
    call.op = op;
    call.volume = id_;
    call.node = "a";
    call.staging = "/pods/staging/0/mount";
    call.target = "/pods/x/0/mount";
    call.block = block_;
    const Model::Volume* const volume = model_.FindVolume(id_);
    if (volume != nullptr && volume->on.count("a") != 0) call.context = volume->on.at("a").context;
    return call;
  }
  Call Creation(const std::string& name, std::int64_t bytes) {
    Call call;
    call.op = Op::kCreateVolume;
    call.name = name;
    call.required = bytes;
    call.block = block_;
    return call;
  }
  Call SnapshotCall(const std::string& name) {
    Call call = About(Op::kCreateSnapshot);
    call.name = name;
    return call;
  }
  void Must(const Call& call) {
    const std::string wrong = RunUntilDone(world_, call, &model_);
    ASSERT_EQ(wrong, "");
    world_.Settle();
    id_ = model_.volumes().empty() ? "" : model_.volumes().front().id;
  }

  // For each event of `last` the calls before it are made, the programs end at that event, and in
  // the end everything is deleted.
  void DieEverywhere(const std::vector<std::function<Call()>>& before,
                     const std::function<Call()>& last) {
    std::uint64_t event = 1;
    for (bool reached = true; reached && !HasFailure(); ++event) {
      ASSERT_LT(event, kEventsMax);
      SCOPED_TRACE(absl::StrCat("ended before event ", event));
      model_ = Model();
      id_.clear();
      for (const auto& call : before) {
        Must(call());
        if (HasFatalFailure()) return;
      }
      EXPECT_EQ(RunAndDie(world_, last(), event, &model_, &reached), "");
      EXPECT_EQ(DeleteAll(world_, &model_), "");
    }
    EXPECT_GT(event, 2u) << "nothing happened that it could have ended at";
  }

  std::function<Call()> Make() {
    return [this] { return Creation("v", kGib); };
  }
  std::function<Call()> Do(Op op) {
    return [this, op] { return About(op); };
  }

  World world_;
  Model model_;
  std::string id_;
  bool block_ = false;
};

TEST_F(DeathTest, CreateVolume) { DieEverywhere({}, Make()); }

TEST_F(DeathTest, DeleteVolume) { DieEverywhere({Make()}, Do(Op::kDeleteVolume)); }

TEST_F(DeathTest, DeleteVolumeThatHasASnapshot) {
  DieEverywhere({Make(), [&] { return SnapshotCall("s"); }}, Do(Op::kDeleteVolume));
}

TEST_F(DeathTest, CreateVolumeFromASnapshot) {
  DieEverywhere({Make(), Do(Op::kPublish), Do(Op::kStage), [&] { return SnapshotCall("s"); }}, [&] {
    Call call = Creation("restored", 2 * kGib);
    call.snapshot = model_.snapshots().front().id;
    return call;
  });
}

TEST_F(DeathTest, CreateVolumeFromAVolume) {
  for (const bool published : {false, true}) {
    std::vector<std::function<Call()>> before = {Make()};
    if (published) before.push_back(Do(Op::kPublish));
    DieEverywhere(before, [&] {
      Call call = Creation("clone", 2 * kGib);
      call.source = id_;
      return call;
    });
  }
}

TEST_F(DeathTest, CreateSnapshot) {
  DieEverywhere({Make()}, [&] { return SnapshotCall("s"); });
  DieEverywhere({Make(), Do(Op::kPublish)}, [&] { return SnapshotCall("s"); });
}

TEST_F(DeathTest, DeleteSnapshot) {
  DieEverywhere({Make(), [&] { return SnapshotCall("s"); }}, [&] {
    Call call = About(Op::kDeleteSnapshot);
    call.snapshot = model_.snapshots().front().id;
    return call;
  });
}

TEST_F(DeathTest, ControllerPublishAndUnpublish) {
  DieEverywhere({Make()}, Do(Op::kPublish));
  DieEverywhere({Make(), Do(Op::kPublish)}, Do(Op::kUnpublish));
}

TEST_F(DeathTest, ControllerExpand) {
  const auto grow = [&] {
    Call call = About(Op::kExpand);
    call.required = 3 * kGib;
    return call;
  };
  DieEverywhere({Make()}, grow);
  DieEverywhere({Make(), Do(Op::kPublish), Do(Op::kStage)}, grow);
}

TEST_F(DeathTest, ControllerModify) {
  DieEverywhere({Make(), Do(Op::kPublish)}, [&] {
    Call call = About(Op::kModify);
    call.parameters = {{"iops", "700"}};
    return call;
  });
}

TEST_F(DeathTest, NodeStageAndUnstage) {
  DieEverywhere({Make(), Do(Op::kPublish)}, Do(Op::kStage));
  DieEverywhere({Make(), Do(Op::kPublish), Do(Op::kStage)}, Do(Op::kUnstage));
}

TEST_F(DeathTest, NodeStageOfARestoredVolumeThatIsLarger) {
  DieEverywhere({Make(), Do(Op::kPublish), Do(Op::kStage), [&] { return SnapshotCall("s"); },
                 [&] {
                   Call call = Creation("restored", 2 * kGib);
                   call.snapshot = model_.snapshots().front().id;
                   return call;
                 },
                 [&] {
                   Call call = About(Op::kPublish);
                   call.volume = model_.volumes().back().id;
                   return call;
                 }},
                [&] {
                  Call call = About(Op::kStage);
                  call.volume = model_.volumes().back().id;
                  call.staging = "/pods/staging/1/mount";
                  call.context = model_.volumes().back().on.at("a").context;
                  return call;
                });
}

TEST_F(DeathTest, NodePublishAndUnpublish) {
  for (const bool block : {false, true}) {
    block_ = block;
    const std::vector<std::function<Call()>> staged = {Make(), Do(Op::kPublish), Do(Op::kStage)};
    DieEverywhere(staged, Do(Op::kNodePublish));
    std::vector<std::function<Call()>> published = staged;
    published.push_back(Do(Op::kNodePublish));
    DieEverywhere(published, Do(Op::kNodeUnpublish));
  }
}

TEST_F(DeathTest, NodeExpand) {
  DieEverywhere({Make(), Do(Op::kPublish), Do(Op::kStage), Do(Op::kNodePublish),
                 [&] {
                   Call call = About(Op::kExpand);
                   call.required = 3 * kGib;
                   return call;
                 }},
                [&] {
                  Call call = About(Op::kNodeExpand);
                  call.required = 3 * kGib;
                  return call;
                });
}

}  // namespace
}  // namespace keelson::csi
