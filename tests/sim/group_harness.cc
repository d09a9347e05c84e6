#include "tests/sim/group_harness.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

constexpr std::int64_t kMs = 1'000'000;

}  // namespace

GroupHarness::Knobs GroupHarness::DrawKnobs(Random* random, Random* chance, Random* late,
                                            const FaultPlan& plan) {
  Knobs knobs;
  const std::uint64_t dice = random->Below(20);
  knobs.copies = dice < 2 ? 1 : dice < 8 ? 2 : dice < 16 ? 3 : dice < 18 ? 4 : 5;
  knobs.volume_blocks = 256 * random->Between(6, random->Chance(0.2) ? 32 : 14);
  knobs.io_blocks_max = random->Coin() ? 8 : 40;
  knobs.depth_max = random->Between(1, 12);
  knobs.hot_blocks = random->Between(8, 128);
  knobs.duration_ns = static_cast<std::int64_t>(random->Between(600, 4'000)) * kMs;
  knobs.pace_ns_max = static_cast<std::int64_t>(random->Between(2, 10)) * kMs;
  knobs.strikes = random->Coin() ? 0.008 : 0.03;
  knobs.trims = random->Chance(0.7);
  knobs.snapshots = random->Chance(0.6);
  knobs.membership = random->Chance(0.35);
  knobs.grows = random->Chance(0.3);
  knobs.disk.survives_cut = random->Coin() ? 0.2 : 0.8;
  knobs.disk.torn = random->Coin() ? 0.0 : 0.3;
  knobs.disk.lose_after_failed_flush = plan.Has("disk_error") && random->Coin();
  // Several regions, so that some are clean, copied or noted while others are not.
  if (chance->Chance(0.25)) knobs.volume_blocks = 1024 * chance->Between(3, 20);
  knobs.moves = chance->Chance(0.35);
  knobs.cuts_again = chance->Chance(0.35);
  // Of a disk that lies, rots or is exchanged the model could not say what its copy has.
  const bool odd_disk = plan.Has("lying_flush") || plan.Has("rot") || plan.Has("reformat");
  knobs.forces = knobs.copies > 1 && !odd_disk && late->Chance(0.12);
  if (knobs.forces) knobs.membership = true;
  return knobs;
}

GroupHarness::GroupHarness(std::uint64_t seed, const std::vector<FaultClass>& faults)
    : world_(seed),
      chance_(~seed),
      late_chance_(Mix(seed)),
      clients_random_(seed * 0x9e3779b97f4a7c15),
      plan_(FaultPlan::Draw(faults, &world_.random())),
      knobs_(DrawKnobs(&world_.random(), &chance_, &late_chance_, plan_)),
      volume_(knobs_.volume_blocks),
      watch_(&world_, &volume_.versions()),
      volume_id_(world_.MakeId()) {
  watch_.set_in_force_observer([this](const replica::Configuration& now) { CheckLiveCopies(now); });
  knobs_.clients = clients_random_.Chance(0.3);
  options_.generation_interval_ns =
      static_cast<std::int64_t>(world_.random().Between(30, 500)) * kMs;
  options_.lease_ns = 100 * kMs;
  options_.grace_ns = 120 * kMs;
  options_.member_timeout_ns = 150 * kMs;
  options_.request_timeout_ns = 500 * kMs;
  // Shorter than the grace, too: then nothing but the grace keeps it from being too early.
  options_.member_wait_ns = chance_.Chance(0.25) ? 30 * kMs : 300 * kMs;
  options_.attach_limit_ns = 3'000 * kMs;
  // In half of the seeds I/O waits for ever, so that a wait which nothing ends is seen. Not with
  // rot: where the only copy that has everything has lost a block no other copy can be made, and
  // I/O waits until an operator does something. Not drawn: the runs of all seeds stay what they
  // were.
  const bool for_ever = (Mix(seed) & 1) != 0 && !plan_.Has("rot");
  options_.backlog_limit_ns = for_ever ? 0 : 3'000 * kMs;
  options_.reconnect_interval_ns = 20 * kMs;
  options_.slow = {.window_ns = 10 * kMs,
                   .slow_for_ns = 30 * kMs,
                   .floor_ns = 30 * kMs,  // more than the longest way takes
                   .multiple = 3,
                   .probation_ns = 50 * kMs,
                   .probation_ns_max = 400 * kMs,
                   .forgive_ns = 2'000 * kMs,
                   .rest = 1};
  options_.resync_step_bytes = std::uint64_t{1} << (20 + world_.random().Below(4));
}

GroupHarness::~GroupHarness() {
  // A run that ended in a failure leaves living processes behind.
  for (const auto& attachment : attachments_) {
    attachment->clients.Leak();
    static_cast<void>(attachment->engine.release());
  }
  for (const auto& node : nodes_) {
    if (node->running()) node->Kill();
  }
}

void GroupHarness::Fail(const std::string& what) {
  Tell(absl::StrCat("FAILURE ", what));
  if (error_.empty()) error_ = what;
}

void GroupHarness::Tell(const std::string& what) const {
  if (!verbose_) return;
  std::fprintf(stderr, "%12.3f ms  %s\n", static_cast<double>(world_.now_ns()) / 1e6, what.c_str());
}

void GroupHarness::Later(std::int64_t delay_ns, std::function<void()> action) {
  later_.emplace(world_.now_ns() + delay_ns, std::move(action));
}

void GroupHarness::Advance(std::int64_t duration_ns) {
  const std::int64_t until_ns = world_.now_ns() + duration_ns;
  while (world_.now_ns() < until_ns && !Failed()) {
    const std::int64_t next_ns =
        later_.empty() ? until_ns : std::min(until_ns, later_.begin()->first);
    world_.RunUntil(std::max(next_ns, world_.now_ns() + 1));
    while (!later_.empty() && later_.begin()->first <= world_.now_ns()) {
      const std::function<void()> action = later_.extract(later_.begin()).mapped();
      action();
    }
    if (!watch_.violation().empty()) Fail(watch_.violation());
  }
}

bool GroupHarness::AdvanceUntil(const std::function<bool()>& condition, std::int64_t limit_ns) {
  const std::int64_t until_ns = world_.now_ns() + limit_ns;
  while (!condition()) {
    if (Failed() || world_.now_ns() >= until_ns) return false;
    Advance(5 * kMs);
    KeepNodes();
  }
  return !Failed();
}

std::string GroupHarness::Run() {
  MakeMachines();
  if (!StartAll() || !MakeVolume()) {
    if (!Failed()) Fail("the group cannot be set up");
    return error_;
  }
  Tell(absl::StrCat(knobs_.copies, " copies on ", nodes_.size(),
                    " machines; faults: ", plan_.ToString()));
  StartAttach(nodes_[world_.random().Below(nodes_.size())].get(), nullptr);
  if (!AdvanceUntil([this] { return Current() != nullptr; }, 10'000 * kMs)) {
    if (!Failed()) Fail("a new volume cannot be attached");
    return error_;
  }
  BeginTrouble();
  const std::int64_t end_ns = world_.now_ns() + knobs_.duration_ns;
  if (knobs_.forces) {
    force_.stage = Force::Stage::kWill;
    const auto part = static_cast<std::int64_t>(late_chance_.Between(10, 80));
    force_.at_ns = world_.now_ns() + knobs_.duration_ns / 100 * part;
  }
  while (world_.now_ns() < end_ns && !Failed()) {
    Act();
    Advance(static_cast<std::int64_t>(
        world_.random().Below(static_cast<std::uint64_t>(knobs_.pace_ns_max))));
    KeepNodes();
    ControlForce();
    Control();
  }
  if (!Failed()) Converge();
  return error_;
}

void GroupHarness::Act() {
  Random& random = world_.random();
  if (random.Chance(knobs_.strikes)) Strike();
  Attachment* attachment = random.Chance(0.9) ? Current() : RandomServing();
  if (knobs_.moves && chance_.Chance(0.4)) attachment = RandomServing();
  if (attachment == nullptr || Paused(attachment->process)) return;
  if (attachment->engine->counters().slow_demotions > 0) {
    SIM_PROBE("group: a slow member was left out");
  }
  StartClientChange(attachment);
  if (random.Chance(0.03)) return StartRandomChange(attachment);
  const std::uint64_t burst = random.Between(1, 3);
  for (std::uint64_t i = 0; i < burst && !Failed(); ++i) StartRandomIo(attachment);
}

}  // namespace keelson::sim
