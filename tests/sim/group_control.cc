// GroupHarness: the control actor. It mints attachments as the provisioner does: the number rises,
// and the members it last heard of are the hint (sometimes those before, which the protocol allows
// while no later change is under way).

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

std::string EpochName(const pool::Epoch& epoch) {
  return absl::StrCat("epoch ", epoch.attachment, ".", epoch.restart);
}

}  // namespace

GroupHarness::Attachment* GroupHarness::Current() {
  if (current_ == nullptr || current_->state != Attachment::State::kServing) return nullptr;
  return current_;
}

GroupHarness::Attachment* GroupHarness::RandomServing() {
  std::vector<Attachment*> serving;
  for (const auto& attachment : attachments_) {
    if (attachment->state == Attachment::State::kServing) serving.push_back(attachment.get());
  }
  return serving.empty() ? nullptr : serving[world_.random().Below(serving.size())];
}

std::size_t GroupHarness::AttachingCount() const {
  return static_cast<std::size_t>(std::count_if(
      attachments_.begin(), attachments_.end(),
      [](const auto& attachment) { return attachment->state == Attachment::State::kAttaching; }));
}

std::vector<GroupNode*> GroupHarness::NodesThatRun() {
  std::vector<GroupNode*> running;
  for (const auto& node : nodes_) {
    if (node->Healthy() && !Paused(node->process())) running.push_back(node.get());
  }
  return running;
}

void GroupHarness::Control() {
  Random& random = world_.random();
  for (const auto& attachment : attachments_) {
    if (attachment->state != Attachment::State::kServing || Paused(attachment->process)) continue;
    const bool old = attachment.get() != current_;
    const bool over = !attachment->engine->health().ok();
    if (!attachment->changing && random.Chance(over ? 0.3 : old ? 0.02 : 0)) {
      StartClose(attachment.get());
    }
  }
  // Nothing can be attached, and mostly the operator knows.
  if (force_.stage == Force::Stage::kLost && late_chance_.Chance(0.9)) return;
  Attachment* const current = Current();
  const bool served = current != nullptr && current->engine->health().ok();
  if (served && random.Chance(0.05)) RememberMembers(*current);
  if (AttachingCount() >= 2) return;
  if (served || AttachingCount() == 1) {
    // Twice at the same time, now and then: the caller did not wait for the first.
    if (served || !plan_.Has("compete") || !random.Chance(0.02)) return;
    SIM_PROBE("group: two attachments at the same time");
  }
  const std::vector<GroupNode*> running = NodesThatRun();
  if (running.empty() || world_.now_ns() < next_attach_ns_ || !random.Chance(0.4)) return;
  // A daemon that came back resumes its own attachment.
  if (!attachments_.empty() && random.Chance(0.4)) {
    const Attachment* const last = attachments_.back().get();
    const bool died = last->state == Attachment::State::kGone && last->process != nullptr &&
                      last->node->process() != last->process;
    if (died && last->node->Healthy() && !Paused(last->node->process())) {
      return StartAttach(last->node, last);
    }
  }
  StartAttach(running[random.Below(running.size())], nullptr);
}

GroupHarness::Attachment* GroupHarness::NewAttachment(GroupNode* node, const Attachment* resumed) {
  attachments_.push_back(std::make_unique<Attachment>());
  Attachment* const attachment = attachments_.back().get();
  attachment->node = node;
  attachment->process = node->process();
  if (resumed != nullptr) {
    SIM_PROBE("group: a daemon resumed its attachment");
    attachment->epoch = resumed->epoch;
    ++attachment->epoch.restart;
  } else {
    attachment->epoch.attachment = next_attachment_++;
  }
  attachment->epoch.engine = pool::EngineId(world_.MakeId());
  return attachment;
}

