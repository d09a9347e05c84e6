#include "tests/crash/crash_fs.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

namespace keelson::crash {
namespace {

rocksdb::IOStatus Missing(const std::string& name) {
  return rocksdb::IOStatus::PathNotFound(name, "no such file");
}

}  // namespace

class CrashFs::Reader final : public rocksdb::FSSequentialFile, public rocksdb::FSRandomAccessFile {
 public:
  explicit Reader(std::shared_ptr<Node> node) : node_(std::move(node)) {}

  Status Read(std::size_t size, const Io&, rocksdb::Slice* result, char* scratch, Debug*) override {
    ReadAt(offset_, size, result, scratch);
    offset_ += result->size();
    return Status::OK();
  }
  Status Skip(std::uint64_t count) override {
    offset_ += count;
    return Status::OK();
  }
  Status Read(std::uint64_t offset, std::size_t size, const Io&, rocksdb::Slice* result,
              char* scratch, Debug*) const override {
    ReadAt(offset, size, result, scratch);
    return Status::OK();
  }
  bool use_direct_io() const override { return false; }
  Status InvalidateCache(std::size_t, std::size_t) override { return Status::OK(); }
  std::size_t GetRequiredBufferAlignment() const override { return 1; }

 private:
  void ReadAt(std::uint64_t offset, std::size_t size, rocksdb::Slice* result, char* scratch) const {
    std::lock_guard lock(node_->mutex);
    const std::size_t from = std::min<std::size_t>(offset, node_->content.size());
    const std::size_t count = std::min(size, node_->content.size() - from);
    std::memcpy(scratch, node_->content.data() + from, count);
    *result = rocksdb::Slice(scratch, count);
  }
  std::shared_ptr<Node> node_;
  std::uint64_t offset_ = 0;
};

class CrashFs::Writer final : public rocksdb::FSWritableFile {
 public:
  Writer(CrashFs* owner, std::shared_ptr<Node> node) : owner_(owner), node_(std::move(node)) {}

  using FSWritableFile::Append;
  Status Append(const rocksdb::Slice& data, const Io&, Debug*) override {
    std::lock_guard lock(node_->mutex);
    node_->content.append(data.data(), data.size());
    owner_->Record({.kind = Event::Kind::kAppend, .file = node_->number, .bytes = data.ToString()});
    return Status::OK();
  }
  Status Truncate(std::uint64_t size, const Io&, Debug*) override {
    std::lock_guard lock(node_->mutex);
    if (size == node_->content.size()) return Status::OK();
    node_->content.resize(size);
    owner_->Record({.kind = Event::Kind::kTruncate, .file = node_->number, .offset = size});
    return Status::OK();
  }
  Status Close(const Io&, Debug*) override { return Status::OK(); }
  Status Flush(const Io&, Debug*) override { return Status::OK(); }
  Status Sync(const Io&, Debug*) override {
    std::lock_guard lock(node_->mutex);
    owner_->Record({.kind = Event::Kind::kSyncFile, .file = node_->number});
    return Status::OK();
  }
  bool IsSyncThreadSafe() const override { return true; }
  std::uint64_t GetFileSize(const Io&, Debug*) override {
    std::lock_guard lock(node_->mutex);
    return node_->content.size();
  }

 private:
  CrashFs* owner_;  // outlives RocksDB's files
  std::shared_ptr<Node> node_;
};

class CrashFs::Directory final : public rocksdb::FSDirectory {
 public:
  explicit Directory(CrashFs* owner) : owner_(owner) {}
  Status Fsync(const Io&, Debug*) override {
    std::lock_guard lock(owner_->mutex_);
    owner_->Record({.kind = Event::Kind::kSyncDirectory});
    return Status::OK();
  }

