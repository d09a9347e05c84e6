// GroupHarness: the faults, each for a while, and their end.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/probe.h"
#include "tests/sim/sim_stream.h"

namespace keelson::sim {
namespace {

constexpr std::int64_t kMs = 1'000'000;

std::int64_t Between(Random* random, std::uint64_t low_ms, std::uint64_t high_ms) {
  return static_cast<std::int64_t>(random->Between(low_ms, high_ms)) * kMs;
}

}  // namespace

// What is there from now on until all heals.
void GroupHarness::BeginTrouble() {
  Random& random = world_.random();
  if (!plan_.Has("reset")) return;
  struck_ = true;
  NetworkFaults& network = world_.network().faults();
  network.reset = random.Coin() ? 0.0005 : 0.01;
  network.stall = random.Coin() ? 0 : 0.005;
  network.stall_ns = 200 * kMs;
}

void GroupHarness::Strike() {
  Random& random = world_.random();
  const std::string kind = plan_.Strike(&random);
  if (kind.empty()) return;
  struck_ = true;
  Tell(absl::StrCat("fault: ", kind));
  GroupNode* const node = nodes_[random.Below(nodes_.size())].get();
  if (Lost(node)) return;
  if (kind == "kill" || kind == "power_cut") {
    if (node->running() || kind == "power_cut") KillNode(node, kind == "power_cut");
  } else if (kind == "power_cut_all") {
    CutAll();
  } else if (kind == "pause") {
    if (node->running()) world_.Pause(node->machine(), Between(&random, 10, 450));
  } else if (kind == "partition" && knobs_.moves && Current() != nullptr && chance_.Coin()) {
    CutOffAndMove();
  } else if (kind == "partition" || kind == "one_way") {
    Partition(kind == "one_way");
  } else if (kind == "rot") {
    FlipABit();
  } else if (kind == "reformat") {
    ReformatOne();
  } else if (kind == "compete") {
    const std::vector<GroupNode*> running = NodesThatRun();
    if (!running.empty() && AttachingCount() < 2) {
      StartAttach(running[random.Below(running.size())], nullptr);
    }
  } else {
    TroubleDisk(kind);
  }
}

// What ran in the node's process never runs again.
void GroupHarness::Abandon(GroupNode* node) {
  for (const auto& attachment : attachments_) {
    if (attachment->process == nullptr || attachment->process != node->process()) continue;
    attachment->clients.Leak();
    static_cast<void>(attachment->engine.release());
    attachment->state = Attachment::State::kGone;
    attachment->changing = false;
    for (auto it = ios_.begin(); it != ios_.end();) {
      const auto io = it++;
      if (io->second->attachment != attachment.get()) continue;
      graveyard_.push_back(std::move(io->second));
      ios_.erase(io);
    }
    for (const auto& change : changes_) {
      if (change->attachment == attachment.get()) change->done = true;
    }
  }
}

void GroupHarness::KillNode(GroupNode* node, bool power) {
  Tell(absl::StrCat(node->name(), power ? " loses power" : " is killed"));
  const bool was_running = node->running();
  if (node == liar_) LiarDies(power);
  Abandon(node);
  if (power) {
    node->PowerCut();
  } else {
    node->Kill();
  }
  if (was_running) StartLater(node);
}

// What it lost with its power is told from data by checksums, and by nothing else. Those of regions
// that are being written die with the process (R17): what is lost there passes for data then.
void GroupHarness::LiarDies(bool power) {
  if (!plan_.Has("lying_flush")) return;
  const std::vector<replica::Member>& members = watch_.in_force()->members;
  const bool in_sync = std::any_of(members.begin(), members.end(), [this](const auto& member) {
    return member.state == replica::MemberState::kInSync && NodeOf(member.pool) == liar_;
  });
  if (!power && in_sync && liar_lost_) volume_.ForgetContents();
  liar_lost_ = liar_lost_ || power;
}

void GroupHarness::StartLater(GroupNode* node) {
  Random& random = world_.random();
  const std::int64_t delay_ns = random.Coin() ? Between(&random, 1, 40) : Between(&random, 40, 900);
  Later(delay_ns, [this, node] {
    if (!node->running() && !Lost(node)) node->Start();
  });
}

void GroupHarness::CutAll() {
  Tell("all lose power");
  for (const auto& node : nodes_) {
    const bool was_running = node->running();
    Abandon(node.get());
    node->OnPowerLost();
    if (was_running) StartLater(node.get());
  }
  world_.PowerCutAll();
}

// What was read after a loss of power must be there after the next one, flushed by a client or not.
void GroupHarness::CutAllAgain() {
  if (!struck_ || !knobs_.cuts_again || !plan_.Has("power_cut_all") || !chance_.Chance(0.4)) return;
  Later(Between(&chance_, 2, 40), [this] {
    if (!calm_) CutAll();
  });
}

// Some machines and the rest do not reach each other, in one direction or in both.
void GroupHarness::Partition(bool one_way) {
  Random& random = world_.random();
  std::vector<std::pair<const Machine*, const Machine*>> blocked;
  const std::uint64_t side = random.Between(1, (std::uint64_t{1} << nodes_.size()) - 2);
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    for (std::size_t j = 0; j < nodes_.size(); ++j) {
      if (((side >> i) & 1) == 0 || ((side >> j) & 1) != 0) continue;
      blocked.emplace_back(nodes_[i]->machine(), nodes_[j]->machine());
      if (!one_way) blocked.emplace_back(nodes_[j]->machine(), nodes_[i]->machine());
    }
  }
  for (const auto& [from, to] : blocked) world_.network().Block(from, to);
  Later(random.Coin() ? Between(&random, 5, 200) : Between(&random, 200, 1'500), [this, blocked] {
    for (const auto& [from, to] : blocked) world_.network().Heal(from, to);
  });
}

