#include "blockstore/service/volume_host.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/service/client_messages.h"
#include "blockstore/service/replica_messages.h"

namespace keelson::service {
namespace {

// How long clients may finish what they have asked for before the engine ends.
constexpr std::int64_t kClientPatienceNanos = 2'000'000'000;
constexpr std::int64_t kPollNanos = 10'000'000;
// How long SetClients waits for the requests of those who left; then it is to be asked again.
constexpr std::int64_t kDrainPatienceNanos = 30'000'000'000;

std::int64_t UnixNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

absl::StatusOr<replica::ConfiguredSnapshot> FindSnapshot(engine::Engine* engine,
                                                         const std::string& volume,
                                                         const std::string& name) {
  for (replica::ConfiguredSnapshot& snapshot :
       engine->segment(0).Status().configuration.snapshots) {
    if (snapshot.name == name) return std::move(snapshot);
  }
  return absl::NotFoundError(absl::StrCat("volume '", volume, "' has no snapshot '", name, "'"));
}

// Of the whole volume: a configuration says how large its segment was. Segments that came after a
// snapshot do not have it.
std::vector<v1::Snapshot> DescribeSnapshots(engine::Engine* engine) {
  std::vector<v1::Snapshot> snapshots;
  for (std::size_t i = 0; i < engine->segment_count(); ++i) {
    const replica::Configuration configuration = engine->segment(i).Status().configuration;
    for (const replica::ConfiguredSnapshot& snapshot : configuration.snapshots) {
      const std::string id = snapshot.id.ToString();
      const auto found = std::find_if(snapshots.begin(), snapshots.end(),
                                      [&](const v1::Snapshot& known) { return known.id() == id; });
      if (found != snapshots.end()) {
        found->set_size_bytes(found->size_bytes() + snapshot.size_bytes);
      } else if (i == 0) {
        snapshots.push_back(ToMessage(snapshot));
      }
    }
  }
  return snapshots;
}

}  // namespace

absl::StatusOr<engine::Engine*> VolumeHost::Find(const std::string& name) const {
  const auto found = attachments_.find(name);
  if (found != attachments_.end()) return found->second.engine.get();
  return absl::NotFoundError(absl::StrCat("volume '", name, "' is not attached on this node"));
}

absl::StatusOr<engine::SegmentEngine*> VolumeHost::FindSegment(const std::string& name,
                                                               std::uint32_t segment) const {
  ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  if (segment < engine->segment_count()) return &engine->segment(segment);
  return absl::NotFoundError(absl::StrCat("volume '", name, "' has ", engine->segment_count(),
                                          " segments, and none of number ", segment));
}

io::Task<absl::StatusOr<std::string>> VolumeHost::Attach(engine::AttachTarget target,
                                                         AttachMode mode) {
  const std::string name = target.name;
  if (const auto found = attachments_.find(name); found != attachments_.end()) {
    const engine::Engine& present = *found->second.engine;
    const bool serves =
        present.health().ok() && present.epoch().attachment >= target.epoch.attachment;
    if (serves && found->second.read_only == mode.read_only) co_return frontend_->Uri(name);
    if (serves) {
      co_return absl::FailedPreconditionError(
          absl::StrCat("volume '", name, "' is attached in the other mode; detach it first"));
    }
    const absl::Status ended = co_await Detach(name);
    KEEL_LOG_INFO("event=attachment_replaced volume={} status=\"{}\"", name, ended.ToString());
  }
  const absl::Status taken = absl::FailedPreconditionError(absl::StrCat(
      "a volume of the name '", name, "' is attached on this node already; detach that one first"));
  if (mode.show && frontend_->Attached(name) != nullptr) co_return taken;
  engine::EngineOptions options;
  options.read_only = mode.read_only;
  options.qos = mode.qos;
  options.segment = segment_options_;
  options.segment.attach_limit_ns = mode.attach_limit_ns;
  absl::AnyInvocable<pool::Uuid()> make_id = [] { return pool::Uuid::Random(); };
  CO_ASSIGN_OR_RETURN(std::unique_ptr<engine::Engine> engine,
                      co_await engine::Engine::Attach(reactor_, ports_, std::move(target),
                                                      std::move(make_id), options));
  if (mode.show && frontend_->Attached(name) != nullptr) {
    // Why it is not served is in `taken`; how the attachment ends adds nothing.
    (void)co_await engine->Detach();
    co_return taken;
  }
  auto list = std::make_unique<engine::ClientList>(engine.get(), name);
  list->Replace(std::move(mode.clients));
  if (mode.show) frontend_->Add(name, engine.get());
  client_port_->Add(name, engine.get(), list.get());
  attachments_[name] = Attachment{std::move(engine), std::move(list), mode.read_only, mode.show};
  co_return frontend_->Uri(name);
}

io::Task<void> VolumeHost::DropClients(std::string name, bool shown, engine::ClientList* clients,
                                       bool* done) {
  if (shown) co_await frontend_->Remove(std::move(name));
  co_await clients->Close();
  *done = true;
}

io::Task<absl::Status> VolumeHost::Detach(std::string name) {
  const auto found = attachments_.find(name);
  if (found == attachments_.end()) co_return absl::OkStatus();
  const std::unique_ptr<engine::Engine> engine = std::move(found->second.engine);
  const std::unique_ptr<engine::ClientList> clients = std::move(found->second.clients);
  const bool shown = found->second.shown;
  attachments_.erase(found);
  engine->LetGo();
  client_port_->Remove(name);
  ending_.push_back(name);
  // All at once: those on other nodes go while the ones here finish.
  clients->Replace({});
  bool dropped = false;
  gate_.Spawn(DropClients(name, shown, clients.get(), &dropped));
  const std::int64_t limit_ns = reactor_->NowNanos() + kClientPatienceNanos;
  while (!dropped && reactor_->NowNanos() < limit_ns) co_await reactor_->SleepFor(kPollNanos);
  // What still waits for a member fails now, and then its client goes.
  absl::Status status = co_await engine->Detach();
  while (!dropped) co_await reactor_->SleepFor(kPollNanos);
  ending_.erase(std::find(ending_.begin(), ending_.end(), name));
  co_return status;
}

void VolumeHost::LetGo() {
  for (const auto& [name, attachment] : attachments_) attachment.engine->LetGo();
}

void VolumeHost::Show(const std::string& name) {
  const auto found = attachments_.find(name);
  if (found == attachments_.end() || found->second.shown) return;
  found->second.shown = true;
  frontend_->Add(name, found->second.engine.get());
}

io::Task<void> VolumeHost::Close() {
  for (const auto& [name, attachment] : attachments_) {
    client_port_->Remove(name);
    const absl::Status status = co_await attachment.engine->Detach();
    co_await attachment.clients->Close();
    if (!status.ok()) {
      KEEL_LOG_WARN("event=detach_failed volume={} error=\"{}\"", name,
                    std::string(status.message()));
    }
  }
  co_await gate_.Close();
}

void VolumeHost::SetQos(const std::string& name, const engine::QosLimits& limits) {
  const auto found = attachments_.find(name);
  if (found != attachments_.end()) found->second.engine->SetQos(limits);
}

io::Task<absl::Status> VolumeHost::AddMember(std::string name, std::uint32_t segment,
                                             replica::Member member,
                                             std::optional<replica::Member> witness) {
  CO_ASSIGN_OR_RETURN(engine::SegmentEngine * engine, FindSegment(name, segment));
  const replica::Configuration configuration = engine->Status().configuration;
  if (configuration.Find(member.pool, member.replica) != nullptr) co_return absl::OkStatus();
  const std::string replica = member.replica.ToString();
  CO_RETURN_IF_ERROR(co_await engine->AddMember(std::move(member), witness ? &*witness : nullptr));
  KEEL_LOG_INFO("event=member_added volume={} segment={} replica={}", name, segment, replica);
  co_return absl::OkStatus();
}

io::Task<absl::Status> VolumeHost::RemoveMember(std::string name, std::uint32_t segment,
                                                pool::ReplicaId replica,
                                                std::optional<replica::Member> witness) {
  CO_ASSIGN_OR_RETURN(engine::SegmentEngine * engine, FindSegment(name, segment));
  CO_RETURN_IF_ERROR(co_await engine->RemoveMember(replica, witness ? &*witness : nullptr));
  KEEL_LOG_INFO("event=member_removed volume={} segment={} replica={}", name, segment,
                replica.ToString());
  co_return absl::OkStatus();
}

io::Task<absl::Status> VolumeHost::SetMinInSync(std::string name, std::uint32_t copies) {
  CO_ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  CO_RETURN_IF_ERROR(co_await engine->SetMinInSync(copies));
  KEEL_LOG_INFO("event=min_in_sync_set volume={} copies={}", name, copies);
  co_return absl::OkStatus();
}

io::Task<absl::Status> VolumeHost::SetClients(std::string name, std::uint64_t attachment,
                                              std::vector<engine::ListedClient> clients) {
  CO_ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  if (engine->epoch().attachment != attachment) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("volume '", name, "' is attached under attachment ",
                     engine->epoch().attachment, " and not ", attachment));
  }
  const std::size_t count = clients.size();
  attachments_.find(name)->second.clients->Replace(std::move(clients));
  KEEL_LOG_INFO("event=clients_set volume={} attachment={} clients={}", name, attachment, count);
  const std::int64_t limit_ns = reactor_->NowNanos() + kDrainPatienceNanos;
  for (;;) {
    // Looked up each time: a detach, which drains them too, does not wait for this.
    const auto found = attachments_.find(name);
    const bool ending = std::find(ending_.begin(), ending_.end(), name) != ending_.end();
    if (!ending && (found == attachments_.end() || found->second.clients->drained())) {
      co_return absl::OkStatus();
    }
    if (reactor_->NowNanos() >= limit_ns) break;
    co_await reactor_->SleepFor(kPollNanos);
  }
  co_return absl::UnavailableError(
      absl::StrCat("volume '", name,
                   "' serves no other clients any more than those on the list, but requests of ",
                   "one that left still run; ask again, and see what the volume waits for"));
}

