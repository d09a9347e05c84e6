#include "tests/unit/engine/remote_fake_port.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/status.h"

namespace keelson::engine::testing {

void FakeReplica::Release() {
  held = false;
  holding.WakeAll();
}

void FakeReplica::Fence() {
  if (session != nullptr) session->End(absl::AbortedError("attachment 99 has fenced this one"));
}

class FakePort::Running {
 public:
  explicit Running(FakePort* port) : port_(port) {
    ++port_->running_;
    FakeReplica* const replica = port_->replica_;
    replica->running_max = std::max(replica->running_max, ++replica->running);
  }
  ~Running() {
    --port_->replica_->running;
    if (--port_->running_ == 0) port_->idle_.WakeAll();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  FakePort* port_;
};

FakePort::FakePort(FakeReplica* replica) : replica_(replica) { ++replica_->ports; }

FakePort::~FakePort() {
  KEEL_CHECK(running_ == 0, "a port is destroyed after everything of it has finished");
  --replica_->ports;
  if (replica_->session == this) replica_->session = nullptr;
}

void FakePort::End(absl::Status why) {
  if (!open_) return;
  open_ = false;
  end_ = std::move(why);
  replica_->holding.WakeAll();
}

io::Task<void> FakePort::Close() {
  End(absl::UnavailableError("the session was closed"));
  while (running_ > 0) co_await idle_.Wait();
}

io::Task<absl::Status> FakePort::Begin(std::string what) {
  replica_->log.push_back(what);
  if (replica_->delay_ns_max > 0) {
    const auto delay_ns = static_cast<std::int64_t>(
        replica_->random->Below(static_cast<std::uint64_t>(replica_->delay_ns_max)));
    auto delay = replica_->reactor->SleepFor(delay_ns);
    co_await delay;
  }
  while (replica_->held && end_.ok()) co_await replica_->holding.Wait();
  if (!end_.ok()) co_return end_;
  const auto error = replica_->errors.find(what.substr(0, what.find(' ')));
  if (error != replica_->errors.end()) co_return error->second;
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<replica::PrepareAnswer>> FakePort::Prepare(pool::Epoch epoch,
                                                                   std::int64_t /*deadline_ns*/) {
  const Running running(this);
  end_ = absl::OkStatus();
  const absl::Status status = co_await Begin(absl::StrCat("Prepare ", epoch.attachment));
  if (!status.ok()) end_ = status;
  CO_RETURN_IF_ERROR(status);
  if (epoch < replica_->promised) {
    end_ = absl::AbortedError("a higher epoch is promised");
    co_return end_;
  }
  if (replica_->session != nullptr) {
    replica_->session->End(absl::UnavailableError("prepared by another"));
  }
  replica_->promised = epoch;
  replica_->session = this;
  open_ = true;
  replica::PrepareAnswer answer;
  answer.pool = replica_->pool;
  answer.replica = replica_->replica;
  answer.incarnation = replica_->incarnation;
  answer.configuration = replica_->configuration;
  answer.progress = replica_->progress;
  co_return answer;
}

io::Task<absl::Status> FakePort::Accept(replica::Configuration configuration,
                                        std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status =
      co_await Begin(absl::StrCat("Accept ", configuration.version.counter));
  if (status.ok()) replica_->configuration = std::move(configuration);
  co_return status;
}

io::Task<absl::Status> FakePort::Heartbeat(std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status = co_await Begin("Heartbeat");
  co_return status;
}

io::Task<absl::Status> FakePort::Read(std::uint64_t offset, std::span<std::byte> into,
                                      std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status = co_await Begin(absl::StrCat("Read ", offset, " ", into.size()));
  if (status.ok()) std::copy_n(replica_->data.data() + offset, into.size(), into.data());
  co_return status;
}

io::Task<absl::Status> FakePort::Write(std::uint64_t offset, std::span<const std::byte> from,
                                       pool::Generation generation, std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status = co_await Begin(
      absl::StrCat("Write ", offset, " ", from.size(), " generation ", generation.counter));
  if (status.ok()) std::copy_n(from.data(), from.size(), replica_->data.data() + offset);
  co_return status;
}

io::Task<absl::Status> FakePort::Trim(std::uint64_t offset, std::uint64_t size_bytes,
                                      pool::Generation generation, std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status = co_await Begin(
      absl::StrCat("Trim ", offset, " ", size_bytes, " generation ", generation.counter));
  co_return status;
}

io::Task<absl::Status> FakePort::Flush(std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status = co_await Begin("Flush");
  co_return status;
}

io::Task<absl::Status> FakePort::EndGeneration(pool::Generation generation,
                                               std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status = co_await Begin(absl::StrCat("EndGeneration ", generation.counter));
  co_return status;
}

io::Task<absl::StatusOr<std::vector<replica::DataRun>>> FakePort::Map(
    std::uint64_t offset, std::uint64_t size_bytes, std::size_t runs_max,
    std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status =
      co_await Begin(absl::StrCat("Map ", offset, " ", size_bytes, " ", runs_max));
  CO_RETURN_IF_ERROR(status);
  std::vector<replica::DataRun> runs = {{4096, false}, {size_bytes - 4096, true}};
  runs.resize(std::min(runs.size(), runs_max));
  co_return runs;
}

io::Task<absl::StatusOr<std::vector<replica::RegionNote>>> FakePort::Notes(
    pool::Generation above, std::uint32_t first_region, std::size_t count_max,
    std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status =
      co_await Begin(absl::StrCat("Notes ", above.counter, " ", first_region, " ", count_max));
  CO_RETURN_IF_ERROR(status);
  std::vector<replica::RegionNote> notes;
  for (const replica::RegionNote& note : replica_->notes) {
    if (note.region >= first_region && notes.size() < count_max) notes.push_back(note);
  }
  co_return notes;
}

io::Task<absl::StatusOr<replica::ExtentContent>> FakePort::ReadCopy(pool::SnapshotId layer,
                                                                    std::uint32_t extent,
                                                                    std::span<std::byte> into,
                                                                    std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status =
      co_await Begin(absl::StrCat("ReadCopy ", layer.ToString(), " ", extent));
  CO_RETURN_IF_ERROR(status);
  std::copy_n(replica_->data.data(), replica_->content.data.Count() * pool::kBlockBytes,
              into.data());
  co_return replica_->content;
}

io::Task<absl::Status> FakePort::BeginCopy(pool::SnapshotId layer, std::uint32_t region,
                                           pool::Generation generation,
                                           std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status = co_await Begin(
      absl::StrCat("BeginCopy ", layer.ToString(), " ", region, " ", generation.counter));
  co_return status;
}

io::Task<absl::Status> FakePort::WriteCopy(pool::SnapshotId layer, std::uint32_t extent,
                                           replica::ExtentContent content,
                                           std::span<const std::byte> packed,
                                           std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status =
      co_await Begin(absl::StrCat("WriteCopy ", layer.ToString(), " ", extent, " ", packed.size()));
  CO_RETURN_IF_ERROR(status);
  std::copy_n(packed.data(), packed.size(), replica_->data.data());
  replica_->content = content;
  co_return absl::OkStatus();
}

io::Task<absl::Status> FakePort::RecordProgress(replica::ResyncProgress progress,
                                                std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status = co_await Begin(
      absl::StrCat("RecordProgress ", progress.position, " ", progress.generation.counter));
  if (status.ok()) replica_->progress = progress;
  co_return status;
}

io::Task<absl::StatusOr<replica::VerifyAnswer>> FakePort::Verify(pool::SnapshotId layer,
                                                                 std::uint32_t extent,
                                                                 pool::BlockBits offered,
                                                                 std::span<const std::byte> packed,
                                                                 std::int64_t /*deadline_ns*/) {
  const Running running(this);
  const absl::Status status =
      co_await Begin(absl::StrCat("Verify ", layer.ToString(), " ", extent, " ", packed.size()));
  CO_RETURN_IF_ERROR(status);
  replica::VerifyAnswer answer;
  answer.content = replica_->content;
  answer.bad = replica_->content.data;
  answer.mended = answer.bad & offered;
  answer.crc32c[17] = 4711;
  co_return answer;
}

absl::StatusOr<std::unique_ptr<replica::ReplicaPort>> FakeSource::OpenPort(
    pool::PoolId pool, pool::ReplicaId replica) {
  if (pool != replica_->pool || replica != replica_->replica) {
    return absl::NotFoundError("there is no such replica here");
  }
  return std::make_unique<FakePort>(replica_);
}

}  // namespace keelson::engine::testing
