#include "provisioner/store/rocks_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/iterator.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/snapshot.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <spdlog/spdlog.h>

#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <exception>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "provisioner/store/envelope.h"
#include "provisioner/store/store_directory.h"

namespace keelson::provisioner {
namespace {

constexpr std::uint32_t kFormatVersion = 1;
constexpr std::string_view kFormatKey = "m/format";
constexpr std::string_view kRevisionKey = "m/revision";
constexpr char kRecordPrefix = 'd';
constexpr std::string_view kRemedy =
    "put back the store's directory from a backup, or move it away, start with an empty one and "
    "run "
    "'keelctl adopt'";

// RocksDB's own messages, warnings and worse, in our log instead of files in the directory.
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
    spdlog::warn("event=rocksdb store={} message=\"{}\"", directory_, line);
  }

 private:
  std::string directory_;
};

rocksdb::Options MakeOptions(const std::string& directory, rocksdb::Env* env) {
  rocksdb::Options options;
  if (env != nullptr) options.env = env;
  options.info_log = std::make_shared<RocksLogger>(directory);
  options.create_if_missing = true;  // store_directory.h has seen that nothing is there

  // A cut end of the log is what a death leaves; anything else in it that is broken is refused, so
  // that no answered write is lost in silence.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.paranoid_checks = true;
  options.verify_sst_unique_id_in_manifest = true;
  options.max_bgerror_resume_count = 0;  // an error is final; nobody retries it into success

  // Small and bounded: memory, files, and the log that an opening has to read.
  options.write_buffer_size = std::size_t{4} << 20;
  options.max_total_wal_size = std::uint64_t{8} << 20;
  options.target_file_size_base = std::uint64_t{8} << 20;
  options.max_bytes_for_level_base = std::uint64_t{32} << 20;
  options.max_manifest_file_size = std::size_t{1} << 20;
  options.max_open_files = 64;
  options.max_background_jobs = 2;
  options.compression = rocksdb::kNoCompression;
  options.avoid_flush_during_shutdown = true;  // the log has it
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(std::size_t{2} << 20);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::Slice SliceOf(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

std::string PrefixOf(Kind kind) { return {kRecordPrefix, static_cast<char>(kind)}; }

std::string DatabaseKey(Kind kind, std::string_view key) { return PrefixOf(kind).append(key); }

// Runs `call`, which calls RocksDB; what that throws becomes an error of RocksDB's kind.
template <typename Call>
rocksdb::Status Guarded(Call call) {
  try {
    return call();
  } catch (const std::exception& error) {
    return rocksdb::Status::IOError("RocksDB threw", error.what());
  }
}

absl::Status OpenStatus(const rocksdb::Status& status, const std::string& directory) {
  const std::string text = status.ToString();
  const std::string what = absl::StrCat("the store at ", directory);
  if (status.IsIOError() && text.find("/LOCK") != std::string::npos) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, " is open in another keelson-provisioner (", text,
                     "): stop that one first, or name another directory"));
  }
  if (status.IsNotSupported()) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, " was written by a newer program (", text, "): use that"));
  }
  if (status.IsCorruption() || status.IsInvalidArgument() || status.IsNotFound() ||
      status.IsPathNotFound()) {
    return absl::DataLossError(
        absl::StrCat(what, " is damaged: ", text, ": ", std::string(kRemedy)));
  }
  return absl::UnavailableError(absl::StrCat("opening ", what, ": ", text));
}

}  // namespace

// Remembers the first error. RocksDB tells it about errors of its background work.
class RocksStore::Failure final : public rocksdb::EventListener {
 public:
  explicit Failure(std::string directory) : directory_(std::move(directory)) {}