// The machine of the engine hears of nobody, and mostly nobody of it, but it goes on; so the volume
// is attached to another one.
void GroupHarness::CutOffAndMove() {
  SIM_PROBE("group: a volume was moved away from an engine that was cut off");
  const Machine* const alone = Current()->node->machine();
  std::vector<const Machine*> others;
  for (const auto& node : nodes_) {
    if (node->machine() != alone) others.push_back(node->machine());
  }
  const bool only_deaf = chance_.Coin();
  for (const Machine* other : others) {
    if (!only_deaf) world_.network().Block(alone, other);
    world_.network().Block(other, alone);
  }
  // Answers that were held back still come in time, or do not.
  Later(Between(&chance_, 100, only_deaf ? 160 : 700), [this, alone, others] {
    for (const Machine* other : others) {
      world_.network().Heal(alone, other);
      world_.network().Heal(other, alone);
    }
  });
  Later(Between(&chance_, 1, only_deaf ? 20 : 60), [this, alone] {
    std::vector<GroupNode*> running = NodesThatRun();
    std::erase_if(running, [alone](const GroupNode* node) { return node->machine() == alone; });
    if (calm_ || running.empty() || AttachingCount() >= 2) return;
    StartAttach(running[chance_.Below(running.size())], nullptr);
  });
}

void GroupHarness::TroubleDisk(const std::string& kind) {
  Random& random = world_.random();
  std::vector<GroupNode*> troubled = {nodes_[random.Below(nodes_.size())].get()};
  if (kind == "full_disk" && random.Chance(0.3)) {
    troubled.clear();
    for (const auto& node : nodes_) troubled.push_back(node.get());
  }
  const std::uint64_t dice = random.Below(4);
  // All refuse the same write, and not one after the other.
  const bool at_once = troubled.size() > 1 && late_chance_.Coin();
  for (GroupNode* node : troubled) {
    for (GroupNode::PoolSlot& slot : node->pools()) {
      FaultMix& disk = slot.disk->faults();
      // What has a place on the disk can be overwritten, and no more.
      if (kind == "full_disk") {
        disk.backing_blocks_max = slot.disk->backed_count() + random.Below(at_once ? 6 : 64);
      }
      if (kind == "slow_disk") disk.stall = slot.meta->faults().stall = 0.2;
      if (kind == "slow_disk") disk.stall_ns = Between(&random, 20, 300);
      if (kind != "disk_error") continue;
      if (dice == 0) disk.read_error = 0.1;
      if (dice == 1) disk.write_error = 0.05;
      if (dice == 2) disk.flush_error = 0.3;
      if (dice == 3) slot.meta->faults().commit_error = 0.02;
    }
  }
  Later(Between(&random, 20, 500), [this, troubled] {
    for (GroupNode* node : troubled) {
      for (GroupNode::PoolSlot& slot : node->pools()) {
        const bool lying = slot.disk->faults().lying_flush;
        slot.disk->faults() = knobs_.disk;
        slot.disk->faults().lying_flush = lying;
        slot.meta->faults() = MetaFaults{};
      }
    }
  });
}

