#include "blockstore/service/node.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/pool_directory.h"
#include "blockstore/service/open_pool.h"

namespace keelson::service {
namespace {

constexpr std::chrono::seconds kResumeInterval{1};
constexpr std::size_t kArenaBytesMin = std::size_t{4} << 20;

std::string Normalised(const std::string& directory) {
  std::string path = std::filesystem::path(directory).lexically_normal();
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

v1::CheckPoolResponse DescribeCheck(const replica::CheckReport& report) {
  v1::CheckPoolResponse response;
  response.set_replicas(report.replicas);
  response.set_layers(report.layers);
  response.set_extents(report.extents);
  response.set_blocks_present(report.blocks_present);
  response.set_checksums(report.checksums);
  response.set_blocks_verified(report.blocks_verified);
  for (const std::string& problem : report.problems) response.add_problems(problem);
  for (const std::string& repaired : report.repaired) response.add_repaired(repaired);
  return response;
}

}  // namespace

Node::Node(NodeOptions options) : options_(std::move(options)), state_(options_.state_directory) {}

Node::~Node() = default;

absl::StatusOr<std::unique_ptr<Node>> Node::Start(const NodeOptions& options) {
  auto node = std::unique_ptr<Node>(new Node(options));
  RETURN_IF_ERROR(MakeDirectory(options.state_directory));
  RETURN_IF_ERROR(MakeDirectory(options.run_directory));
  ASSIGN_OR_RETURN(node->state_lock_, FileLock::Take(options.state_directory + "/lock"));
  ASSIGN_OR_RETURN(node->run_lock_, FileLock::Take(options.run_directory + "/lock"));
  RETURN_IF_ERROR(node->state_.Load());
  node->devices_ = std::make_unique<LoopFrontend>(options.run_directory);
  RETURN_IF_ERROR(node->devices_->Recover());
  if (const absl::Status status = node->StartShards(); !status.ok()) {
    node->Stop();
    return status;
  }
  return node;
}

absl::Status Node::StartShards() {
  if (options_.nbd_tcp && options_.reactor_count > 1) {
    return absl::InvalidArgumentError("NBD over TCP works with one reactor only");
  }
  if (options_.data_listen && options_.reactor_count > 1) {
    return absl::InvalidArgumentError(
        "the data port (--data-listen) works with one reactor only: --reactors 1");
  }
  if (options_.client_listen && options_.reactor_count > 1) {
    return absl::InvalidArgumentError(
        "the client port (--client-listen) works with one reactor only: --reactors 1");
  }
  io::ReactorOptions reactor_options;
  reactor_options.backend = options_.backend;
  reactor_options.buffer_arena_bytes = options_.buffer_bytes;
  for (std::size_t i = 0; i < options_.reactor_count; ++i) {
    const std::string socket =
        options_.reactor_count == 1 ? "nbd.sock" : absl::StrCat("nbd-", i, ".sock");
    ASSIGN_OR_RETURN(
        std::unique_ptr<Shard> shard,
        Shard::Start(reactor_options, i,
                     {absl::StrCat(options_.run_directory, "/", socket), options_.nbd_tcp,
                      options_.data_listen, options_.client_listen, options_.lock_patience_ns},
                     options_.segment, options_.remote));
    if (options_.scrub_interval_ns > 0) {
      shard->thread().Run([this, &shard] {
        shard->ScheduleScrubs(options_.scrub_interval_ns, options_.scrub_bytes_per_second);
      });
    }
    shards_.push_back(std::move(shard));
  }
  return absl::OkStatus();
}

void Node::OpenPools() {
  for (const std::string& directory : options_.pools) SlotFor(Normalised(directory));
  for (const std::string& directory : state_.pools()) SlotFor(directory);
  RefuseCopies();
  std::vector<Slot*> opened;
  std::vector<std::future<absl::StatusOr<PoolHost*>>> opening;
  for (const std::unique_ptr<Slot>& slot : slots_) {
    if (slot->copied) continue;
    Shard* shard = slot->shard;
    opened.push_back(slot.get());
    opening.push_back(shard->thread().Submit(
        [shard, directory = slot->directory, patience_ns = options_.lock_patience_ns] {
          return shard->OpenPool(directory, patience_ns);
        }));
  }
  for (std::size_t i = 0; i < opening.size(); ++i) Opened(opened[i], opening[i].get());
  for (Slot* slot : OpenSlots()) IndexVolumes(slot);
  ready_ = true;
  // The other nodes may start later, or not at all: nothing here waits for them.
  resuming_ = std::make_unique<Retry>(kResumeInterval, [this] {
    const bool attached = ResumeAttachments();
    return ResumeDevices() && attached;
  });
}

// Two folders with one identity: one of them is a copy, and which of them has the newest data
// nobody here can know. Serving the wrong one would lose what the other one has, so neither is
// opened.
void Node::RefuseCopies() {
  std::map<std::string, Slot*> first;
  std::lock_guard lock(tables_mutex_);
  for (const std::unique_ptr<Slot>& slot : slots_) {
    const absl::StatusOr<pool::PoolId> id = ReadPoolId(slot->directory);
    if (!id.ok()) continue;  // whoever opens it says why
    const auto [found, inserted] = first.emplace(id->ToString(), slot.get());
    if (inserted) continue;
    const auto refuse = [&id](Slot* one, const Slot& other) {
      one->copied = true;
      one->error = absl::StrCat("it and ", other.directory, " are the same pool, ", id->ToString(),
                                ": one is a copy of the other; take the copy out of the daemon's "
                                "pools and restart it");
      KEEL_LOG_ERROR("event=pool_copied pool={} error=\"{}\"", one->directory, one->error);
    };
    refuse(found->second, *slot);
    refuse(slot.get(), *found->second);
  }
}

void Node::Stop() {
  ready_ = false;
  resuming_.reset();
  std::vector<std::future<void>> closing;
  closing.reserve(shards_.size());
  for (const std::unique_ptr<Shard>& shard : shards_) {
    closing.push_back(shard->thread().Submit([&shard] { return shard->Close(); }));
  }
  for (std::future<void>& closed : closing) closed.get();
  devices_.reset();
  shards_.clear();
}

absl::Status Node::Ready() const {
  if (ready_) return absl::OkStatus();
  return absl::UnavailableError("keelson-blockstore is still opening its pools; try again");
}

// Adds a slot for `directory` if there is none. Pool i lives on reactor i mod N.
Node::Slot* Node::SlotFor(const std::string& directory) {
  std::lock_guard lock(tables_mutex_);
  for (const std::unique_ptr<Slot>& slot : slots_) {
    if (slot->directory == directory) return slot.get();
  }
  auto slot = std::make_unique<Slot>();
  slot->directory = directory;
  slot->shard = shards_[slots_.size() % shards_.size()].get();
  slot->error = "it is being opened";
  slots_.push_back(std::move(slot));
  return slots_.back().get();
}

void Node::Opened(Slot* slot, const absl::StatusOr<PoolHost*>& host) {
  if (!host.ok()) {
    KEEL_LOG_ERROR(
        "event=pool_open_failed pool={} error=\"{}\" remedy=\"mend the cause and restart the "
        "daemon; the other pools are served\"",
        slot->directory, std::string(host.status().message()));
    std::lock_guard lock(tables_mutex_);
    slot->error = std::string(host.status().message());
    return;
  }
  const v1::Pool pool = slot->shard->thread().Run([found = *host] { return found->Describe(); });
  std::lock_guard lock(tables_mutex_);
  slot->host = *host;
  slot->id = pool.id();
  slot->error.clear();
}

// Enters the pool's volumes into the table and resumes those that were attached.
void Node::IndexVolumes(Slot* slot) {
  PoolHost* host = slot->host;
  const std::vector<v1::Volume> volumes =
      slot->shard->thread().Run([host] { return host->Volumes(); });
  std::vector<std::string> to_resume =
      slot->shard->thread().Run([host] { return host->ToResume(); });
  for (const v1::Volume& volume : volumes) {
    if (ReserveName(volume.name(), slot).ok()) continue;
    std::string error = absl::StrCat("another pool has a volume named '", volume.name(),
                                     "', which is the one that is served");
    KEEL_LOG_ERROR(
        "event=volume_name_taken volume={} pool={} remedy=\"delete or copy one of the two, each "
        "with only its own pool open\"",
        volume.name(), slot->directory);
    slot->shard->thread().Run(
        [host, name = volume.name(), &error] { host->SetError(name, error); });
    std::erase(to_resume, volume.name());
  }
  for (const std::string& name : to_resume) {
    const bool read_only = state_.IsReadOnly(name);
    const engine::QosLimits qos = state_.FindQos(name);
    slot->shard->thread().Run(
        [host, name, read_only, qos] { return host->Resume(name, read_only, qos); });
  }
}

std::vector<Node::Slot*> Node::OpenSlots() {
  std::lock_guard lock(tables_mutex_);
  std::vector<Slot*> open;
  for (const std::unique_ptr<Slot>& slot : slots_) {
    if (slot->host != nullptr) open.push_back(slot.get());
  }
  return open;
}

absl::StatusOr<Node::Slot*> Node::FindPool(std::string_view pool) {
  const std::string directory = Normalised(std::string(pool));
  std::lock_guard lock(tables_mutex_);
  for (const std::unique_ptr<Slot>& slot : slots_) {
    if (slot->directory != directory && (slot->id.empty() || slot->id != pool)) continue;
    if (slot->host != nullptr) return slot.get();
    return absl::UnavailableError(
        absl::StrCat("pool ", slot->directory, " is not open: ", slot->error));
  }
  return absl::NotFoundError(absl::StrCat("this daemon has no pool '", std::string(pool),
                                          "'; name one of its pools by id or directory"));
}

absl::Status Node::CreatePool(const v1::CreatePoolRequest& request,
                              v1::CreatePoolResponse* response) {
  RETURN_IF_ERROR(Ready());
  if (request.directory().empty() || request.directory()[0] != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("pool directory '", request.directory(), "' must be an absolute path"));
  }
  const std::string directory = Normalised(request.directory());
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard,
                   pool_creation_.Take("make another pool", kPatience));
  for (Slot* open : OpenSlots()) {
    if (open->directory == directory) {
      return absl::AlreadyExistsError(absl::StrCat(directory, " is already a pool of this daemon"));
    }
  }
  RETURN_IF_ERROR(MakePool(request, directory));
  Slot* slot = SlotFor(directory);
  absl::StatusOr<PoolHost*> host = slot->shard->thread().Run(
      [slot, &directory] { return slot->shard->OpenPool(directory, kLockPatienceNanos); });
  Opened(slot, host);
  if (!host.ok()) return host.status();
  RETURN_IF_ERROR(state_.AddPool(directory));
  *response->mutable_pool() = slot->shard->thread().Run([&host] { return (*host)->Describe(); });
  return absl::OkStatus();
}

