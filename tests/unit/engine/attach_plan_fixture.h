#pragma once
// One attach under epoch 2, begun at time 0, that a test steps: members A, B, C, ... answer or
// fail. Header only.

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/engine/attach_plan.h"
#include "tests/unit/engine/members.h"

namespace keelson::engine {

using replica::Configuration;
using replica::Member;
using replica::MemberState;
using replica::PrepareAnswer;
using Kind = AttachDecision::Kind;

inline constexpr std::int64_t kGrace = 100;
inline constexpr std::int64_t kMemberWait = 1000;

class AttachPlanFixture : public testing::Test {
 protected:
  // `force_from`: the replica that an operator goes on from.
  void Begin(std::vector<Member> hint, char force_from = 0) {
    SegmentHint segment = {pool::VolumeId(TestId('v', 'v')), 0, std::move(hint), {}};
    if (force_from != 0) segment.force_from = ReplicaOf(force_from);
    SegmentOptions options;
    options.grace_ns = kGrace;
    options.member_wait_ns = kMemberWait;
    plan_.emplace(segment, TestEpoch(2), 0, options);
  }

  void Answer(char name, std::optional<Configuration> configuration, std::int64_t now_ns = 0,
              char life = 1) {
    PrepareAnswer answer;
    answer.pool = pool::PoolId(TestId('p', name));
    answer.replica = ReplicaOf(name);
    answer.incarnation = TestId(life, name);
    answer.configuration = std::move(configuration);
    plan_->OnAnswer(Out(name), answer, now_ns);
  }

  void Fail(char name, const absl::Status& status = absl::UnavailableError("not reached")) {
    plan_->OnFailure(Out(name), status);
  }

  Kind KindAt(std::int64_t now_ns) const { return plan_->Decide(now_ns).kind; }

  // "A+ B- C~": InSync, Out, Syncing; empty when it is not ready.
  std::string FirstAt(std::int64_t now_ns) const {
    const AttachDecision decision = plan_->Decide(now_ns);
    if (decision.kind != Kind::kReady) return "";
    std::string text;
    for (const Member& member : decision.first->members) {
      if (!text.empty()) text += ' ';
      text += static_cast<char>(member.replica.bytes[1]);
      text += member.state == MemberState::kInSync    ? '+'
              : member.state == MemberState::kSyncing ? '~'
                                                      : '-';
    }
    return text;
  }

  std::string ToPrepare() const {
    std::string text;
    for (const Member& member : plan_->ToPrepare()) {
      text += static_cast<char>(member.replica.bytes[1]);
    }
    return text;
  }

  std::optional<AttachPlan> plan_;
};

inline std::vector<Member> Three() { return {InSync('A'), InSync('B'), InSync('C')}; }

}  // namespace keelson::engine
