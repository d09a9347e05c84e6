#include "blockstore/pool/rocks_meta_store.h"

#include <pthread.h>
#include <rocksdb/cache.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/rocks_status.h"

namespace keelson::pool {
namespace {

// In the order of Table.
constexpr std::array<const char*, kTableCount> kTableNames = {"objects", "map", "sums", "notes",
                                                              "log"};
// A group is cut here, so that a burst does not keep its first member waiting.
constexpr std::size_t kGroupBytesMax = std::size_t{4} << 20;
// Checksum of every entry of a batch from here to the memtable.
constexpr std::size_t kProtectionBytesPerKey = 8;

// RocksDB's own messages, warnings and worse, in our log instead of files in the pool's directory.
class RocksLogger final : public rocksdb::Logger {
 public:
  explicit RocksLogger(std::string directory)
      : Logger(rocksdb::InfoLogLevel::WARN_LEVEL), directory_(std::move(directory)) {}
  using Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    std::array<char, 512> text{};
    std::vsnprintf(text.data(), text.size(), format, arguments);
    std::string_view line(text.data());
    while (line.ends_with('\n')) line.remove_suffix(1);
    KEEL_LOG_WARN("event=rocksdb store={} message=\"{}\"", directory_, line);
  }

 private:
  std::string directory_;
};

rocksdb::Options MakeOptions(const RocksMetaStoreOptions& from, rocksdb::Env* env) {
  rocksdb::Options options;
  if (env != nullptr) options.env = env;
  options.info_log = std::make_shared<RocksLogger>(from.directory);
  options.create_if_missing = from.create;
  options.create_missing_column_families = from.create;

  // A torn end of the log is what a power cut leaves behind and ends the replay. A log that is
  // broken further back looks the same to RocksDB; the pool notices by its mark (superblock.h).
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.paranoid_checks = true;
  options.verify_sst_unique_id_in_manifest = true;
  options.max_bgerror_resume_count = 0;  // an error is final; nobody retries it into success

  // Small and bounded: memory, files, and the log that an opening has to replay.
  options.db_write_buffer_size = from.write_buffer_bytes;
  options.write_buffer_size = from.write_buffer_bytes / 2;
  options.max_total_wal_size = from.write_buffer_bytes * 3 / 2;
  options.max_open_files = 256;
  options.max_background_jobs = 2;
  options.target_file_size_base = std::uint64_t{16} << 20;
  options.max_bytes_for_level_base = std::uint64_t{64} << 20;
  options.compression = rocksdb::kNoCompression;
  options.bytes_per_sync = std::uint64_t{1} << 20;
  options.allow_concurrent_memtable_write = false;  // one thread writes
  options.avoid_unnecessary_blocking_io = true;
  options.avoid_flush_during_shutdown = true;  // the log has it
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(from.block_cache_bytes);
  table.cache_index_and_filter_blocks = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

// The smallest string greater than every string that begins with `prefix`; empty if there is none.
std::string EndOfPrefix(std::string prefix) {
  while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
  if (!prefix.empty()) prefix.back() = static_cast<char>(prefix.back() + 1);
  return prefix;
}

// Runs `call`, which calls RocksDB; what that throws becomes a Status.
template <typename Call>
absl::Status Guarded(const std::string& directory, Call call) {
  try {
    return call();
  } catch (const std::exception& error) {
    return absl::InternalError(
        absl::StrCat("metadata store ", directory, ": RocksDB threw: ", error.what()));
  }
}

void NameThread(std::thread* thread, const char* name) {
  pthread_setname_np(thread->native_handle(), name);
}

}  // namespace

// Remembers the first error. RocksDB tells it about errors of its background work.
class RocksMetaStore::Failure final : public rocksdb::EventListener {
 public:
  explicit Failure(std::string directory) : directory_(std::move(directory)) {}

  void Set(const absl::Status& why) {
    std::lock_guard lock(mutex_);
    if (!why_.ok()) return;
    why_ = absl::UnavailableError(
        absl::StrCat("metadata store ", directory_, " has failed (", why.message(),
                     "): nothing is written to it until the pool is opened again"));
    failed_.store(true, std::memory_order_release);
    KEEL_LOG_ERROR("event=metadata_store_failed store={} error=\"{}\"", directory_,
                   std::string(why.message()));
  }
  absl::Status Get() const {
    if (!failed_.load(std::memory_order_acquire)) [[likely]]
      return absl::OkStatus();
    std::lock_guard lock(mutex_);
    return why_;
  }
  void OnBackgroundError(rocksdb::BackgroundErrorReason /*reason*/,
                         rocksdb::Status* status) override {
    Set(RocksStatus(*status, "background work"));
  }

 private:
  const std::string directory_;
  std::atomic<bool> failed_{false};
  mutable std::mutex mutex_;
  absl::Status why_;
};

// A Get or Scan in flight; lives in the awaiting frame.
struct RocksMetaStore::ReadOp {
  RocksMetaStore* store;
  Table table;
  bool scan;
  std::string_view key_or_prefix;
  std::string_view after{};
  std::size_t count_max = 0;
  absl::Status result{};
  std::optional<std::string> value{};
  std::vector<MetaEntry> entries{};
  std::coroutine_handle<> waiter{};
  ReadOp* next = nullptr;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> awaiting) {
    waiter = awaiting;
    store->reads_.Push(this);
  }
  void await_resume() const noexcept {}
};

