#include "tests/crash/recording.h"

#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/rocks_meta_store.h"
#include "tests/crash/crash_file.h"
#include "tests/crash/crash_fs.h"
#include "tests/crash/workload.h"

namespace keelson::crash {
namespace {

constexpr const char* kMetaDirectory = "/pool/meta";
// So small that memtables are flushed, logs switched and tables compacted within a short run.
constexpr std::size_t kWriteBufferBytes = std::size_t{128} << 10;

absl::StatusOr<std::unique_ptr<pool::MetaStore>> OpenStore(CrashReactor* reactor,
                                                           std::shared_ptr<CrashFs> files,
                                                           bool create) {
  pool::RocksMetaStoreOptions options;
  options.directory = kMetaDirectory;
  options.create = create;
  options.file_system = std::move(files);
  options.write_buffer_bytes = kWriteBufferBytes;
  options.block_cache_bytes = std::size_t{1} << 20;
  return pool::RocksMetaStore::Open(reactor, options);
}

// Syncs nothing, whatever it is asked.
class ForgetfulMetaStore final : public pool::MetaStore {
 public:
  explicit ForgetfulMetaStore(std::unique_ptr<pool::MetaStore> store) : store_(std::move(store)) {}
  void Submit(CommitOp* op) override {
    op->synced = false;
    store_->Submit(op);
  }
  io::Task<absl::StatusOr<std::optional<std::string>>> Get(pool::Table table,
                                                           std::string key) override {
    return store_->Get(table, std::move(key));
  }
  io::Task<absl::StatusOr<std::vector<pool::MetaEntry>>> Scan(pool::Table table, std::string prefix,
                                                              std::string after,
                                                              std::size_t count_max) override {
    return store_->Scan(table, std::move(prefix), std::move(after), count_max);
  }

 private:
  std::unique_ptr<pool::MetaStore> store_;
};

io::Task<absl::Status> FormatPool(CrashReactor* reactor, Recording* recording) {
  auto files = std::make_shared<CrashFs>(FsImage{}, nullptr);
  CrashFile data(reactor, recording->disk, {});
  {
    CO_ASSIGN_OR_RETURN(const std::unique_ptr<pool::MetaStore> meta,
                        OpenStore(reactor, files, /*create=*/true));
    const pool::PoolId id(pool::Uuid::Random());
    CO_RETURN_IF_ERROR(co_await pool::Pool::Format(&data, meta.get(), id, /*force=*/false));
  }
  recording->files = files->Snapshot();
  data.CopyTo(&recording->disk);
  co_return absl::OkStatus();
}

io::Task<absl::Status> Record(CrashReactor* reactor, RecordOptions options, Recording* recording) {
  CO_RETURN_IF_ERROR(co_await FormatPool(reactor, recording));
  auto files = std::make_shared<CrashFs>(recording->files, &recording->trace);
  pool::PoolDeps deps;
  deps.reactor = reactor;
  deps.boot = RecordedBoot();
  deps.make_id = pool::Uuid::Random;
  CrashFileOptions file_options;
  file_options.trace = &recording->trace;
  file_options.lies = options.flushes_lie;
  deps.data = std::make_unique<CrashFile>(reactor, recording->disk, file_options);
  CO_ASSIGN_OR_RETURN(deps.meta, OpenStore(reactor, files, /*create=*/false));
  if (options.ignore_synced) {
    deps.meta = std::make_unique<ForgetfulMetaStore>(std::move(deps.meta));
  }
  CO_ASSIGN_OR_RETURN(std::unique_ptr<pool::Pool> pool, co_await pool::Pool::Open(std::move(deps)));
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<replica::ReplicaStore> store,
                      co_await replica::ReplicaStore::Open(std::move(pool)));
  WorkloadOptions workload_options;
  workload_options.seed = options.seed;
  workload_options.operations = options.operations;
  Workload workload(reactor, store.get(), &recording->trace, &recording->history, workload_options);
  const absl::Status ran = co_await workload.Run();
  const absl::Status closed = co_await store->Close();
  co_return ran.ok() ? closed : ran;
}

io::Task<void> RecordInto(CrashReactor* reactor, RecordOptions options, Recording* recording,
                          absl::Status* result) {
  *result = co_await Record(reactor, options, recording);
}

}  // namespace

pool::BootId RecordedBoot() {
  pool::BootId boot;
  boot.bytes[0] = 1;
  return boot;
}

pool::BootId NextBoot() {
  pool::BootId boot;
  boot.bytes[0] = 2;
  return boot;
}

absl::StatusOr<pool::PoolDeps> MakeDeps(CrashReactor* reactor, const FsImage& files,
                                        const DiskImage& disk, pool::BootId boot) {
  pool::PoolDeps deps;
  deps.reactor = reactor;
  deps.boot = boot;
  deps.make_id = pool::Uuid::Random;
  deps.data = std::make_unique<CrashFile>(reactor, disk, CrashFileOptions{});
  ASSIGN_OR_RETURN(deps.meta,
                   OpenStore(reactor, std::make_shared<CrashFs>(files, nullptr), /*create=*/false));
  return deps;
}

absl::Status RecordRun(CrashReactor* reactor, RecordOptions options, Recording* recording) {
  recording->seed = options.seed;
  reactor->set_slow_io(true);
  absl::Status result;
  const bool ended = reactor->RunTask(RecordInto(reactor, options, recording, &result));
  reactor->set_slow_io(false);
  if (!ended) return absl::DeadlineExceededError("the recorded run hung");
  return result;
}

absl::Status Recording::Save(const std::string& path) const {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  SaveU64(&out, seed);
  SaveU64(&out, files.size());
  for (const auto& [name, content] : files) {
    SaveString(&out, name);
    SaveString(&out, content);
  }
  for (std::uint64_t i = 0; i < disk.block_count(); ++i) {
    const Block* block = disk.Get(i);
    if (block == nullptr) continue;
    SaveU64(&out, i + 1);
    out.write(reinterpret_cast<const char*>(block->data()), kBlockBytes);
  }
  SaveU64(&out, 0);
  trace.Save(&out);
  SaveHistory(&out, history);
  out.close();
  if (out.good()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("the recording cannot be written to ", path));
}

absl::Status Recording::Load(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  seed = LoadU64(&in);
  for (std::uint64_t left = LoadU64(&in); left > 0; --left) {
    std::string name = LoadString(&in);
    files[std::move(name)] = LoadString(&in);
  }
  while (const std::uint64_t index = LoadU64(&in)) {
    Block block;
    in.read(reinterpret_cast<char*>(block.data()), kBlockBytes);
    disk.Store(index - 1, block.data());
  }
  const bool loaded = trace.Load(&in);
  LoadHistory(&in, &history);
  if (loaded && in.good()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, " is not a recording"));
}

}  // namespace keelson::crash
