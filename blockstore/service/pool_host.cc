#include "blockstore/service/pool_host.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/service/open_pool.h"
#include "blockstore/service/replica_messages.h"

namespace keelson::service {
namespace {

std::int64_t UnixNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

v1::Snapshot DescribeSnapshot(const replica::SnapshotInfo& info) {
  v1::Snapshot snapshot;
  snapshot.set_name(info.name);
  snapshot.set_size_bytes(info.size_bytes);
  snapshot.set_created_unix_ns(info.created_unix_ns);
  return snapshot;
}

io::Task<absl::Status> TakeSnapshot(engine::Engine* engine, std::string name,
                                    std::optional<pool::Uuid> hold) {
  absl::StatusOr<pool::SnapshotId> taken =
      co_await engine->Snapshot(std::move(name), UnixNanos(), hold);
  co_return taken.status();
}

// It is a replica of a volume that other members or segments belong to, or a witness.
bool IsPartOfMore(const replica::ReplicaInfo& info) {
  if (info.witness || info.segment != 0) return true;
  return info.configuration.has_value() &&
         (info.configuration->members.size() > 1 || info.configuration->segment_count > 1);
}

absl::Status NotAttached(const std::string& name) {
  return absl::NotFoundError(absl::StrCat("volume '", name, "' is not attached on this node"));
}

absl::StatusOr<pool::SnapshotId> SnapshotMeant(const replica::Configuration& configuration,
                                               const PoolHost::SnapshotRef& ref) {
  for (const replica::ConfiguredSnapshot& snapshot : configuration.snapshots) {
    const bool meant =
        ref.id.empty() ? snapshot.name == ref.name : snapshot.id.ToString() == ref.id;
    if (meant && snapshot.complete) return snapshot.id;
  }
  return absl::NotFoundError(absl::StrCat("volume '", configuration.volume_name,
                                          "' has no snapshot '", ref.id.empty() ? ref.name : ref.id,
                                          "'"));
}

const char* ModeName(bool read_only) { return read_only ? "read-only" : "read-write"; }

}  // namespace

PoolHost::PoolHost(NbdFrontend* frontend, std::string directory,
                   std::unique_ptr<replica::ReplicaStore> store)
    : frontend_(frontend), directory_(std::move(directory)), store_(std::move(store)) {}

io::Task<absl::StatusOr<std::unique_ptr<PoolHost>>> PoolHost::Open(io::Reactor* reactor,
                                                                   NbdFrontend* frontend,
                                                                   std::string directory,
                                                                   std::int64_t lock_patience_ns) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<replica::ReplicaStore> store,
                      co_await service::OpenPool(reactor, directory, lock_patience_ns));
  co_return std::unique_ptr<PoolHost>(
      new PoolHost(frontend, std::move(directory), std::move(store)));
}

void PoolHost::LetGo() {
  for (const auto& [name, attachment] : attachments_) attachment.engine->LetGo();
}

io::Task<void> PoolHost::DetachAll() {
  for (auto& [name, attachment] : attachments_) {
    const absl::Status status = co_await attachment.engine->Detach();
    if (!status.ok()) {
      KEEL_LOG_WARN("event=detach_failed volume={} pool={} error=\"{}\"", name, directory_,
                    std::string(status.message()));
    }
  }
  attachments_.clear();
}

io::Task<absl::Status> PoolHost::Close() { return store_->Close(); }

std::vector<std::string> PoolHost::ToResume() const {
  std::vector<std::string> names;
  for (const replica::ReplicaInfo& info : store_->List()) {
    const bool resumes = info.attached && !IsPartOfMore(info);
    if (resumes && FindEngine(info.name) == nullptr) names.push_back(info.name);
  }
  return names;
}

io::Task<void> PoolHost::Resume(std::string name, bool read_only, engine::QosLimits qos) {
  absl::StatusOr<std::string> uri = co_await Attach(name, read_only, qos);
  if (uri.ok()) {
    KEEL_LOG_INFO("event=volume_resumed volume={} pool={} mode={}", name, directory_,
                  ModeName(read_only));
    co_return;
  }
  KEEL_LOG_ERROR(
      "event=resume_failed volume={} pool={} error=\"{}\" remedy=\"mend the cause, then detach and "
      "attach the volume\"",
      name, directory_, std::string(uri.status().message()));
  SetError(name, std::string(uri.status().message()));
}

