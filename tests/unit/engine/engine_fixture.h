#pragma once
// The engine of a volume of one or more segments, each with two copies in the same two pools, which
// are those of a SegmentFixture.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/engine/engine.h"
#include "tests/unit/engine/segment_fixture.h"

namespace keelson::engine {

class EngineFixture : public SegmentFixture {
 protected:
  static constexpr std::uint64_t kSegmentBytes = 8 * kMiB;

  void SetUp() override {
    first_.volume = pool::VolumeId(world_.MakeId());
    first_.volume_name = "v";
    first_.version = {{}, 1};
    first_.segment_bytes = kSegmentBytes;
    for (int i = 0; i < 2; ++i) members_.push_back(NewMember());
  }
  void TearDown() override {
    if (engine_ != nullptr) Detach();
    SegmentFixture::TearDown();
  }

  void MakeSegment(std::uint32_t number, std::uint64_t size_bytes, std::uint32_t count) {
    replica::NewMember made;
    made.volume = first_.volume;
    made.name = "v";
    made.segment = number;
    made.size_bytes = size_bytes;
    made.configuration = first_;
    made.configuration.segment = number;
    made.configuration.size_bytes = size_bytes;
    made.configuration.segment_count = count;
    for (replica::Member member : members_) {
      member.replica = pool::ReplicaId(world_.MakeId());
      member.state = replica::MemberState::kInSync;
      made.configuration.members.push_back(member);
    }
    for (std::size_t i = 0; i < members_.size(); ++i) {
      made.replica = made.configuration.members[i].replica;
      const absl::Status created = Must(pools_[i]->store->CreateMember(made));
      ASSERT_TRUE(created.ok()) << created;
    }
    hints_.push_back({first_.volume, number, made.configuration.members, {}});
  }
  absl::Status TryAttachAll(const std::vector<SegmentHint>& hints) {
    AttachTarget target;
    target.name = "v";
    target.epoch = {++attachment_, 0, pool::EngineId(world_.MakeId())};
    target.segments = hints;
    target.segment_bytes = kSegmentBytes;
    absl::AnyInvocable<pool::Uuid()> make_id = [this] { return world_.MakeId(); };
    auto engine = Must(Engine::Attach(process_, this, target, std::move(make_id), {}));
    if (engine.ok()) engine_ = *std::move(engine);
    return engine.status();
  }
  void AttachAll() {
    const absl::Status attached = TryAttachAll(hints_);
    ASSERT_TRUE(attached.ok()) << attached;
  }
  void Detach() {
    (void)Must(engine_->Detach());
    engine_.reset();
  }
  // The letters fill a block each.
  absl::Status Put(std::uint64_t offset, const std::string& letters) {
    pool::HeaderBlock data(letters.size() * kBlock);
    for (std::size_t i = 0; i < letters.size(); ++i) {
      const auto block = data.span().subspan(i * kBlock, kBlock);
      std::fill(block.begin(), block.end(), static_cast<std::byte>(letters[i]));
    }
    return Must(engine_->Write(offset, data.span(), false));
  }
  std::string Get(std::uint64_t offset, std::size_t blocks) {
    pool::HeaderBlock data(blocks * kBlock);
    const absl::Status read = Must(engine_->Read(offset, data.span()));
    EXPECT_TRUE(read.ok()) << read;
    std::string letters;
    for (std::size_t i = 0; i < blocks; ++i) {
      letters += LetterOf(data.span().subspan(i * kBlock, kBlock));
    }
    return letters;
  }

  std::vector<SegmentHint> hints_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace keelson::engine
