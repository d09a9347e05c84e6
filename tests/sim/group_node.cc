#include "tests/sim/group_node.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/remote_replica.h"
#include "blockstore/io/status.h"
#include "tests/sim/probe.h"
#include "tests/sim/watch_port.h"

namespace keelson::sim {
namespace {

constexpr std::uint16_t kPort = 7400;
constexpr std::size_t kArenaBytes = std::size_t{8} << 20;

io::internal::Detached Discard(io::Task<absl::Status> task) {
  const absl::Status ignored = co_await std::move(task);
  static_cast<void>(ignored);
}

}  // namespace

GroupNode::GroupNode(World* world, GroupWatch* watch, std::size_t number)
    : world_(world),
      watch_(watch),
      machine_(world->AddMachine(absl::StrCat("10.0.0.", number + 1))) {}

void GroupNode::AddPool(std::uint64_t size_bytes) {
  PoolSlot slot;
  slot.id = pool::PoolId(world_->MakeId());
  watch_->MemoryLost(slot.incarnation);
  slot.size_bytes = size_bytes;
  slot.data_path = absl::StrCat("/pool", pools_.size(), "/data");
  slot.meta_path = absl::StrCat("/pool", pools_.size(), "/meta");
  slot.disk = machine_->AddDisk(slot.data_path, size_bytes + pool::kExtentBytes);
  slot.meta = machine_->AddMetaDisk(slot.meta_path);
  slot.disk->set_change_observer(
      [this, pool = pools_.size()](const io::IoOp& op) { CheckChange(pools_[pool], op); });
  to_format_.push_back(pools_.size());
  pools_.push_back(std::move(slot));
}

void GroupNode::Reformat(std::size_t pool) {
  PoolSlot& slot = pools_[pool];
  slot.id = pool::PoolId(world_->MakeId());
  to_format_.push_back(pool);
}

std::string GroupNode::address() const { return absl::StrCat(machine_->host(), ":", kPort); }

GroupNode::PoolSlot* GroupNode::FindPool(const pool::PoolId& id) {
  const auto found = std::find_if(pools_.begin(), pools_.end(),
                                  [&id](const PoolSlot& slot) { return slot.id == id; });
  return found == pools_.end() ? nullptr : &*found;
}

std::optional<CopyView> GroupNode::View(const pool::PoolId& pool, const pool::ReplicaId& replica) {
  PoolSlot* const slot = FindPool(pool);
  if (slot == nullptr || slot->store == nullptr || !slot->store->pool().health().ok()) {
    return std::nullopt;
  }
  const replica::Replica* const found = slot->store->Find(replica);
  if (found == nullptr || found->head() == nullptr) return std::nullopt;
  return CopyView(found, slot->disk);
}

void GroupNode::Start() {
  trouble_ = absl::OkStatus();
  process_ = world_->StartProcess(machine_, kArenaBytes);
  RunLife(this);
}

io::internal::Detached GroupNode::RunLife(GroupNode* node) {
  // A process begins on a turn of its own.
  auto turn = node->process_->Yield();
  co_await turn;
  for (std::size_t i = 0; i < node->pools_.size(); ++i) {
    absl::Status status = co_await node->OpenPool(i);
    if (!status.ok()) {
      node->trouble_ = status;
      co_return;
    }
  }
  io::Address address;
  address.host = node->machine_->host();
  address.port = kPort;
  absl::StatusOr<std::unique_ptr<io::Listener>> listener = node->process_->Listen(address);
  if (!listener.ok()) {
    node->trouble_ = listener.status();
    co_return;
  }
  node->server_ =
      std::make_unique<engine::ReplicaServer>(node->process_, node, engine::ReplicaServerOptions{});
  Discard(node->server_->Serve(*std::move(listener)));
  node->opened_ = true;
}

io::Task<absl::Status> GroupNode::Format(std::size_t pool) {
  PoolSlot& slot = pools_[pool];
  CO_ASSIGN_OR_RETURN(std::unique_ptr<io::File> data, process_->OpenFile(slot.data_path, {}));
  CO_ASSIGN_OR_RETURN(std::unique_ptr<pool::MetaStore> meta, slot.meta->Open(process_));
  const pool::PoolId id = slot.id;
  absl::Status status = co_await pool::Pool::Format(data.get(), meta.get(), id, true);
  co_return status;
}

io::Task<absl::Status> GroupNode::OpenPool(std::size_t pool) {
  if (std::find(to_format_.begin(), to_format_.end(), pool) != to_format_.end()) {
    // An earlier process may have died half-way.
    pools_[pool].meta->Erase();
    absl::Status formatted = co_await Format(pool);
    CO_RETURN_IF_ERROR(formatted);
    std::erase(to_format_, pool);
  }
  PoolSlot& slot = pools_[pool];
  pool::PoolDeps deps;
  deps.reactor = process_;
  CO_ASSIGN_OR_RETURN(deps.data, process_->OpenFile(slot.data_path, {}));
  CO_ASSIGN_OR_RETURN(deps.meta, slot.meta->Open(process_));
  deps.boot = machine_->boot();
  deps.make_id = [world = world_] { return world->MakeId(); };
  absl::StatusOr<std::unique_ptr<pool::Pool>> opened = co_await pool::Pool::Open(std::move(deps));
  if (!opened.ok()) co_return opened.status();
  std::unique_ptr<pool::Pool> pool_object = *std::move(opened);
  auto loaded = co_await replica::ReplicaStore::Open(std::move(pool_object));
  if (!loaded.ok()) co_return loaded.status();
  slot.store = *std::move(loaded);
  slot.flush_failures = slot.disk->flush_failures();
  const bool flush_failed = std::exchange(slot.flush_failed, false);
  const pool::Uuid& incarnation = slot.store->pool().incarnation();
  if (slot.incarnation != incarnation) {
    const bool first = slot.incarnation.is_nil();
    watch_->MemoryLost(slot.incarnation);
    slot.incarnation = incarnation;
    if (!first) slot.incarnation_since = slot.cut_at != 0 ? slot.cut_at : watch_->Tick();
  } else if (slot.cut_at != 0) {
    watch_->Violate("restarted-is-not-trusted",
                    absl::StrCat("a pool of ", name(),
                                 " has the incarnation it had before its machine lost power"));
  } else if (flush_failed) {
    watch_->Violate("restarted-is-not-trusted",
                    absl::StrCat("a pool of ", name(),
                                 " has the incarnation it had before its disk failed a flush"));
  }
  slot.cut_at = 0;
  co_return absl::OkStatus();
}

void GroupNode::Leak() {
  for (PoolSlot& slot : pools_) {
    // What was being recorded when the process died may not be on record.
    const bool failed = slot.store != nullptr && !slot.store->pool().health().ok();
    if (failed && slot.disk->flush_failures() > slot.flush_failures && !slot.meta->uncertain()) {
      slot.flush_failed = true;
    }
    static_cast<void>(slot.store.release());
    for (const pool::ReplicaId& member : slot.members) watch_->ProcessDied(member);
  }
  static_cast<void>(server_.release());
  process_ = nullptr;
  opened_ = false;
}

void GroupNode::Kill() {
  SimReactor* const process = process_;
  Leak();
  world_->Kill(process);
}

void GroupNode::PowerCut() {
  OnPowerLost();
  world_->PowerCut(machine_);
}

void GroupNode::OnPowerLost() {
  for (PoolSlot& slot : pools_) {
    slot.cut_at = watch_->Tick();
    watch_->MemoryLost(slot.incarnation);
  }
  Leak();
}

bool GroupNode::Healthy() const {
  return opened_ && std::all_of(pools_.begin(), pools_.end(), [](const PoolSlot& slot) {
           return slot.store != nullptr && slot.store->pool().health().ok();
         });
}

absl::StatusOr<std::unique_ptr<replica::ReplicaPort>> GroupNode::OpenPort(pool::PoolId pool,
                                                                          pool::ReplicaId replica) {
  PoolSlot* const slot = FindPool(pool);
  if (slot == nullptr || slot->store == nullptr) {
    return absl::NotFoundError(absl::StrCat("no pool ", pool.ToString(), " at ", name()));
  }
  if (std::find(slot->members.begin(), slot->members.end(), replica) == slot->members.end()) {
    slot->members.push_back(replica);
    watch_->SetDisk(replica, slot->disk);
  }
  std::unique_ptr<replica::ReplicaPort> port = slot->store->MakePort(replica);
  return std::make_unique<WatchPort>(world_, watch_, slot->store.get(), replica, std::move(port));
}

std::unique_ptr<replica::ReplicaPort> GroupNode::MakePort(const replica::Member& member) {
  std::unique_ptr<replica::ReplicaPort> port;
  if (IsLocal(member)) {
    port = *OpenPort(member.pool, member.replica);
    SIM_PROBE("group: an engine reached a member in its own process");
  } else {
    port = std::make_unique<engine::RemoteReplica>(process_, member);
  }
  return std::make_unique<EngineSidePort>(world_, watch_, member.replica, std::move(port));
}

bool GroupNode::IsLocal(const replica::Member& member) const {
  return std::any_of(pools_.begin(), pools_.end(), [&member](const PoolSlot& slot) {
    return slot.id == member.pool && slot.store != nullptr;
  });
}

}  // namespace keelson::sim