RocksMetaStore::RocksMetaStore(io::Reactor* reactor, std::string directory)
    : reactor_(reactor),
      directory_(std::move(directory)),
      failure_(std::make_shared<Failure>(directory_)),
      group_(/*reserved_bytes=*/0, /*max_bytes=*/0, kProtectionBytesPerKey,
             /*default_cf_ts_sz=*/0) {}

absl::StatusOr<std::unique_ptr<RocksMetaStore>> RocksMetaStore::Open(
    io::Reactor* reactor, const RocksMetaStoreOptions& options) {
  std::unique_ptr<RocksMetaStore> store(new RocksMetaStore(reactor, options.directory));
  RETURN_IF_ERROR(
      Guarded(options.directory, [&store, &options] { return store->OpenDatabase(options); }));
  store->StartThreads();
  return store;
}

absl::Status RocksMetaStore::OpenDatabase(const RocksMetaStoreOptions& from) {
  if (from.file_system != nullptr) env_ = rocksdb::NewCompositeEnv(from.file_system);
  rocksdb::Options options = MakeOptions(from, env_.get());
  options.listeners.push_back(failure_);

  if (from.create) {
    const rocksdb::Status made = options.env->CreateDirIfMissing(directory_);
    if (!made.ok()) return RocksOpenStatus(made, directory_);
  } else {
    const rocksdb::Status found = options.env->FileExists(directory_ + "/CURRENT");
    if (found.IsNotFound()) {
      return absl::DataLossError(absl::StrCat(
          "metadata store missing at ", directory_,
          ": the pool's data cannot be found without it. Put the directory back if it was moved; "
          "otherwise make the pool anew and let its volumes be copied from their other replicas"));
    }
    if (!found.ok()) return RocksOpenStatus(found, directory_);
  }

  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  families.emplace_back(rocksdb::kDefaultColumnFamilyName, options);
  for (const char* name : kTableNames) families.emplace_back(name, options);
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open(options, directory_, families, &handles_, &db);
  if (!opened.ok()) return RocksOpenStatus(opened, directory_);
  db_.reset(db);
  std::copy_n(handles_.begin() + 1, kTableCount, tables_.begin());
  return failure_->Get();
}

void RocksMetaStore::StartThreads() {
  commit_thread_ = std::thread(&RocksMetaStore::CommitLoop, this);
  sync_thread_ = std::thread(&RocksMetaStore::SyncLoop, this);
  read_thread_ = std::thread(&RocksMetaStore::ReadLoop, this);
  NameThread(&commit_thread_, "meta-commit");
  NameThread(&sync_thread_, "meta-sync");
  NameThread(&read_thread_, "meta-read");
}

void RocksMetaStore::StopThreads() {
  if (!commit_thread_.joinable()) return;  // it never opened
  commits_.Stop();
  commit_thread_.join();
  syncs_.Stop();  // after the thread that fills it
  sync_thread_.join();
  reads_.Stop();
  read_thread_.join();
}

RocksMetaStore::~RocksMetaStore() {
  StopThreads();
  if (db_ == nullptr) return;
  const absl::Status closed = Guarded(directory_, [this] {
    for (rocksdb::ColumnFamilyHandle* handle : handles_) {
      RETURN_IF_ERROR(RocksStatus(db_->DestroyColumnFamilyHandle(handle), "closing a table"));
    }
    return RocksStatus(db_->Close(), "closing");
  });
  // Whatever was acknowledged as durable is; a failed close is worth a line, no more.
  if (!closed.ok()) {
    KEEL_LOG_WARN("event=metadata_store_close store={} error=\"{}\"", directory_,
                  std::string(closed.message()));
  }
}

void RocksMetaStore::Submit(CommitOp* op) { commits_.Push(op); }

void RocksMetaStore::CommitLoop() {
  while (CommitOp* first = commits_.TakeAll()) {
    while (first != nullptr) {
      CommitOp* end = first;
      for (std::size_t bytes = 0; end != nullptr && bytes < kGroupBytesMax; end = end->next) {
        bytes += end->batch->size_bytes();
      }
      const absl::Status result =
          Guarded(directory_, [this, first, end] { return WriteGroup(first, end); });
      if (!result.ok()) failure_->Set(result);
      AnswerWritten(first, end, result);
      first = end;
    }
  }
}