io::Task<absl::Status> VolumeHost::AddSegments(
    std::string name, google::protobuf::RepeatedPtrField<v1::SegmentHint> segments) {
  CO_ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  const replica::Configuration first = engine->segment(0).Status().configuration;
  CO_ASSIGN_OR_RETURN(std::vector<engine::SegmentHint> hints,
                      ParseSegments(segments, first.volume));
  const std::uint64_t full_bytes = first.segment_bytes * engine->segment_count();
  if (engine->size_bytes() < full_bytes) CO_RETURN_IF_ERROR(co_await engine->Grow(full_bytes));
  CO_RETURN_IF_ERROR(co_await engine->AddSegments(std::move(hints)));
  KEEL_LOG_INFO("event=segments_added volume={} segments={}", name, engine->segment_count());
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<v1::Volume>> VolumeHost::Grow(std::string name, std::uint64_t size_bytes) {
  CO_ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  if (engine->size_bytes() != size_bytes) CO_RETURN_IF_ERROR(co_await engine->Grow(size_bytes));
  KEEL_LOG_INFO("event=volume_grown volume={} size_bytes={}", name, size_bytes);
  co_return Describe(name, attachments_.find(name)->second);
}

io::Task<absl::StatusOr<v1::Snapshot>> VolumeHost::CreateSnapshot(std::string name,
                                                                  std::string snapshot,
                                                                  std::optional<pool::Uuid> hold) {
  CO_ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  const absl::StatusOr<pool::SnapshotId> taken =
      co_await engine->Snapshot(snapshot, UnixNanos(), hold);
  if (!taken.ok()) co_return taken.status();
  KEEL_LOG_INFO("event=snapshot_created volume={} snapshot={}", name, snapshot);
  std::vector<v1::Snapshot> snapshots = DescribeSnapshots(engine);
  for (v1::Snapshot& made : snapshots) {
    if (made.name() == snapshot) co_return std::move(made);
  }
  co_return absl::NotFoundError(
      absl::StrCat("volume '", name, "': snapshot '", snapshot, "' was deleted meanwhile"));
}

io::Task<absl::Status> VolumeHost::HoldWrites(std::string name, pool::Uuid hold,
                                              std::int64_t duration_ns) {
  CO_ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  co_return co_await engine->HoldWrites(hold, duration_ns);
}

absl::Status VolumeHost::ReleaseWrites(const std::string& name, pool::Uuid hold) {
  ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  engine->ReleaseWrites(hold);
  return absl::OkStatus();
}

io::Task<absl::Status> VolumeHost::DeleteSnapshot(std::string name, std::string snapshot) {
  CO_ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  CO_ASSIGN_OR_RETURN(const replica::ConfiguredSnapshot found,
                      FindSnapshot(engine, name, snapshot));
  CO_RETURN_IF_ERROR(co_await engine->DeleteSnapshot(found.id));
  KEEL_LOG_INFO("event=snapshot_deleted volume={} snapshot={}", name, snapshot);
  co_return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::Snapshot>> VolumeHost::Snapshots(const std::string& name) const {
  ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  return DescribeSnapshots(engine);
}

absl::StatusOr<v1::GetVolumeStatusResponse> VolumeHost::Status(const std::string& name) const {
  ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  v1::GetVolumeStatusResponse status = DescribeEngine(name, engine);
  if (attachments_.find(name)->second.shown) status.set_uri(frontend_->Uri(name));
  for (const engine::ClientStatus& client : attachments_.find(name)->second.clients->Status()) {
    *status.add_clients() = ToMessage(client);
  }
  return status;
}

absl::Status VolumeHost::StartScrub(const std::string& name, const engine::ScrubOptions& options) {
  ASSIGN_OR_RETURN(engine::Engine * engine, Find(name));
  return engine->StartScrub(options);
}

void VolumeHost::AddScrubbable(std::vector<ScrubSchedule::Volume>* volumes) const {
  for (const auto& [name, attachment] : attachments_) {
    const engine::Engine& engine = *attachment.engine;
    if (engine.health().ok()) volumes->push_back({name, engine.scrubbing()});
  }
}

v1::Volume VolumeHost::Describe(const std::string& name, const Attachment& attachment) const {
  const replica::Configuration configuration = attachment.engine->segment(0).Status().configuration;
  v1::Volume volume;
  volume.set_name(name);
  volume.set_size_bytes(attachment.engine->size_bytes());
  volume.set_snapshot_count(static_cast<std::uint32_t>(configuration.snapshots.size()));
  volume.set_attached(true);
  volume.set_read_only(attachment.read_only);
  if (attachment.shown) volume.set_uri(frontend_->Uri(name));
  volume.set_error(std::string(attachment.engine->health().message()));
  return volume;
}

std::vector<v1::Volume> VolumeHost::Volumes() const {
  std::vector<v1::Volume> volumes;
  for (const auto& [name, attachment] : attachments_) {
    volumes.push_back(Describe(name, attachment));
  }
  return volumes;
}

std::vector<VolumeCounters> VolumeHost::Counters() const {
  std::vector<VolumeCounters> counters;
  for (const auto& [name, attachment] : attachments_) {
    counters.push_back(VolumeCounters::Of(name, attachment.engine.get()));
  }
  return counters;
}

}  // namespace keelson::service
