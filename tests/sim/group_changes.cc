// GroupHarness: snapshots, growth, generations and membership, one change of an engine at a time.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

constexpr std::size_t kSnapshotsAtOnce = 4;
constexpr int kMakeWaits = 50;
constexpr std::int64_t kHoldPatienceNs = 3'000'000'000;
constexpr std::int64_t kMakeWaitNs = 5'000'000;

const char* KindName(int kind) {
  static constexpr const char* kNames[] = {"snapshot", "delete snapshot", "grow",
                                           "roll",     "add member",      "remove member"};
  return kNames[kind];
}

}  // namespace

void GroupHarness::StartRandomChange(Attachment* attachment) {
  if (attachment->changing) return;
  Random& random = world_.random();
  Change change;
  change.attachment = attachment;
  const std::uint64_t dice = random.Below(10);
  auto& snapshots = volume_.snapshots();
  if (dice < 3 && knobs_.snapshots && snapshots.size() < kSnapshotsAtOnce) {
    change.kind = ChangeKind::kSnapshot;
  } else if (dice < 5 && !snapshots.empty()) {
    auto chosen = snapshots.begin();
    std::advance(chosen, random.Below(snapshots.size()));
    if (chosen->second.state == GroupSnapshot::State::kTaking) return;
    change.kind = ChangeKind::kDeleteSnapshot;
    change.snapshot = chosen->first;
  } else if (dice < 6 && knobs_.grows && pending_size_blocks_ == 0) {
    change.kind = ChangeKind::kGrow;
    change.size_blocks = volume_.size_blocks() + random.Between(1, 300);
  } else if (dice < 9 && knobs_.membership && attachment == current_) {
    if (!ChooseMembership(&change)) return;
  }
  StartChange(change);
}

// One data member more or fewer, with a witness wherever the number of copies is even. The change
// needs the set in force to be in the record, and nobody else on the way to change it (R13).
bool GroupHarness::ChooseMembership(Change* change) {
  Random& random = world_.random();
  Attachment* const attachment = change->attachment;
  if (attachment->epoch.attachment + 1 != next_attachment_ || AttachingCount() > 0) return false;
  RememberMembers(*attachment);
  if (membership_open_ || record_attachment_ != attachment->epoch.attachment) return false;
  std::vector<replica::Member> data;
  const replica::Member* witness = nullptr;
  for (const replica::Member& member : record_) {
    if (member.witness) {
      witness = &member;
    } else {
      data.push_back(member);
    }
  }
  if (data.size() > 1 && (data.size() >= replica::kDataMembersMax || random.Coin())) {
    // From an even number to an odd one the witness goes; from an odd one it stays if it is there.
    if (data.size() % 2 == 1 && witness == nullptr) return false;
    change->kind = ChangeKind::kRemove;
    change->member = data[random.Below(data.size())];
    change->with_witness = data.size() % 2 == 0 && random.Coin();
    if (change->with_witness) change->witness = *witness;
    return true;
  }
  change->with_witness = data.size() % 2 == 1 && witness == nullptr;
  return PrepareAdd(change);
}

// A pool that has nothing of the volume takes the new member, and another the witness.
bool GroupHarness::PrepareAdd(Change* change) {
  std::vector<std::pair<GroupNode*, std::size_t>> places;
  for (GroupNode* node : NodesThatRun()) {
    const bool used = std::any_of(record_.begin(), record_.end(), [&](const auto& member) {
      return member.address == node->address() && member.pool != lost_pool_;
    });
    if (used) continue;
    const std::size_t pool = world_.random().Below(node->pools().size());
    if (node->pools()[pool].id != lost_pool_) places.emplace_back(node, pool);
  }
  if (places.size() < (change->with_witness ? 2 : 1)) return false;
  std::swap(places.front(), places[world_.random().Below(places.size())]);
  change->kind = ChangeKind::kAdd;
  change->member = NewMember(places[0].first, places[0].second, false);
  change->member.state = replica::MemberState::kOut;
  if (change->with_witness) {
    change->witness = NewMember(places[1].first, places[1].second, true);
  }
  return true;
}

void GroupHarness::StartChange(const Change& change) {
  changes_.push_back(std::make_unique<Change>(change));
  Change* const started = changes_.back().get();
  started->began = watch_.Tick();
  started->attachment->changing = true;
  if (started->kind == ChangeKind::kGrow) pending_size_blocks_ = started->size_blocks;
  if (started->kind == ChangeKind::kSnapshot) {
    started->snapshot = pool::SnapshotId(world_.MakeId());
    GroupSnapshot& snapshot = volume_.snapshots()[started->snapshot];
    snapshot.name = absl::StrCat("s", next_name_++);
    snapshot.began = started->began;
  }
  if (started->kind == ChangeKind::kDeleteSnapshot) {
    volume_.snapshots()[started->snapshot].deleting = true;
  }
  Tell(absl::StrCat(KindName(static_cast<int>(started->kind)), " begins"));
  RunChange(this, started);
}

io::internal::Detached GroupHarness::RunChange(GroupHarness* harness, Change* change) {
  auto turn = change->attachment->process->Yield();
  co_await turn;
  change->status = co_await harness->Perform(change);
  harness->ChangeEnded(change);
}