absl::StatusOr<replica::ReplicaInfo> PoolHost::Info(std::string_view name) const {
  for (replica::ReplicaInfo& info : store_->List()) {
    if (info.name == name) return std::move(info);
  }
  return absl::NotFoundError(
      absl::StrCat("there is no volume '", std::string(name), "' in pool ", directory_));
}

absl::StatusOr<replica::SnapshotInfo> PoolHost::FindSnapshot(std::string_view volume,
                                                             std::string_view name) const {
  ASSIGN_OR_RETURN(replica::ReplicaInfo info, Info(volume));
  for (replica::SnapshotInfo& snapshot : info.snapshots) {
    if (snapshot.name == name) return std::move(snapshot);
  }
  return absl::NotFoundError(
      absl::StrCat("volume '", std::string(volume), "' has no snapshot '", std::string(name), "'"));
}

engine::Engine* PoolHost::FindEngine(std::string_view name) const {
  const auto found = attachments_.find(name);
  return found == attachments_.end() ? nullptr : found->second.engine.get();
}

io::Task<absl::StatusOr<v1::Volume>> PoolHost::CreateVolume(std::string name,
                                                            std::uint64_t size_bytes) {
  CO_ASSIGN_OR_RETURN([[maybe_unused]] const pool::ReplicaId id,
                      co_await store_->Create(name, size_bytes, UnixNanos()));
  KEEL_LOG_INFO("event=volume_created volume={} pool={} size_bytes={}", name, directory_,
                size_bytes);
  co_return Describe(name);
}

io::Task<absl::Status> PoolHost::DeleteVolume(std::string name) {
  CO_ASSIGN_OR_RETURN(const replica::ReplicaInfo info, Info(name));
  if (FindEngine(name) != nullptr) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("volume '", name, "' is attached; detach it before deleting it"));
  }
  if (IsPartOfMore(info)) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("volume '", name, "' has other members; delete it on all nodes with ",
                     "`keelctl --node ... volume delete`"));
  }
  CO_RETURN_IF_ERROR(co_await store_->Delete(info.id));
  errors_.erase(name);
  KEEL_LOG_INFO("event=volume_deleted volume={} pool={}", name, directory_);
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<v1::Volume>> PoolHost::GrowVolume(std::string name,
                                                          std::uint64_t size_bytes) {
  CO_ASSIGN_OR_RETURN(const replica::ReplicaInfo info, Info(name));
  EngineChange change = [size_bytes](engine::Engine* engine) { return engine->Grow(size_bytes); };
  CO_RETURN_IF_ERROR(co_await Change(name, info.id, std::move(change)));
  KEEL_LOG_INFO("event=volume_grown volume={} pool={} size_bytes={}", name, directory_, size_bytes);
  co_return Describe(name);
}

io::Task<absl::StatusOr<v1::Volume>> PoolHost::CloneVolume(std::string source, std::string snapshot,
                                                           std::string name,
                                                           std::uint64_t size_bytes) {
  CO_ASSIGN_OR_RETURN(const replica::ReplicaInfo info, Info(source));
  CO_ASSIGN_OR_RETURN(const replica::SnapshotInfo found, FindSnapshot(source, snapshot));
  CO_ASSIGN_OR_RETURN([[maybe_unused]] const pool::ReplicaId id,
                      co_await store_->Clone(info.id, found.id, name, size_bytes, UnixNanos()));
  KEEL_LOG_INFO("event=volume_cloned volume={} source={} snapshot={} pool={}", name, source,
                snapshot, directory_);
  co_return Describe(name);
}

io::Task<absl::StatusOr<v1::Snapshot>> PoolHost::CreateSnapshot(std::string volume,
                                                                std::string name,
                                                                std::optional<pool::Uuid> hold) {
  CO_ASSIGN_OR_RETURN(const replica::ReplicaInfo info, Info(volume));
  EngineChange change = [name, hold](engine::Engine* engine) {
    return TakeSnapshot(engine, name, hold);
  };
  CO_RETURN_IF_ERROR(co_await Change(volume, info.id, std::move(change)));
  KEEL_LOG_INFO("event=snapshot_created volume={} snapshot={} pool={}", volume, name, directory_);
  CO_ASSIGN_OR_RETURN(const replica::SnapshotInfo made, FindSnapshot(volume, name));
  co_return DescribeSnapshot(made);
}