void GroupHarness::StartAttach(GroupNode* node, const Attachment* resumed) {
  Attachment* const attachment = NewAttachment(node, resumed);
  engine::SegmentHint hint;
  hint.volume = volume_id_;
  hint.members = record_;
  if (force_.hint_names_all) {
    hint.members.insert(hint.members.end(), force_.before.begin(), force_.before.end());
  } else if (plan_.Has("old_hint") && !membership_open_ && world_.random().Chance(0.3)) {
    if (!(record_before_ == record_)) SIM_PROBE("group: an attachment was given an old hint");
    hint.members = record_before_;
  }
  Tell(absl::StrCat(EpochName(attachment->epoch), " attaches at ", node->name()));
  RunAttach(this, attachment, std::move(hint));
}

io::internal::Detached GroupHarness::RunAttach(GroupHarness* harness, Attachment* attachment,
                                               engine::SegmentHint hint) {
  harness->watch_.Attaching(attachment->epoch, hint.members, harness->options_.grace_ns);
  // The process has its own turns.
  auto turn = attachment->process->Yield();
  co_await turn;
  auto result = co_await engine::SegmentEngine::Attach(
      attachment->process, attachment->node, std::move(hint), attachment->epoch, harness->options_);
  harness->AttachEnded(attachment, std::move(result));
}

void GroupHarness::AttachEnded(Attachment* attachment,
                               absl::StatusOr<std::unique_ptr<engine::SegmentEngine>> result) {
  Tell(absl::StrCat(EpochName(attachment->epoch), " attached: ", result.status().ToString()));
  world_.Trace(500, attachment->epoch.attachment,
               static_cast<std::uint64_t>(result.status().code()));
  if (!result.ok()) {
    attachment->state = Attachment::State::kGone;
    attachment->process = nullptr;
    attachment->end = result.status();
    next_attach_ns_ =
        world_.now_ns() + static_cast<std::int64_t>(world_.random().Below(60'000'000));
    if (absl::IsAborted(result.status()) && attachment->epoch.attachment + 1 == next_attachment_ &&
        attachment == attachments_.back().get()) {
      Fail(absl::StrCat("one-writer: the highest epoch was refused: ", result.status().ToString()));
    }
    return;
  }
  attachment->engine = *std::move(result);
  attachment->state = Attachment::State::kServing;
  const replica::Configuration* const in_force = watch_.in_force();
  if (in_force->version.epoch < attachment->epoch) {
    return Fail(absl::StrCat("quorum-intersects: ", EpochName(attachment->epoch),
                             " serves, but none of its configurations is in force"));
  }
  const replica::Configuration* const first = watch_.Find({attachment->epoch, 1});
  if (first == nullptr) return Fail("quorum-intersects: it serves without a first configuration");
  if (first->forced < force_.epoch) {
    return Fail(absl::StrCat("one-history: ", EpochName(attachment->epoch),
                             " serves from copies that an operator left behind"));
  }
  if (attachment->epoch < served_) {
    SIM_PROBE("group: an attachment completed after a newer one");
    return;
  }
  CheckNobodyElseReads(*attachment);
  const pool::Epoch served_before = std::exchange(served_, attachment->epoch);
  served_at_ = watch_.Tick();
  current_ = attachment;
  const std::uint64_t blocks = attachment->engine->size_bytes() / kModelBlockBytes;
  const bool forced = first->forced != force_.epoch;
  if (forced) {
    TakeForcedHistory(*attachment, *first, served_before);
  } else {
    CheckLoss(*attachment, watch_.BaseOf(attachment->epoch), served_before);
  }
  CutAllAgain();
  if (!forced && blocks != volume_.size_blocks() && blocks != pending_size_blocks_) {
    Fail(absl::StrCat("the volume has ", blocks, " blocks after an attach, not ",
                      volume_.size_blocks(), " nor ", pending_size_blocks_));
  }
  volume_.set_size_blocks(blocks);
  pending_size_blocks_ = 0;
  RememberMembers(*attachment);
  StartClients(attachment);
}