  void Set(std::string_view what, const rocksdb::Status& status) {
    const std::lock_guard lock(mutex_);
    if (!why_.ok()) return;
    why_ = absl::UnavailableError(absl::StrCat(
        "the store at ", directory_, " has failed (", std::string(what), ": ", status.ToString(),
        "): what was being written may be there or not; restart keelson-provisioner"));
    failed_.store(true, std::memory_order_release);
    spdlog::error("event=store_failed store={} error=\"{}\"", directory_,
                  std::string(why_.message()));
  }
  absl::Status Get() const {
    if (!failed_.load(std::memory_order_acquire)) return absl::OkStatus();
    const std::lock_guard lock(mutex_);
    return why_;
  }
  void OnBackgroundError(rocksdb::BackgroundErrorReason /*reason*/,
                         rocksdb::Status* status) override {
    Set("RocksDB's background work", *status);
  }

 private:
  const std::string directory_;
  std::atomic<bool> failed_{false};
  mutable std::mutex mutex_;
  absl::Status why_;
};

RocksStore::RocksStore(std::string directory)
    : directory_(std::move(directory)), failure_(std::make_shared<Failure>(directory_)) {}

absl::StatusOr<std::unique_ptr<RocksStore>> RocksStore::Open(const RocksStoreOptions& options) {
  if (absl::Status prepared = PrepareStoreDirectory(options.directory); !prepared.ok()) {
    return prepared;
  }
  std::unique_ptr<RocksStore> store(new RocksStore(options.directory));
  if (absl::Status opened = store->OpenDatabase(options); !opened.ok()) return opened;
  return store;
}

RocksStore::~RocksStore() {
  if (db_ == nullptr) return;
  const rocksdb::Status closed = Guarded([this] { return db_->Close(); });
  // Whatever was answered is durable; a failed close is worth a line, no more.
  if (!closed.ok()) {
    spdlog::warn("event=store_close store={} error=\"{}\"", directory_, closed.ToString());
  }
}

absl::Status RocksStore::OpenDatabase(const RocksStoreOptions& from) {
  if (from.file_system != nullptr) env_ = rocksdb::NewCompositeEnv(from.file_system);
  rocksdb::Options options = MakeOptions(directory_, env_.get());
  options.listeners.push_back(failure_);
  const rocksdb::Status opened = Guarded([this, &options] {
    rocksdb::DB* db = nullptr;
    const rocksdb::Status status = rocksdb::DB::Open(options, directory_, &db);
    db_.reset(db);
    return status;
  });
  if (!opened.ok()) return OpenStatus(opened, directory_);
  absl::StatusOr<std::optional<std::string>> format = Read(rocksdb::ReadOptions(), kFormatKey);
  if (!format.ok()) return format.status();
  return *format ? ReadLayout(**format) : BeginLayout();
}

// The first opening, or the first that was not cut off before this.
absl::Status RocksStore::BeginLayout() {
  bool empty = false;
  rocksdb::Status status = Guarded([this, &empty] {
    std::unique_ptr<rocksdb::Iterator> entry(db_->NewIterator(rocksdb::ReadOptions()));
    entry->SeekToFirst();
    empty = !entry->Valid();
    return entry->status();
  });
  if (!status.ok()) return OpenStatus(status, directory_);
  if (!empty) return Damaged("the layout's version", "it is missing");
  status = Guarded([this] {
    rocksdb::WriteOptions synced;
    synced.sync = true;
    return db_->Put(synced, SliceOf(kFormatKey), absl::StrCat(kFormatVersion));
  });
  return status.ok() ? absl::OkStatus() : OpenStatus(status, directory_);
}

absl::Status RocksStore::ReadLayout(const std::string& format) {
  std::uint32_t version = 0;
  if (!absl::SimpleAtoi(format, &version) || version == 0) {
    return Damaged("the layout's version", "it is not a number");
  }
  if (version > kFormatVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the store at ", directory_, " has layout ", version,
                     ", and this program knows those up to ", kFormatVersion,
                     ": it was written by a newer keelson-provisioner; use that"));
  }
  absl::StatusOr<std::uint64_t> revision = ReadRevision(rocksdb::ReadOptions());
  if (!revision.ok()) return revision.status();
  last_revision_ = *revision;
  return absl::OkStatus();
}