io::Task<absl::Status> GroupHarness::Perform(Change* change) {
  engine::SegmentEngine* const engine = change->attachment->engine.get();
  switch (change->kind) {
    case ChangeKind::kSnapshot:
      co_return co_await TakeSnapshot(change);
    case ChangeKind::kDeleteSnapshot:
      co_return co_await engine->DeleteSnapshot(change->snapshot);
    case ChangeKind::kGrow:
      co_return co_await engine->Grow(change->size_blocks * kModelBlockBytes);
    case ChangeKind::kRoll:
      co_return co_await engine->RollGeneration();
    case ChangeKind::kRemove: {
      membership_open_ = true;
      const replica::Member* const witness = change->with_witness ? &change->witness : nullptr;
      co_return co_await engine->RemoveMember(change->member.replica, witness);
    }
    case ChangeKind::kAdd:
      break;
  }
  absl::Status made = co_await MakeMembers(change);
  if (!made.ok()) co_return made;
  membership_open_ = true;
  const replica::Member* const witness = change->with_witness ? &change->witness : nullptr;
  replica::Member member = change->member;
  co_return co_await engine->AddMember(std::move(member), witness);
}

// The new members come to be in the processes that have their pools, which may die over it.
io::Task<absl::Status> GroupHarness::MakeMembers(Change* change) {
  const replica::Configuration base = change->attachment->engine->Status().configuration;
  std::vector<replica::Member> made = {change->member};
  if (change->with_witness) made.push_back(change->witness);
  for (const replica::Member& member : made) {
    GroupNode* const node = NodeOf(member.pool);
    if (node == nullptr || !node->Healthy()) continue;
    RunMake(this, node, change, member, base);
  }
  for (int i = 0; i < kMakeWaits && change->made < made.size(); ++i) {
    auto wait = change->attachment->process->SleepFor(kMakeWaitNs);
    co_await wait;
  }
  if (change->made == made.size()) co_return absl::OkStatus();
  co_return absl::CancelledError("the new member could not be made");
}

io::internal::Detached GroupHarness::RunMake(GroupHarness* harness, GroupNode* node, Change* change,
                                             replica::Member member, replica::Configuration base) {
  auto turn = node->process()->Yield();
  co_await turn;
  absl::Status status = co_await CreateMember(harness, node, member, base);
  if (status.ok()) ++change->made;
}

// Ends a hold that has not begun by then.
io::internal::Detached GroupHarness::RunRelease(Change* change, std::int64_t after_ns) {
  auto wait = change->attachment->process->SleepFor(after_ns);
  co_await wait;
  if (change->holding) change->attachment->engine->ReleaseWrites();
}

io::Task<absl::Status> GroupHarness::TakeSnapshot(Change* change) {
  engine::SegmentEngine* const engine = change->attachment->engine.get();
  replica::ConfiguredSnapshot snapshot;
  snapshot.id = change->snapshot;
  snapshot.name = volume_.snapshots()[change->snapshot].name;
  snapshot.size_bytes = volume_.size_blocks() * kModelBlockBytes;
  SimReactor* const process = change->attachment->process;
  // Most are cut at once. Of those of several volumes writes are held for longer, until all of them
  // are, or are released because another volume cannot be.
  const std::uint64_t form = world_.random().Below(8);
  change->holding = true;
  if (form == 0) RunRelease(change, static_cast<std::int64_t>(world_.random().Below(5'000'000)));
  absl::Status status = co_await engine->HoldWrites(process->NowNanos() + kHoldPatienceNs);
  change->holding = false;
  if (status.ok() && form == 1) {
    auto others = process->SleepFor(static_cast<std::int64_t>(world_.random().Below(500'000'000)));
    co_await others;
  }
  if (status.ok()) status = co_await engine->Seal(std::move(snapshot));
  if (status.ok()) {
    volume_.Seal(change->snapshot, watch_.Tick());
    volume_.Flushed(change->began);
  }
  engine->ReleaseWrites();
  if (!status.ok()) co_return status;
  // A volume of several segments waits for the others here.
  auto turn = process->SleepFor(static_cast<std::int64_t>(world_.random().Below(2'000'000)));
  co_await turn;
  co_return co_await engine->CompleteSnapshot(change->snapshot);
}

void GroupHarness::ChangeEnded(Change* change) {
  Tell(
      absl::StrCat(KindName(static_cast<int>(change->kind)), " ends: ", change->status.ToString()));
  world_.Trace(600 + static_cast<std::uint64_t>(change->kind),
               static_cast<std::uint64_t>(change->status.code()));
  change->attachment->changing = false;
  change->done = true;
  const bool ok = change->status.ok();
  if (ok && change->attachment->epoch < served_ && change->began > served_at_) {
    Fail(absl::StrCat("one-writer: ", KindName(static_cast<int>(change->kind)),
                      " succeeded after a newer engine served"));
  }
  switch (change->kind) {
    case ChangeKind::kSnapshot:
      if (ok) volume_.snapshots()[change->snapshot].state = GroupSnapshot::State::kComplete;
      break;
    case ChangeKind::kDeleteSnapshot:
      if (ok) volume_.snapshots().erase(change->snapshot);
      break;
    case ChangeKind::kGrow:
      if (!ok) break;
      // An older engine may hear late of a Grow that the present one has found done.
      volume_.set_size_blocks(std::max(volume_.size_blocks(), change->size_blocks));
      if (pending_size_blocks_ == change->size_blocks) pending_size_blocks_ = 0;
      break;
    case ChangeKind::kRoll:
      if (ok) volume_.Flushed(change->began);
      break;
    case ChangeKind::kAdd:
    case ChangeKind::kRemove:
      if (ok) SIM_PROBE("group: the membership changed");
      if (ok) RememberMembers(*change->attachment);
      if (absl::IsCancelled(change->status)) membership_open_ = false;
      break;
  }
}

}  // namespace keelson::sim