// R9: at the moment an engine begins to serve, no earlier one has a lease that it can use.
void GroupHarness::CheckNobodyElseReads(const Attachment& attachment) {
  for (const auto& other : attachments_) {
    if (other->state != Attachment::State::kServing || other->epoch >= attachment.epoch) continue;
    const engine::SegmentStatus status = other->engine->Status();
    const std::int64_t until_ns =
        watch_.MayReadUntil(other->epoch, status.configuration, options_.lease_ns);
    if (!status.health.ok() || until_ns <= world_.now_ns()) continue;
    Fail(absl::StrCat("reads-are-stable: ", EpochName(attachment.epoch), " serves while ",
                      EpochName(other->epoch), " still has a lease"));
  }
}

// Whether un-flushed writes may be gone: every InSync member of the first configuration is another
// incarnation than was known when an engine last served. Attachments that came to a configuration
// and not to serving lie between.
void GroupHarness::CheckLoss(const Attachment& attachment,
                             std::optional<replica::Configuration> base,
                             const pool::Epoch& served_before) {
  const replica::Configuration* const first = watch_.Find({attachment.epoch, 1});
  while (base.has_value() && served_before < base->version.epoch) {
    const std::optional<replica::Configuration> earlier = watch_.BaseOf(base->version.epoch);
    if (!earlier.has_value()) break;
    base = earlier;
  }
  std::uint64_t horizon = UINT64_MAX;
  bool lied = false;
  if (first == nullptr || !base.has_value()) {
    return Fail("quorum-intersects: an attachment without a first configuration");
  }
  for (const replica::Member& member : first->members) {
    if (member.state != replica::MemberState::kInSync) continue;
    const replica::Member* const before = base->Find(member.pool, member.replica);
    GroupNode* const node = NodeOf(member.pool);
    const bool restarted = before != nullptr && before->incarnation != member.incarnation;
    // A disk that was re-formatted since has no part in what is served.
    if (restarted && node == nullptr) continue;
    const std::uint64_t since = restarted ? node->FindPool(member.pool)->incarnation_since : 0;
    horizon = std::min(horizon, since);
    lied = lied || (restarted && node == liar_);
  }
  volume_.Attached(horizon, lied, watch_.Tick());
}

// The record takes a set of members from the highest attachment only.
void GroupHarness::RememberMembers(const Attachment& attachment) {
  if (attachment.epoch.attachment < record_attachment_) return;
  const replica::Configuration configuration = attachment.engine->Status().configuration;
  if (!configuration.predecessor.empty()) return;
  record_attachment_ = attachment.epoch.attachment;
  const auto same = [this](const replica::Member& member) {
    return std::any_of(record_.begin(), record_.end(), [&member](const replica::Member& other) {
      return other.SameReplica(member);
    });
  };
  const bool changed =
      configuration.members.size() != record_.size() ||
      !std::all_of(configuration.members.begin(), configuration.members.end(), same);
  if (changed) record_before_ = record_;
  record_ = configuration.members;
  membership_open_ = false;
}

void GroupHarness::StartClose(Attachment* attachment) {
  Tell(absl::StrCat(EpochName(attachment->epoch), " closes"));
  attachment->state = Attachment::State::kClosing;
  RunClose(this, attachment);
}

io::internal::Detached GroupHarness::RunClose(GroupHarness* harness, Attachment* attachment) {
  auto turn = attachment->process->Yield();
  co_await turn;
  Clients& clients = attachment->clients;
  if (clients.list != nullptr) clients.list->Replace({});
  absl::Status status = co_await attachment->engine->Close();
  if (clients.list != nullptr) co_await clients.list->Close();
  clients.Clear();
  harness->Tell(absl::StrCat(EpochName(attachment->epoch), " closed: ", status.ToString()));
  attachment->end = status;
  attachment->engine.reset();
  attachment->state = Attachment::State::kGone;
  attachment->process = nullptr;
}

}  // namespace keelson::sim