// On a reactor of its own: preallocating a big file blocks, and the pools that serve must not wait.
absl::Status Node::MakePool(const v1::CreatePoolRequest& request, const std::string& directory) {
  io::ReactorOptions reactor_options;
  reactor_options.backend = options_.backend;
  reactor_options.buffer_arena_bytes = kArenaBytesMin;
  ASSIGN_OR_RETURN(const std::unique_ptr<ReactorThread> maker,
                   ReactorThread::Start(reactor_options, "pool-maker"));
  pool::CreatePoolOptions create;
  create.directory = directory;
  create.device = request.device();
  create.size_bytes = request.size_bytes();
  create.force = request.force();
  return maker
      ->Run([&maker, &create] { return pool::CreatePoolDirectory(&maker->reactor(), create); })
      .status();
}

absl::Status Node::ListPools(const v1::ListPoolsRequest&, v1::ListPoolsResponse* response) {
  RETURN_IF_ERROR(Ready());
  std::vector<Slot*> slots;
  {
    std::lock_guard lock(tables_mutex_);
    for (const std::unique_ptr<Slot>& slot : slots_) slots.push_back(slot.get());
  }
  for (Slot* slot : slots) {
    PoolHost* host = nullptr;
    v1::Pool pool;
    {
      std::lock_guard lock(tables_mutex_);
      host = slot->host;
      pool.set_directory(slot->directory);
      pool.set_error(slot->error);
    }
    if (host != nullptr) pool = slot->shard->thread().Run([host] { return host->Describe(); });
    *response->add_pools() = std::move(pool);
  }
  return absl::OkStatus();
}

