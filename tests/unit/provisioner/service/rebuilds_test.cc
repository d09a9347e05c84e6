// Rebuilds: so many at once, the least redundant first.

#include "provisioner/reconcile/rebuilds.h"

#include "tests/unit/provisioner/service/provisioner_fixture.h"

namespace keelson::provisioner {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

TEST(RebuildsTest, LetsSoManyRunAtOnce) {
  Rebuilds rebuilds(2);
  std::int64_t now = 0;
  const auto ask = [&](const std::string& key, int copies) {
    return rebuilds.MayRun(key, copies, now);
  };
  for (const char* key : {"a", "b", "c"}) EXPECT_FALSE(ask(key, 2)) << "others may need it more";
  now += kSecond;
  EXPECT_TRUE(ask("a", 2) && ask("b", 2));
  EXPECT_FALSE(ask("c", 2));
  EXPECT_TRUE(ask("a", 2)) << "it goes on";
  rebuilds.Done("a");
  EXPECT_TRUE(ask("c", 2));
  EXPECT_EQ(rebuilds.running(), 2u);
}

TEST(RebuildsTest, TheLeastRedundantIsFirst) {
  Rebuilds rebuilds(1);
  EXPECT_FALSE(rebuilds.MayRun("two", 2, 0));
  EXPECT_FALSE(rebuilds.MayRun("one", 1, kSecond / 2));
  EXPECT_FALSE(rebuilds.MayRun("two", 2, 2 * kSecond)) << "it asked first, and has more";
  EXPECT_TRUE(rebuilds.MayRun("one", 1, 2 * kSecond));
  rebuilds.Done("one");
  EXPECT_TRUE(rebuilds.MayRun("two", 2, 3 * kSecond));
}

TEST(RebuildsTest, WhoIsNotHeardOfKeepsNobodyWaiting) {
  Rebuilds rebuilds(1);
  EXPECT_FALSE(rebuilds.MayRun("gone", 1, 0));
  EXPECT_TRUE(rebuilds.MayRun("gone", 1, kSecond));
  std::int64_t now = kSecond;
  EXPECT_FALSE(rebuilds.MayRun("waits", 2, now));
  now += Rebuilds::kForgottenNanos;
  rebuilds.Renew("gone", now);
  EXPECT_FALSE(rebuilds.MayRun("waits", 2, now)) << "it is being filled";
  now += Rebuilds::kForgottenNanos + 1;
  rebuilds.MayRun("waits", 2, now);
  EXPECT_TRUE(rebuilds.MayRun("waits", 2, now + kSecond));
}

class RebuildLimitTest : public ProvisionerFixture {
 protected:
  void SetUp() override {
    options_.rebuilds_max = 1;
    ProvisionerFixture::SetUp();
  }
};

TEST_F(RebuildLimitTest, AfterTheLossOfANodeOneVolumeAfterTheOtherGetsItsCopy) {
  std::vector<std::string> ids;
  for (const char* const name : {"one", "two", "three"}) {
    ids.push_back(MustCreate(Ask(name)).id());
    ASSERT_TRUE(Publish(ids.back(), "a").ok());
  }
  std::map<std::string, int> affected;
  for (const std::string& id : ids) {
    const std::vector<std::string> copies = CopiesOf(id);
    for (const std::string& node : copies) ++affected[node];
  }
  // A node that all of them have a copy on, and that is not the engines'.
  std::string lost;
  for (const auto& [node, count] : affected) {
    if (count == 3 && node != "a") lost = node;
  }
  if (lost.empty()) lost = affected["b"] >= affected["c"] ? "b" : "c";
  const int count = affected[lost];
  ASSERT_GE(count, 2);
  nodes_.SetFilling(false);
  nodes_.SetDown(lost, true);
  Pass(options_.heal_after_ns / kSecond + 60);
  int with_new_copy = 0;
  for (const std::string& id : ids) with_new_copy += CopiesOf(id).size() == 4 ? 1 : 0;
  EXPECT_EQ(with_new_copy, 1) << "the others wait for their turn";
  nodes_.SetFilling(true);
  Pass(300);
  for (const std::string& id : ids) {
    const std::vector<std::string> copies = CopiesOf(id);
    EXPECT_EQ(copies.size(), 3u);
    EXPECT_EQ(std::count(copies.begin(), copies.end(), lost), 0) << id;
  }
}

}  // namespace
}  // namespace keelson::provisioner
