#pragma once
// KernelFile: a data file or block device opened for O_DIRECT by a kernel reactor. Owns the
// descriptor, its slot among the ring's registered files, and the lock, which is on that very
// descriptor: a killed process keeps it until the kernel has ended the I/O in flight.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "blockstore/io/file.h"

namespace keelson::io {

class KernelReactor;

class KernelFile final : public File {
 public:
  // As Reactor::OpenFile. With options.create a file that is shorter than options.size_bytes is
  // preallocated to it, so that a creation which a crash cut short is finished by the next one.
  static absl::StatusOr<std::unique_ptr<File>> Open(KernelReactor* reactor, const std::string& path,
                                                    const FileOptions& options);
  ~KernelFile() override;

  void Submit(IoOp* op) override;
  std::string_view path() const override { return path_; }
  std::uint64_t size_bytes() const override { return size_bytes_; }
  std::uint32_t sector_bytes() const override { return sector_bytes_; }

  int fd() const { return fd_; }
  // Among the ring's registered files; -1: use fd().
  int slot() const { return slot_; }
  void OperationEnded() { --in_flight_; }

 private:
  KernelFile(KernelReactor* reactor, std::string path, int fd)
      : reactor_(reactor), path_(std::move(path)), fd_(fd) {}
  absl::Status Lock(bool read_only) const;
  absl::Status Preallocate(std::uint64_t size_bytes, bool created) const;
  absl::Status ReadGeometry();

  KernelReactor* reactor_;  // outlives the file
  std::string path_;
  int fd_;
  int slot_ = -1;
  bool locked_ = false;
  bool block_device_ = false;
  std::uint64_t size_bytes_ = 0;
  std::uint32_t sector_bytes_ = kIoAlignment;
  std::uint64_t in_flight_ = 0;
};

}  // namespace keelson::io
