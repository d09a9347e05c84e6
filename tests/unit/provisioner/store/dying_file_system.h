#pragma once
// DyingFileSystem: the real file system until an operation that changes it, counted; from that one
// on everything that changes it fails, as if the process had been killed there: what it has written
// so far stays, half of the data of a write that was cut. CutPower then takes away what was not
// synced from the files that were written; nothing is really synced, which would take long. Any
// thread.

#include <rocksdb/file_system.h>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace keelson::provisioner {

class DyingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  static constexpr int kNever = -1;

  // `operations` are done, the next one is cut.
  explicit DyingFileSystem(int operations)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), left_(operations) {}
  const char* Name() const override { return "DyingFileSystem"; }

  int operations() const {
    const std::lock_guard lock(mutex_);
    return operations_;
  }
  void DieAfter(int operations) {
    const std::lock_guard lock(mutex_);
    left_ = operations;
  }
  // Once nothing uses it any more.
  void CutPower() {
    for (const auto& [name, synced_bytes] : synced_bytes_) {
      std::error_code gone;
      if (std::filesystem::file_size(name, gone) > synced_bytes && !gone) {
        std::filesystem::resize_file(name, synced_bytes);
      }
    }
  }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* debug) override {
    if (!Lives()) return Dead();
    const rocksdb::IOStatus status =
        FileSystemWrapper::NewWritableFile(name, options, result, debug);
    if (status.ok()) *result = std::make_unique<File>(this, name, std::move(*result));
    SetSynced(name, 0);
    return status;
  }
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    if (!Lives()) return Dead();
    {
      const std::lock_guard lock(mutex_);
      if (auto node = synced_bytes_.extract(from)) {
        synced_bytes_.erase(to);
        node.key() = to;
        synced_bytes_.insert(std::move(node));
      }
    }
    return FileSystemWrapper::RenameFile(from, to, options, debug);
  }
  rocksdb::IOStatus NewDirectory(const std::string& name, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus status = FileSystemWrapper::NewDirectory(name, options, result, debug);
    if (status.ok()) *result = std::make_unique<Directory>(this);
    return status;
  }
  rocksdb::IOStatus DeleteFile(const std::string& name, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    return Lives() ? FileSystemWrapper::DeleteFile(name, options, debug) : Dead();
  }

 private:
  class File final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(DyingFileSystem* owner, std::string name, std::unique_ptr<rocksdb::FSWritableFile> file)
        : FSWritableFileOwnerWrapper(std::move(file)), owner_(owner), name_(std::move(name)) {}
    using FSWritableFileOwnerWrapper::Append;
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
      switch (owner_->Count()) {
        case Fate::kLives:
          size_bytes_ += data.size();
          return FSWritableFileOwnerWrapper::Append(data, options, debug);
        case Fate::kDies:
          FSWritableFileOwnerWrapper::Append(rocksdb::Slice(data.data(), data.size() / 2), options,
                                             debug)
              .PermitUncheckedError();
          return Dead();
        case Fate::kIsDead:
          return Dead();
      }
      return Dead();
    }
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& /*options*/,
                           rocksdb::IODebugContext* /*debug*/) override {
      if (!owner_->Lives()) return Dead();
      owner_->SetSynced(name_, size_bytes_);
      return rocksdb::IOStatus::OK();
    }
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                            rocksdb::IODebugContext* debug) override {
      return Sync(options, debug);
    }

   private:
    DyingFileSystem* owner_;
    std::string name_;
    std::uintmax_t size_bytes_ = 0;
  };

  class Directory final : public rocksdb::FSDirectory {
   public:
    explicit Directory(DyingFileSystem* owner) : owner_(owner) {}
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions& /*options*/,
                            rocksdb::IODebugContext* /*debug*/) override {
      return owner_->Lives() ? rocksdb::IOStatus::OK() : Dead();
    }
    rocksdb::IOStatus Close(const rocksdb::IOOptions& /*options*/,
                            rocksdb::IODebugContext* /*debug*/) override {
      return rocksdb::IOStatus::OK();
    }

   private:
    DyingFileSystem* owner_;
  };

  enum class Fate { kLives, kDies, kIsDead };

  static rocksdb::IOStatus Dead() { return rocksdb::IOStatus::IOError("the test killed it"); }
  Fate Count() {
    const std::lock_guard lock(mutex_);
    ++operations_;
    if (dead_) return Fate::kIsDead;
    if (left_ == kNever) return Fate::kLives;
    if (left_ > 0) {
      --left_;
      return Fate::kLives;
    }
    dead_ = true;
    return Fate::kDies;
  }
  bool Lives() { return Count() == Fate::kLives; }
  void SetSynced(const std::string& name, std::uintmax_t bytes) {
    const std::lock_guard lock(mutex_);
    synced_bytes_[name] = bytes;
  }

  mutable std::mutex mutex_;
  std::map<std::string, std::uintmax_t> synced_bytes_;
  int operations_ = 0;
  int left_;
  bool dead_ = false;
};

}  // namespace keelson::provisioner
