#pragma once
// CrashFs: a rocksdb::FileSystem in memory, made from an FsImage, that records what is done to it
// into a CrashTrace (or nowhere: the recovery of a state is not recorded). One directory tree, no
// permissions, never full. RocksDB calls it from several threads.

#include <rocksdb/file_system.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/crash/crash_image.h"
#include "tests/crash/crash_trace.h"

namespace keelson::crash {

class CrashFs final : public rocksdb::FileSystem {
 public:
  // `trace` may be null; otherwise it outlives this.
  CrashFs(const FsImage& files, CrashTrace* trace);
  ~CrashFs() override;
  const char* Name() const override { return "CrashFs"; }

  // Everything in it, for the next run to begin with.
  FsImage Snapshot() const;

  using Debug = rocksdb::IODebugContext;
  using Io = rocksdb::IOOptions;
  using Status = rocksdb::IOStatus;
  Status NewSequentialFile(const std::string& name, const rocksdb::FileOptions& options,
                           std::unique_ptr<rocksdb::FSSequentialFile>* result,
                           Debug* debug) override;
  Status NewRandomAccessFile(const std::string& name, const rocksdb::FileOptions& options,
                             std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                             Debug* debug) override;
  Status NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                         std::unique_ptr<rocksdb::FSWritableFile>* result, Debug* debug) override;
  Status ReopenWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                            std::unique_ptr<rocksdb::FSWritableFile>* result,
                            Debug* debug) override;
  Status NewDirectory(const std::string& name, const Io& options,
                      std::unique_ptr<rocksdb::FSDirectory>* result, Debug* debug) override;
  Status FileExists(const std::string& name, const Io& options, Debug* debug) override;
  Status GetChildren(const std::string& directory, const Io& options,
                     std::vector<std::string>* result, Debug* debug) override;
  Status DeleteFile(const std::string& name, const Io& options, Debug* debug) override;
  Status Truncate(const std::string& name, std::size_t size, const Io& options,
                  Debug* debug) override;
  Status CreateDir(const std::string& name, const Io& options, Debug* debug) override;
  Status CreateDirIfMissing(const std::string& name, const Io& options, Debug* debug) override;
  Status DeleteDir(const std::string& name, const Io& options, Debug* debug) override;
  Status GetFileSize(const std::string& name, const Io& options, std::uint64_t* size,
                     Debug* debug) override;
  Status GetFileModificationTime(const std::string& name, const Io& options, std::uint64_t* time,
                                 Debug* debug) override;
  Status RenameFile(const std::string& from, const std::string& to, const Io& options,
                    Debug* debug) override;
  Status LockFile(const std::string& name, const Io& options, rocksdb::FileLock** lock,
                  Debug* debug) override;
  Status UnlockFile(rocksdb::FileLock* lock, const Io& options, Debug* debug) override;
  Status GetTestDirectory(const Io& options, std::string* path, Debug* debug) override;
  Status GetAbsolutePath(const std::string& path, const Io& options, std::string* result,
                         Debug* debug) override;
  Status IsDirectory(const std::string& path, const Io& options, bool* is_directory,
                     Debug* debug) override;

 private:
  struct Node {
    std::uint64_t number = 0;
    mutable std::mutex mutex;
    std::string content;
  };
  class Reader;
  class Writer;
  class Directory;

  std::shared_ptr<Node> Find(const std::string& name) const;
  // Appends while holding mutex_, so that the order of the trace is the order of the names.
  void Record(Event event);

  CrashTrace* trace_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Node>> nodes_;
};

}  // namespace keelson::crash