 private:
  CrashFs* owner_;
};

CrashFs::CrashFs(const FsImage& files, CrashTrace* trace) : trace_(trace) {
  std::uint64_t number = kFirstOldFile;
  for (const auto& [name, content] : files) {
    auto node = std::make_shared<Node>();
    node->number = number++;
    node->content = content;
    nodes_[name] = std::move(node);
  }
}

CrashFs::~CrashFs() = default;

FsImage CrashFs::Snapshot() const {
  std::lock_guard lock(mutex_);
  FsImage files;
  for (const auto& [name, node] : nodes_) files[name] = node->content;
  return files;
}

std::shared_ptr<CrashFs::Node> CrashFs::Find(const std::string& name) const {
  std::lock_guard lock(mutex_);
  const auto found = nodes_.find(name);
  return found == nodes_.end() ? nullptr : found->second;
}

void CrashFs::Record(Event event) {
  if (trace_ != nullptr) trace_->Append(std::move(event));
}

CrashFs::Status CrashFs::NewSequentialFile(const std::string& name, const rocksdb::FileOptions&,
                                           std::unique_ptr<rocksdb::FSSequentialFile>* result,
                                           Debug*) {
  std::shared_ptr<Node> node = Find(name);
  if (node == nullptr) return Missing(name);
  *result = std::make_unique<Reader>(std::move(node));
  return Status::OK();
}

CrashFs::Status CrashFs::NewRandomAccessFile(const std::string& name, const rocksdb::FileOptions&,
                                             std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                                             Debug*) {
  std::shared_ptr<Node> node = Find(name);
  if (node == nullptr) return Missing(name);
  *result = std::make_unique<Reader>(std::move(node));
  return Status::OK();
}

CrashFs::Status CrashFs::NewWritableFile(const std::string& name, const rocksdb::FileOptions&,
                                         std::unique_ptr<rocksdb::FSWritableFile>* result, Debug*) {
  auto node = std::make_shared<Node>();
  if (trace_ != nullptr) node->number = trace_->TakeNumber();
  {
    std::lock_guard lock(mutex_);
    nodes_[name] = node;
    Record({.kind = Event::Kind::kCreate, .file = node->number, .name = name});
  }
  *result = std::make_unique<Writer>(this, std::move(node));
  return Status::OK();
}

CrashFs::Status CrashFs::ReopenWritableFile(const std::string& name,
                                            const rocksdb::FileOptions& options,
                                            std::unique_ptr<rocksdb::FSWritableFile>* result,
                                            Debug* debug) {
  std::shared_ptr<Node> node = Find(name);
  if (node == nullptr) return NewWritableFile(name, options, result, debug);
  *result = std::make_unique<Writer>(this, std::move(node));
  return Status::OK();
}

CrashFs::Status CrashFs::NewDirectory(const std::string&, const Io&,
                                      std::unique_ptr<rocksdb::FSDirectory>* result, Debug*) {
  *result = std::make_unique<Directory>(this);
  return Status::OK();
}

CrashFs::Status CrashFs::FileExists(const std::string& name, const Io&, Debug*) {
  return Find(name) == nullptr ? Status::NotFound(name) : Status::OK();
}

CrashFs::Status CrashFs::GetChildren(const std::string& directory, const Io&,
                                     std::vector<std::string>* result, Debug*) {
  result->clear();
  std::string prefix = directory;
  if (!prefix.ends_with('/')) prefix.push_back('/');
  std::lock_guard lock(mutex_);
  for (const auto& [name, node] : nodes_) {
    if (name.starts_with(prefix)) result->push_back(name.substr(prefix.size()));
  }
  return Status::OK();
}

CrashFs::Status CrashFs::DeleteFile(const std::string& name, const Io&, Debug*) {
  std::lock_guard lock(mutex_);
  const auto found = nodes_.find(name);
  if (found == nodes_.end()) return Missing(name);
  Record({.kind = Event::Kind::kDelete, .file = found->second->number, .name = name});
  nodes_.erase(found);
  return Status::OK();
}

CrashFs::Status CrashFs::Truncate(const std::string& name, std::size_t size, const Io& options,
                                  Debug* debug) {
  std::shared_ptr<Node> node = Find(name);
  if (node == nullptr) return Missing(name);
  return Writer(this, std::move(node)).Truncate(size, options, debug);
}

CrashFs::Status CrashFs::CreateDir(const std::string&, const Io&, Debug*) { return Status::OK(); }
CrashFs::Status CrashFs::CreateDirIfMissing(const std::string&, const Io&, Debug*) {
  return Status::OK();
}
CrashFs::Status CrashFs::DeleteDir(const std::string&, const Io&, Debug*) { return Status::OK(); }

CrashFs::Status CrashFs::GetFileSize(const std::string& name, const Io&, std::uint64_t* size,
                                     Debug*) {
  const std::shared_ptr<Node> node = Find(name);
  if (node == nullptr) return Missing(name);
  std::lock_guard lock(node->mutex);
  *size = node->content.size();
  return Status::OK();
}

CrashFs::Status CrashFs::GetFileModificationTime(const std::string&, const Io&, std::uint64_t* time,
                                                 Debug*) {
  *time = 0;
  return Status::OK();
}

CrashFs::Status CrashFs::RenameFile(const std::string& from, const std::string& to, const Io&,
                                    Debug*) {
  std::lock_guard lock(mutex_);
  const auto found = nodes_.find(from);
  if (found == nodes_.end()) return Missing(from);
  Record({.kind = Event::Kind::kRename, .file = found->second->number, .name = from, .name2 = to});
  nodes_[to] = found->second;
  nodes_.erase(from);
  return Status::OK();
}

CrashFs::Status CrashFs::LockFile(const std::string&, const Io&, rocksdb::FileLock** lock, Debug*) {
  *lock = new rocksdb::FileLock;
  return Status::OK();
}

CrashFs::Status CrashFs::UnlockFile(rocksdb::FileLock* lock, const Io&, Debug*) {
  delete lock;
  return Status::OK();
}

CrashFs::Status CrashFs::GetTestDirectory(const Io&, std::string* path, Debug*) {
  path->assign(1, '/');
  return Status::OK();
}

CrashFs::Status CrashFs::GetAbsolutePath(const std::string& path, const Io&, std::string* result,
                                         Debug*) {
  *result = path;
  return Status::OK();
}

CrashFs::Status CrashFs::IsDirectory(const std::string& path, const Io&, bool* is_directory,
                                     Debug*) {
  *is_directory = Find(path) == nullptr;
  return Status::OK();
}

}  // namespace keelson::crash