absl::Status RocksStore::Damaged(std::string_view what, std::string_view why) const {
  return absl::DataLossError(absl::StrCat(std::string(what), " in the store at ", directory_,
                                          " cannot be read: ", std::string(why), ": ",
                                          std::string(kRemedy)));
}

absl::StatusOr<std::optional<std::string>> RocksStore::Read(const rocksdb::ReadOptions& options,
                                                            std::string_view key) {
  std::string value;
  const rocksdb::Status status = Guarded([&] { return db_->Get(options, SliceOf(key), &value); });
  if (status.IsNotFound()) return std::nullopt;
  if (status.IsCorruption()) return Damaged("a part of the files", status.ToString());
  if (!status.ok()) {
    return absl::UnavailableError(
        absl::StrCat("reading from the store at ", directory_, ": ", status.ToString()));
  }
  return value;
}

absl::StatusOr<std::optional<Record>> RocksStore::ReadRecord(Kind kind, std::string_view key) {
  const std::string database_key = DatabaseKey(kind, key);
  absl::StatusOr<std::optional<std::string>> bytes = Read(rocksdb::ReadOptions(), database_key);
  if (!bytes.ok()) return bytes.status();
  if (!*bytes) return std::nullopt;
  absl::StatusOr<Enveloped> content = OpenEnvelope(database_key, **bytes);
  if (!content.ok()) {
    return Damaged(
        absl::StrCat("the record of ", std::string(KindName(kind)), " '", std::string(key), "'"),
        std::string(content.status().message()));
  }
  return Record{std::string(key), std::move(content->value), content->revision};
}

// REQUIRES: write_mutex_ is held.
absl::StatusOr<std::optional<std::uint64_t>> RocksStore::PresentRevision(Kind kind,
                                                                         std::string_view key) {
  absl::StatusOr<std::optional<Record>> record = ReadRecord(kind, key);
  if (!record.ok()) return record.status();
  if (!*record) return std::nullopt;
  return (*record)->revision;
}

absl::StatusOr<std::uint64_t> RocksStore::ReadRevision(const rocksdb::ReadOptions& options) {
  absl::StatusOr<std::optional<std::string>> bytes = Read(options, kRevisionKey);
  if (!bytes.ok()) return bytes.status();
  if (!*bytes) return 0;  // nothing was ever written
  absl::StatusOr<Enveloped> content = OpenEnvelope(kRevisionKey, **bytes);
  if (content.ok()) return content->revision;
  return Damaged("the last revision", std::string(content.status().message()));
}

absl::StatusOr<Record> RocksStore::Get(Kind kind, std::string_view key) {
  if (absl::Status status = CheckKey(kind, key); !status.ok()) return status;
  absl::StatusOr<std::optional<Record>> record = ReadRecord(kind, key);
  if (absl::Status status = failure_->Get(); !status.ok()) return status;
  if (!record.ok()) return record.status();
  if (!*record) return NoSuchRecord(kind, key);
  return **std::move(record);
}

absl::StatusOr<Listing> RocksStore::List(Kind kind) {
  Listing listing;
  rocksdb::ManagedSnapshot snapshot(db_.get());
  rocksdb::ReadOptions options;
  options.snapshot = snapshot.snapshot();
  absl::StatusOr<std::uint64_t> revision = ReadRevision(options);
  absl::Status scanned = revision.ok() ? Scan(kind, options, &listing) : revision.status();
  if (absl::Status status = failure_->Get(); !status.ok()) return status;
  if (!scanned.ok()) return scanned;
  listing.revision = *revision;
  return listing;
}