absl::Status Node::CheckPool(const v1::CheckPoolRequest& request, v1::CheckPoolResponse* response) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(Slot* const slot, FindPool(request.pool()));
  replica::CheckOptions check;
  check.verify_data = request.verify_data();
  check.repair = request.repair();
  check.cancel = &cancel_checks_;
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, slot->changes.Take("check pool", kPatience));
  ASSIGN_OR_RETURN(const replica::CheckReport report,
                   slot->shard->thread().Run([slot, check] { return slot->host->Check(check); }));
  *response = DescribeCheck(report);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> Node::DumpPool(const v1::DumpPoolRequest& request) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(Slot* const slot, FindPool(request.pool()));
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, slot->changes.Take("dump pool", kPatience));
  return slot->shard->thread().Run([slot] { return slot->host->Dump(); });
}

NodeSnapshot Node::Snapshot(std::chrono::milliseconds patience) {
  NodeSnapshot snapshot;
  {
    std::lock_guard lock(tables_mutex_);
    for (const std::unique_ptr<Slot>& slot : slots_) {
      if (slot->host == nullptr) snapshot.unopened.push_back({slot->directory});
    }
  }
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::vector<std::future<ShardSnapshot>> answers;
  answers.reserve(shards_.size());
  for (const std::unique_ptr<Shard>& owner : shards_) {
    answers.push_back(owner->thread().Submit([shard = owner.get()] { return shard->Snapshot(); }));
  }
  for (std::future<ShardSnapshot>& answer : answers) {
    if (answer.wait_until(deadline) == std::future_status::ready) {
      snapshot.shards.push_back(answer.get());
    } else {
      ++snapshot.timeouts;
    }
  }
  return snapshot;
}

}  // namespace keelson::service