void GroupHarness::FlipABit() {
  Random& random = world_.random();
  SimDisk* const disk = liar_->pools()[0].disk;
  constexpr std::uint64_t kHeaderBlocks = pool::kExtentBytes / pool::kBlockBytes;
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t block = random.Between(kHeaderBlocks, disk->block_count() - 1);
    const std::span<const std::byte> bytes = disk->Current(block);
    const bool empty =
        std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{}; });
    if (empty) continue;
    return disk->FlipBit(block, static_cast<std::uint32_t>(random.Below(8 * pool::kBlockBytes)));
  }
}

// A member's disk is replaced by an empty one under the same name, or its configuration cannot be
// read any more: either way it is no voter and no source (R2). Once in a run.
void GroupHarness::ReformatOne() {
  if (reformatted_) return;
  std::vector<replica::Member> data;
  for (const replica::Member& member : record_) {
    if (!member.witness && NodeOf(member.pool) != nullptr) data.push_back(member);
  }
  if (data.empty()) return;
  lost_pool_ = data[world_.random().Below(data.size())].pool;
  GroupNode* const node = NodeOf(lost_pool_);
  std::size_t pool = 0;
  while (node->pools()[pool].id != lost_pool_) ++pool;
  // Nothing else may lie there: a witness could not be replaced.
  for (const replica::Member& member : record_) {
    if (member.witness && member.pool == lost_pool_) {
      lost_pool_ = pool::PoolId();
      return;
    }
  }
  reformatted_ = true;
  attachments_before_loss_ = attachments_.size();
  GroupNode::PoolSlot& slot = node->pools()[pool];
  std::string record;
  if (slot.store != nullptr && chance_.Coin()) {
    for (const replica::Member& member : data) {
      const replica::Replica* const replica = slot.store->Find(member.replica);
      if (replica == nullptr) continue;
      record = pool::ObjectKey(pool::kConfigurationPrefix, replica->number().value);
    }
  }
  Abandon(node);
  if (node->running()) node->Kill();
  if (record.empty()) {
    node->Reformat(pool);
  } else {
    SIM_PROBE("group: a member's record became unreadable");
    slot.meta->Damage(pool::Table::kObjects, record);
  }
  StartLater(node);
}

// Whoever is down without a reason, or serves no more, is started again.
void GroupHarness::KeepNodes() {
  for (const auto& node : nodes_) {
    if (!node->running() || Paused(node->process())) continue;
    bool failed = !node->trouble().ok();
    for (const GroupNode::PoolSlot& slot : node->pools()) {
      failed = failed || (slot.store != nullptr && !slot.store->pool().health().ok());
    }
    if (!failed || !world_.random().Chance(calm_ ? 1 : 0.1)) continue;
    SIM_PROBE("group: a node with a failed pool was started again");
    KillNode(node.get(), false);
  }
}

void GroupHarness::HealEverything() {
  calm_ = true;
  world_.network().HealAll();
  world_.network().faults().reset = world_.network().faults().stall = 0;
  for (const auto& node : nodes_) {
    for (GroupNode::PoolSlot& slot : node->pools()) {
      const bool lying = slot.disk->faults().lying_flush;
      slot.disk->faults() = knobs_.disk;
      slot.disk->faults().lying_flush = lying;
      slot.disk->Heal();
      slot.meta->faults() = MetaFaults{};
    }
    if (!node->running() && !Lost(node.get())) StartLater(node.get());
  }
}

}  // namespace keelson::sim