absl::Status RocksStore::Scan(Kind kind, const rocksdb::ReadOptions& options, Listing* listing) {
  const std::string prefix = PrefixOf(kind);
  absl::Status damage;
  const rocksdb::Status status = Guarded([&] {
    std::unique_ptr<rocksdb::Iterator> entry(db_->NewIterator(options));
    for (entry->Seek(prefix); entry->Valid() && entry->key().starts_with(prefix); entry->Next()) {
      const std::string_view key(entry->key().data(), entry->key().size());
      absl::StatusOr<Enveloped> content =
          OpenEnvelope(key, std::string_view(entry->value().data(), entry->value().size()));
      std::string name(key.substr(prefix.size()));
      if (!content.ok()) {
        damage =
            Damaged(absl::StrCat("the record of ", std::string(KindName(kind)), " '", name, "'"),
                    std::string(content.status().message()));
        return rocksdb::Status::OK();
      }
      listing->records.push_back({std::move(name), std::move(content->value), content->revision});
    }
    return entry->status();
  });
  if (!damage.ok()) return damage;
  if (status.ok()) return absl::OkStatus();
  if (status.IsCorruption()) return Damaged("a part of the files", status.ToString());
  return absl::UnavailableError(
      absl::StrCat("listing the store at ", directory_, ": ", status.ToString()));
}

absl::StatusOr<std::uint64_t> RocksStore::Put(Kind kind, std::string_view key,
                                              std::string_view value,
                                              std::uint64_t expected_revision) {
  if (absl::Status status = CheckKey(kind, key); !status.ok()) return status;
  if (absl::Status status = CheckValue(kind, key, value); !status.ok()) return status;
  const std::lock_guard lock(write_mutex_);
  if (absl::Status status = failure_->Get(); !status.ok()) return status;
  absl::StatusOr<std::optional<std::uint64_t>> present = PresentRevision(kind, key);
  if (!present.ok()) return present.status();
  if (absl::Status status = CheckPut(kind, key, *present, expected_revision); !status.ok()) {
    return status;
  }
  return Write(kind, key, value);
}

absl::Status RocksStore::Delete(Kind kind, std::string_view key, std::uint64_t expected_revision) {
  if (absl::Status status = CheckKey(kind, key); !status.ok()) return status;
  const std::lock_guard lock(write_mutex_);
  if (absl::Status status = failure_->Get(); !status.ok()) return status;
  absl::StatusOr<std::optional<std::uint64_t>> present = PresentRevision(kind, key);
  if (!present.ok()) return present.status();
  if (absl::Status status = CheckDelete(kind, key, *present, expected_revision); !status.ok()) {
    return status;
  }
  return Write(kind, key, std::nullopt).status();
}

// Puts `value`, or deletes. REQUIRES: write_mutex_ is held.
absl::StatusOr<std::uint64_t> RocksStore::Write(Kind kind, std::string_view key,
                                                std::optional<std::string_view> value) {
  const std::uint64_t revision = last_revision_ + 1;
  const std::string database_key = DatabaseKey(kind, key);
  const rocksdb::Status written = Guarded([&] {
    rocksdb::WriteBatch batch;
    rocksdb::Status added = value ? batch.Put(database_key, Envelop(database_key, revision, *value))
                                  : batch.Delete(database_key);
    if (added.ok()) added = batch.Put(SliceOf(kRevisionKey), Envelop(kRevisionKey, revision, ""));
    if (!added.ok()) return added;
    rocksdb::WriteOptions synced;
    synced.sync = true;
    return db_->Write(synced, &batch);
  });
  if (!written.ok()) {
    failure_->Set("writing", written);
    return absl::UnavailableError(absl::StrCat("writing ", std::string(KindName(kind)), " '",
                                               std::string(key),
                                               "': ", std::string(failure_->Get().message())));
  }
  last_revision_ = revision;
  hub_.Add(Change{kind, std::string(key), value.has_value(), revision});
  return revision;
}

std::unique_ptr<ClusterStore::Watcher> RocksStore::Watch(
    std::function<void(const Change&)> callback) {
  return hub_.Watch(std::move(callback));
}

}  // namespace keelson::provisioner
