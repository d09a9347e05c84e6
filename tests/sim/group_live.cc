// GroupHarness: the copies of a volume that is in use, compared by what their maps and disks show
// at the moment a configuration comes into force. What differs too much is found here at once, and
// not when a read, or the end of the run, happens to meet it.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/copy_view.h"
#include "tests/sim/group_harness.h"

namespace keelson::sim {

// R10: where nothing is noted above the clean generation, InSync copies are equal. R5, R12: where
// another one differs from them, something is noted above its in-sync-through.
void GroupHarness::CheckLiveCopies(const replica::Configuration& now) {
  if (volume_.contents_unknown()) return;
  std::optional<CopyView> source;
  std::string source_name;
  // The InSync ones first.
  for (const bool in_sync : {true, false}) {
    for (const replica::Member& member : now.members) {
      GroupNode* const node = NodeOf(member.pool);
      const bool is_in_sync = member.state == replica::MemberState::kInSync;
      if (member.witness || is_in_sync != in_sync || node == nullptr || node == liar_) continue;
      const std::optional<CopyView> copy = node->View(member.pool, member.replica);
      if (!copy.has_value()) continue;
      if (!source.has_value() && !in_sync) return;
      if (!source.has_value()) {
        source = copy;
        source_name = node->name();
        continue;
      }
      const pool::Generation& through = in_sync ? now.clean : member.in_sync_through;
      const std::optional<std::uint64_t> differs = source->Differs(*copy, through);
      if (!differs.has_value()) continue;
      return watch_.Violate(
          in_sync ? "clean-is-equal" : "divergent-is-recorded",
          absl::StrCat("block ", *differs, " differs between ", source_name, " and ", node->name(),
                       ", though its region is noted by generation ", through.counter,
                       " at the latest:", source->Describe(*differs), " against",
                       copy->Describe(*differs), "; in force: ", replica::ToString(now)));
    }
  }
}

}  // namespace keelson::sim