// Writes the batches of [first, end) as one, without a sync.
absl::Status RocksMetaStore::WriteGroup(CommitOp* first, const CommitOp* end) {
  RETURN_IF_ERROR(failure_->Get());
  group_.Clear();
  for (const CommitOp* op = first; op != end; op = op->next) {
    for (const MetaBatch::Op& change : op->batch->ops()) {
      rocksdb::ColumnFamilyHandle* table = tables_[static_cast<std::size_t>(change.table)];
      const std::string_view key = op->batch->key(change);
      const rocksdb::Status added =
          change.is_delete ? group_.Delete(table, rocksdb::Slice(key.data(), key.size()))
                           : group_.Put(table, rocksdb::Slice(key.data(), key.size()),
                                        rocksdb::Slice(op->batch->value(change).data(),
                                                       op->batch->value(change).size()));
      RETURN_IF_ERROR(RocksStatus(added, "adding to a batch"));
    }
  }
  rocksdb::WriteOptions options;
  options.sync = false;
  return RocksStatus(db_->Write(options, &group_),
                     absl::StrCat("writing to metadata store ", directory_));
}

// Splits the written group [first, end): synced commits go on to the sync thread, the others, and
// all of a failed group, are answered.
void RocksMetaStore::AnswerWritten(CommitOp* first, CommitOp* end, const absl::Status& result) {
  CommitOp* answers = nullptr;
  CommitOp** answers_end = &answers;
  for (CommitOp* op = first; op != end;) {
    CommitOp* next = op->next;
    if (op->synced && result.ok()) {
      syncs_.Push(op);  // may be answered, and gone, from here on
    } else {
      op->result = result;
      op->next = nullptr;
      *answers_end = op;
      answers_end = &op->next;
    }
    op = next;
  }
  if (answers != nullptr) Answer(answers);
}

void RocksMetaStore::SyncLoop() {
  while (CommitOp* first = syncs_.TakeAll()) {
    absl::Status result = failure_->Get();
    if (result.ok()) {
      result = Guarded(directory_, [this] {
        return RocksStatus(db_->SyncWAL(), absl::StrCat("syncing metadata store ", directory_));
      });
      if (!result.ok()) failure_->Set(result);
    }
    for (CommitOp* op = first; op != nullptr; op = op->next) op->result = result;
    Answer(first);
  }
}

// Resumes the waiters of the list on the reactor. The last of them may destroy the store.
void RocksMetaStore::Answer(CommitOp* first) {
  reactor_->Post([first] {
    for (CommitOp* op = first; op != nullptr;) {
      CommitOp* next = op->next;
      op->waiter.resume();
      op = next;
    }
  });
}

io::Task<absl::StatusOr<std::optional<std::string>>> RocksMetaStore::Get(Table table,
                                                                         std::string key) {
  ReadOp op{.store = this, .table = table, .scan = false, .key_or_prefix = key};
  co_await op;
  CO_RETURN_IF_ERROR(op.result);
  co_return std::move(op.value);
}

io::Task<absl::StatusOr<std::vector<MetaEntry>>> RocksMetaStore::Scan(Table table,
                                                                      std::string prefix,
                                                                      std::string after,
                                                                      std::size_t count_max) {
  ReadOp op{.store = this,
            .table = table,
            .scan = true,
            .key_or_prefix = prefix,
            .after = after,
            .count_max = count_max};
  co_await op;
  CO_RETURN_IF_ERROR(op.result);
  co_return std::move(op.entries);
}

void RocksMetaStore::ReadLoop() {
  while (ReadOp* first = reads_.TakeAll()) {
    while (first != nullptr) {
      ReadOp* next = first->next;
      RunRead(first);
      first = next;
    }
  }
}

void RocksMetaStore::RunRead(ReadOp* op) {
  op->result = Guarded(directory_, [this, op] { return op->scan ? RunScan(op) : RunGet(op); });
  reactor_->Post([op] { op->waiter.resume(); });
}

absl::Status RocksMetaStore::RunGet(ReadOp* op) {
  std::string value;
  const rocksdb::Status status =
      db_->Get(rocksdb::ReadOptions(), tables_[static_cast<std::size_t>(op->table)],
               rocksdb::Slice(op->key_or_prefix.data(), op->key_or_prefix.size()), &value);
  if (status.IsNotFound()) return absl::OkStatus();
  RETURN_IF_ERROR(RocksStatus(status, absl::StrCat("reading from metadata store ", directory_)));
  op->value = std::move(value);
  return absl::OkStatus();
}

absl::Status RocksMetaStore::RunScan(ReadOp* op) {
  const std::string end = EndOfPrefix(std::string(op->key_or_prefix));
  const rocksdb::Slice end_slice(end);
  rocksdb::ReadOptions options;
  options.fill_cache = false;  // scans are start-up and checks; they must not evict what is hot
  if (!end.empty()) options.iterate_upper_bound = &end_slice;
  const std::unique_ptr<rocksdb::Iterator> it(
      db_->NewIterator(options, tables_[static_cast<std::size_t>(op->table)]));
  const std::string_view from = std::max(op->key_or_prefix, op->after);
  it->Seek(rocksdb::Slice(from.data(), from.size()));
  for (; it->Valid() && op->entries.size() < op->count_max; it->Next()) {
    if (!op->after.empty() && it->key().ToStringView() == op->after) continue;
    op->entries.emplace_back(it->key().ToString(), it->value().ToString());
  }
  return RocksStatus(it->status(), absl::StrCat("scanning metadata store ", directory_));
}

}  // namespace keelson::pool