io::Task<absl::Status> PoolHost::HoldWrites(std::string name, pool::Uuid hold,
                                            std::int64_t duration_ns) {
  engine::Engine* engine = FindEngine(name);
  if (engine == nullptr) co_return NotAttached(name);
  co_return co_await engine->HoldWrites(hold, duration_ns);
}

absl::Status PoolHost::ReleaseWrites(const std::string& name, pool::Uuid hold) {
  engine::Engine* engine = FindEngine(name);
  if (engine == nullptr) return NotAttached(name);
  engine->ReleaseWrites(hold);
  return absl::OkStatus();
}

io::Task<absl::Status> PoolHost::DeleteSnapshot(std::string volume, std::string name) {
  CO_ASSIGN_OR_RETURN(const replica::ReplicaInfo info, Info(volume));
  CO_ASSIGN_OR_RETURN(const replica::SnapshotInfo found, FindSnapshot(volume, name));
  EngineChange change = [id = found.id](engine::Engine* engine) {
    return engine->DeleteSnapshot(id);
  };
  CO_RETURN_IF_ERROR(co_await Change(volume, info.id, std::move(change)));
  KEEL_LOG_INFO("event=snapshot_deleted volume={} snapshot={} pool={}", volume, name, directory_);
  co_return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::Snapshot>> PoolHost::Snapshots(std::string_view volume) const {
  ASSIGN_OR_RETURN(const replica::ReplicaInfo info, Info(volume));
  std::vector<v1::Snapshot> snapshots;
  snapshots.reserve(info.snapshots.size());
  for (const replica::SnapshotInfo& snapshot : info.snapshots) {
    snapshots.push_back(DescribeSnapshot(snapshot));
  }
  return snapshots;
}

absl::StatusOr<std::optional<PoolHost::SegmentBlocks>> PoolHost::ListBlocks(
    std::string_view volume, std::uint32_t segment, const SnapshotRef& snapshot,
    const SnapshotRef& base, std::uint64_t from_offset, std::size_t ranges_max) const {
  for (const replica::ReplicaInfo& info : store_->List()) {
    if (info.name != volume || info.segment != segment || info.witness) continue;
    if (!info.configuration.has_value() || info.configuration->quarantined()) continue;
    const replica::Configuration& configuration = *info.configuration;
    const replica::Member* member = configuration.Find(store_->pool().id(), info.id);
    // One that is not InSync may lack parts of the snapshots that its record has.
    if (member == nullptr || member->state != replica::MemberState::kInSync) continue;
    replica::BlockListQuery query;
    ASSIGN_OR_RETURN(query.snapshot, SnapshotMeant(configuration, snapshot));
    if (!base.empty()) {
      const absl::StatusOr<pool::SnapshotId> older = SnapshotMeant(configuration, base);
      if (older.ok()) query.base = *older;
      // A later segment may have come after it: then all that it has is new.
      if (!older.ok() && segment == 0) return older.status();
    }
    query.from_offset = from_offset;
    query.ranges_max = ranges_max;
    SegmentBlocks blocks;
    ASSIGN_OR_RETURN(blocks.list, replica::ListBlocks(*store_->Find(info.id), query));
    blocks.segment_count = configuration.segment_count;
    blocks.segment_bytes = configuration.segment_bytes;
    return blocks;
  }
  return std::nullopt;
}

void PoolHost::SetQos(const std::string& name, const engine::QosLimits& limits) {
  if (engine::Engine* engine = FindEngine(name); engine != nullptr) engine->SetQos(limits);
}

io::Task<absl::StatusOr<std::string>> PoolHost::Attach(std::string name, bool read_only,
                                                       engine::QosLimits qos) {
  if (const auto found = attachments_.find(name); found != attachments_.end()) {
    if (found->second.read_only == read_only) co_return frontend_->Uri(name);
    co_return absl::FailedPreconditionError(
        absl::StrCat("volume '", name, "' is attached ", ModeName(!read_only),
                     "; detach it before attaching it ", ModeName(read_only)));
  }
  if (frontend_->Attached(name) != nullptr) {
    co_return absl::FailedPreconditionError(absl::StrCat(
        "a replicated volume '", name, "' is attached on this node; detach that one first"));
  }
  CO_ASSIGN_OR_RETURN(const replica::ReplicaInfo info, Info(name));
  engine::EngineOptions options;
  options.read_only = read_only;
  options.qos = qos;
  CO_ASSIGN_OR_RETURN(std::unique_ptr<engine::Engine> engine,
                      co_await engine::Engine::Attach(store_.get(), info.id, options));
  absl::Status marked = co_await store_->SetAttached(info.id, true);
  if (marked.ok() && frontend_->Attached(name) != nullptr) {
    marked = absl::FailedPreconditionError(absl::StrCat(
        "a replicated volume '", name, "' was attached on this node meanwhile; detach it first"));
  }
  if (!marked.ok()) {
    // Why the volume is not served is in `marked`; how the attachment ends adds nothing.
    (void)co_await engine->Detach();
    co_return marked;
  }
  frontend_->Add(name, engine.get());
  attachments_[name] = Attachment{std::move(engine), read_only};
  errors_.erase(name);
  co_return frontend_->Uri(name);
}

io::Task<absl::Status> PoolHost::Detach(std::string name) {
  const auto found = attachments_.find(name);
  if (found == attachments_.end()) {
    CO_ASSIGN_OR_RETURN(const replica::ReplicaInfo info, Info(name));
    CO_RETURN_IF_ERROR(co_await store_->SetAttached(info.id, false));
    errors_.erase(name);
    co_return absl::OkStatus();
  }
  CO_ASSIGN_OR_RETURN(const replica::ReplicaInfo info, Info(name));
  found->second.engine->LetGo();
  co_await frontend_->Remove(name);
  absl::Status status = co_await found->second.engine->Detach();
  attachments_.erase(found);
  if (status.ok()) status = co_await store_->SetAttached(info.id, false);
  if (!status.ok()) {
    // The volume is not served any more, but its record may still say that it is attached.
    SetError(name, std::string(status.message()));
    co_return status;
  }
  KEEL_LOG_INFO("event=volume_detached volume={} pool={}", name, directory_);
  co_return absl::OkStatus();
}

io::Task<absl::Status> PoolHost::Change(std::string name, pool::ReplicaId id, EngineChange change) {
  engine::Engine* serving = FindEngine(name);
  if (serving != nullptr) co_return co_await change(serving);
  CO_ASSIGN_OR_RETURN(std::unique_ptr<engine::Engine> engine,
                      co_await engine::Engine::Attach(store_.get(), id, engine::EngineOptions{}));
  absl::Status status = co_await change(engine.get());
  absl::Status detached = co_await engine->Detach();
  co_return status.ok() ? detached : status;
}

absl::StatusOr<v1::GetVolumeStatusResponse> PoolHost::Status(const std::string& name) const {
  engine::Engine* engine = FindEngine(name);
  if (engine == nullptr) return NotAttached(name);
  v1::GetVolumeStatusResponse status = DescribeEngine(name, engine);
  status.set_uri(frontend_->Uri(name));
  return status;
}

absl::Status PoolHost::StartScrub(const std::string& name, const engine::ScrubOptions& options) {
  engine::Engine* engine = FindEngine(name);
  if (engine != nullptr) return engine->StartScrub(options);
  return absl::NotFoundError(
      absl::StrCat("volume '", name, "' is not attached on this node; attach it to scrub it"));
}

void PoolHost::AddScrubbable(std::vector<ScrubSchedule::Volume>* volumes) const {
  for (const auto& [name, attachment] : attachments_) {
    const engine::Engine& engine = *attachment.engine;
    if (engine.health().ok()) volumes->push_back({name, engine.scrubbing()});
  }
}

io::Task<absl::StatusOr<v1::Replica>> PoolHost::CreateReplica(replica::NewMember member) {
  const pool::ReplicaId id = member.replica;
  const std::string name = member.name;
  member.created_unix_ns = UnixNanos();
  CO_RETURN_IF_ERROR(co_await store_->CreateMember(std::move(member)));
  KEEL_LOG_INFO("event=replica_created volume={} replica={} pool={}", name, id.ToString(),
                directory_);
  for (const replica::ReplicaInfo& info : store_->List()) {
    if (info.id == id) co_return ToMessage(info, store_->pool());
  }
  co_return absl::NotFoundError(
      absl::StrCat("replica ", id.ToString(), " was deleted while it was made"));
}

io::Task<absl::Status> PoolHost::DeleteReplica(pool::ReplicaId id) {
  if (store_->Find(id) == nullptr) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(co_await store_->Delete(id));
  KEEL_LOG_INFO("event=replica_deleted replica={} pool={}", id.ToString(), directory_);
  co_return absl::OkStatus();
}

std::vector<v1::Replica> PoolHost::Replicas(std::string_view snapshots_of) const {
  std::vector<v1::Replica> replicas;
  for (const replica::ReplicaInfo& info : store_->List()) {
    v1::Replica& replica = replicas.emplace_back(ToMessage(info, store_->pool()));
    if (info.name != snapshots_of || !info.configuration.has_value()) continue;
    for (const replica::ConfiguredSnapshot& snapshot : info.configuration->snapshots) {
      *replica.mutable_configuration()->add_snapshots() = ToMessage(snapshot);
    }
  }
  return replicas;
}

io::Task<absl::StatusOr<replica::CheckReport>> PoolHost::Check(replica::CheckOptions options) {
  return replica::CheckPool(store_.get(), options);
}

io::Task<absl::StatusOr<std::vector<std::string>>> PoolHost::Dump() {
  return replica::DumpPool(store_.get());
}

v1::Pool PoolHost::Describe() const {
  const pool::PoolSpace space = store_->pool().space();
  v1::Pool pool;
  pool.set_id(store_->pool().id().ToString());
  pool.set_directory(directory_);
  pool.set_error(std::string(store_->pool().health().message()));
  pool.set_capacity_bytes(space.capacity_bytes);
  pool.set_used_bytes(space.used_bytes);
  pool.set_free_bytes(space.free_bytes);
  pool.set_reclaiming_bytes(space.reclaiming_bytes);
  pool.set_volume_count(store_->List().size());
  pool.set_incarnation(store_->pool().incarnation().ToString());
  return pool;
}

absl::StatusOr<v1::Volume> PoolHost::Describe(std::string_view name) const {
  ASSIGN_OR_RETURN(const replica::ReplicaInfo info, Info(name));
  return Describe(info);
}

v1::Volume PoolHost::Describe(const replica::ReplicaInfo& info) const {
  v1::Volume volume;
  volume.set_name(info.name);
  volume.set_pool_id(store_->pool().id().ToString());
  volume.set_size_bytes(info.size_bytes);
  volume.set_allocated_bytes(info.allocated_bytes);
  volume.set_created_unix_ns(info.created_unix_ns);
  volume.set_snapshot_count(static_cast<std::uint32_t>(info.snapshots.size()));
  if (const auto found = attachments_.find(info.name); found != attachments_.end()) {
    volume.set_attached(true);
    volume.set_read_only(found->second.read_only);
    volume.set_uri(frontend_->Uri(info.name));
  }
  if (const auto found = errors_.find(info.name); found != errors_.end()) {
    volume.set_error(found->second);
  }
  return volume;
}

std::vector<v1::Volume> PoolHost::Volumes() const {
  std::vector<v1::Volume> volumes;
  for (const replica::ReplicaInfo& info : store_->List()) {
    if (!IsPartOfMore(info)) volumes.push_back(Describe(info));
  }
  return volumes;
}

std::vector<VolumeCounters> PoolHost::AttachedCounters() const {
  std::vector<VolumeCounters> result;
  result.reserve(attachments_.size());
  for (const auto& [name, attachment] : attachments_) {
    result.push_back(VolumeCounters::Of(name, attachment.engine.get()));
  }
  return result;
}

}  // namespace keelson::service
