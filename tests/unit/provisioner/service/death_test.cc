// The provisioner dies at any of its writes, with the write made or not, and the next one goes on:
// whoever repeats the call gets what the first one was about, and nothing is left over.

#include <functional>

#include "tests/unit/provisioner/service/provisioner_fixture.h"

namespace keelson::provisioner {
namespace {

class DeathTest : public ProvisionerFixture {
 protected:
  // Runs `call` with the death at its first write, its second, ..., until it is not reached any
  // more; after each death `call` is repeated by the next provisioner until it is well.
  void DieEverywhere(const std::function<void()>& prepare,
                     const std::function<absl::Status()>& call,
                     const std::function<void()>& check) {
    for (const bool made : {false, true}) {
      for (std::uint64_t write = 1;; ++write) {
        SCOPED_TRACE(absl::StrCat("death at write ", write, made ? ", made" : ", not made"));
        prepare();
        store_.FailAt({.write = write, .made = made, .stays = true});
        const absl::Status first = call();
        const bool died = !store_.List(Kind::kVolume).ok();
        Restart();
        if (!first.ok()) {
          absl::Status again;
          for (int i = 0; i < 5; ++i) {
            again = call();
            if (again.ok()) break;
            Pass(5);
          }
          ASSERT_TRUE(again.ok()) << again;
        }
        Pass(120);
        check();
        if (HasFailure() || (!died && first.ok())) break;
        ASSERT_LT(write, 100u);
      }
    }
  }
  void ExpectClean(std::size_t volumes) {
    EXPECT_EQ(nodes_.ReplicaCount(), 3 * volumes);
    EXPECT_EQ(store_.List(Kind::kVolume)->records.size(), volumes);
  }
  std::string name_;
  int count_ = 0;
};

TEST_F(DeathTest, WhileAVolumeIsMadeAndDeleted) {
  std::string id;
  DieEverywhere([&] { name_ = absl::StrCat("v", ++count_); },
                [&] {
                  const auto volume = controller_->CreateVolume(Ask(name_));
                  if (volume.ok()) id = volume->id();
                  return volume.status();
                },
                [&] {
                  ExpectClean(1);
                  EXPECT_EQ(MustCreate(Ask(name_)).id(), id);
                  EXPECT_TRUE(Delete(id).ok());
                  Pass(30);
                  ExpectClean(0);
                });
}

TEST_F(DeathTest, WhileAVolumeIsDeleted) {
  std::string id;
  DieEverywhere([&] { id = MustCreate(Ask(absl::StrCat("v", ++count_))).id(); },
                [&] { return Delete(id); }, [&] { ExpectClean(0); });
}

TEST_F(DeathTest, WhileAVolumeIsPublishedAndUnpublished) {
  std::string id;
  DieEverywhere([&] { id = MustCreate(Ask(absl::StrCat("v", ++count_))).id(); },
                [&] {
                  const absl::Status published = Publish(id, "a").status();
                  return published.ok() ? Unpublish(id, "a") : published;
                },
                [&] {
                  EXPECT_TRUE(nodes_.EnginesOf(id).empty());
                  EXPECT_TRUE(Delete(id).ok());
                  Pass(30);
                  ExpectClean(0);
                });
}

TEST_F(DeathTest, WhileASnapshotIsCutRestoredAndDeleted) {
  std::string id;
  std::string restored;
  DieEverywhere(
      [&] {
        name_ = absl::StrCat("v", ++count_);
        id = MustCreate(Ask(name_)).id();
      },
      [&] {
        const auto snapshot = Snapshot(id, "s" + name_);
        if (!snapshot.ok()) return snapshot.status();
        api::CreateVolumeRequest request = Ask("r" + name_, 2 * kGiB);
        request.set_source_snapshot_id(snapshot->id());
        const auto volume = controller_->CreateVolume(request);
        if (!volume.ok()) return volume.status();
        restored = volume->id();
        return absl::OkStatus();
      },
      [&] {
        ExpectClean(2);
        EXPECT_EQ(nodes_.SizeOf(restored), 2 * kGiB);
        const auto snapshot = Snapshot(id, "s" + name_);
        EXPECT_TRUE(DeleteSnapshot(snapshot->id()).ok());
        EXPECT_TRUE(Delete(id).ok());
        EXPECT_TRUE(Delete(restored).ok());
        Pass(30);
        ExpectClean(0);
        EXPECT_EQ(store_.List(Kind::kSnapshot)->records.size(), 0u);
      });
}

TEST_F(DeathTest, WhileAVolumeIsCloned) {
  std::string id;
  std::string clone;
  DieEverywhere([&] { id = MustCreate(Ask(name_ = absl::StrCat("v", ++count_))).id(); },
                [&] {
                  api::CreateVolumeRequest request = Ask("c" + name_, 2 * kGiB);
                  request.set_source_volume_id(id);
                  const auto volume = controller_->CreateVolume(request);
                  if (volume.ok()) clone = volume->id();
                  return volume.status();
                },
                [&] {
                  ExpectClean(2);
                  EXPECT_EQ(nodes_.SizeOf(clone), 2 * kGiB);
                  EXPECT_EQ(store_.List(Kind::kSnapshot)->records.size(), 0u);
                  EXPECT_EQ(nodes_.SnapshotCount(), 0u);
                  EXPECT_TRUE(Delete(id).ok());
                  EXPECT_TRUE(Delete(clone).ok());
                  Pass(30);
                  ExpectClean(0);
                });
}

TEST_F(DeathTest, WhileANodeIsDrained) {
  std::string id;
  std::string node;
  const auto intend = [&](const std::string& what) {
    api::SetNodeIntentRequest request;
    request.set_node(node);
    request.set_intent(what);
    return controller_->SetNodeIntent(request);
  };
  DieEverywhere(
      [&] {
        id = MustCreate(Ask(absl::StrCat("v", ++count_))).id();
        node = CopiesOf(id).front();
      },
      [&] {
        const absl::Status intended = intend("draining");
        Pass(120);
        return intended;
      },
      [&] {
        const std::vector<std::string> copies = CopiesOf(id);
        EXPECT_EQ(copies.size(), 3u);
        EXPECT_EQ(std::count(copies.begin(), copies.end(), node), 0);
        ExpectClean(1);
        EXPECT_TRUE(intend("active").ok());
        EXPECT_TRUE(Delete(id).ok());
        Pass(30);
        ExpectClean(0);
      });
}

}  // namespace
}  // namespace keelson::provisioner
