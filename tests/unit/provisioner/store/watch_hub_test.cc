#include "provisioner/store/watch_hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <vector>

namespace keelson::provisioner {
namespace {

using ::testing::ElementsAre;

std::string Text(const Change& change) {
  return change.key + "@" + std::to_string(change.revision);
}

// The first callback waits until everything else has been added.
std::vector<std::string> ToldToASlowWatcher(std::size_t backlog_max,
                                            const std::vector<std::string>& keys) {
  WatchHub hub(backlog_max);
  std::vector<std::string> told;
  std::promise<void> entered;
  std::promise<void> added;
  auto watcher = hub.Watch([&](const Change& change) {
    if (change.revision == 1) {
      entered.set_value();
      added.get_future().wait();
    }
    told.push_back(Text(change));
  });
  hub.Add({Kind::kVolume, "first", true, 1});
  entered.get_future().wait();
  std::uint64_t revision = 1;
  for (const std::string& key : keys) hub.Add({Kind::kVolume, key, true, ++revision});
  added.set_value();
  hub.Drain();
  return told;
}

TEST(WatchHubTest, TellsEveryChangeWhileTheBacklogIsWithinItsLimit) {
  EXPECT_THAT(ToldToASlowWatcher(4, {"a", "b", "a", "b"}),
              ElementsAre("first@1", "a@2", "b@3", "a@4", "b@5"));
}

TEST(WatchHubTest, KeepsTheLastChangeOfEachRecordWhenTheBacklogIsFull) {
  EXPECT_THAT(ToldToASlowWatcher(4, {"a", "b", "a", "a", "c", "b"}),
              ElementsAre("first@1", "b@3", "a@5", "c@6", "b@7"));
}

TEST(WatchHubTest, KeepsARecordEachWhenThereAreMoreThanTheLimit) {
  EXPECT_THAT(ToldToASlowWatcher(2, {"a", "b", "c", "d", "e", "f", "g", "a"}),
              ElementsAre("first@1", "a@2", "b@3", "c@4", "d@5", "e@6", "f@7", "g@8", "a@9"));
}

}  // namespace
}  // namespace keelson::provisioner
