#pragma once
// MemoryDevice: a BlockDevice over memory for tests. Calls complete at once, or wait while the
// device is held; a given number of calls can be made to fail. One thread.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blockstore/engine/block_device.h"
#include "blockstore/frontend/nbd_export.h"
#include "blockstore/io/sync.h"

namespace keelson::frontend::testing {

class MemoryDevice : public engine::BlockDevice {
 public:
  explicit MemoryDevice(std::uint64_t size_bytes);

  // Calls made while held wait for Release.
  void Hold() { held_ = true; }
  void Release();
  // Lets `calls` pass, then fails all with `status` until told otherwise.
  void FailAfter(std::uint64_t calls, absl::Status status);
  void set_read_only(bool read_only) { read_only_ = read_only; }

  std::span<std::byte> bytes() const { return {bytes_.get(), size_bytes_}; }
  std::size_t running() const { return running_; }
  std::uint64_t writes() const { return writes_; }
  std::uint64_t trims() const { return trims_; }
  std::uint64_t flushes() const { return flushes_; }
  std::uint64_t fua_calls() const { return fua_calls_; }
  std::uint64_t call_bytes_max() const { return call_bytes_max_; }

  std::uint64_t size_bytes() const override { return size_bytes_; }
  bool read_only() const override { return read_only_; }
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into) override;
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               bool fua) override;
  io::Task<absl::Status> Flush() override;
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes, bool fua) override;
  io::Task<absl::StatusOr<std::vector<engine::BlockRun>>> Status(std::uint64_t offset,
                                                                 std::uint64_t size_bytes,
                                                                 std::size_t runs_max) override;

 private:
  // What every call passes: holding, failing, and the checks BlockDevice promises.
  io::Task<absl::Status> Enter(std::uint64_t offset, std::uint64_t size_bytes);

  struct FreeBytes {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  const std::uint64_t size_bytes_;
  std::unique_ptr<std::byte, FreeBytes> bytes_;  // of calloc: memory that is not used costs nothing
  std::vector<bool> present_;                    // by block
  bool held_ = false;
  bool read_only_ = false;
  io::WaitList waiting_;
  std::size_t running_ = 0;
  std::uint64_t calls_before_failure_ = 0;
  absl::Status failure_;
  std::uint64_t writes_ = 0;
  std::uint64_t trims_ = 0;
  std::uint64_t flushes_ = 0;
  std::uint64_t fua_calls_ = 0;
  std::uint64_t call_bytes_max_ = 0;
};

class MemoryDirectory : public ExportDirectory {
 public:
  void Add(std::string name, engine::BlockDevice* device) {
    exports_.emplace_back(std::move(name), device);
  }
  void Remove(std::string_view name);
  std::vector<std::string> Names() override;
  engine::BlockDevice* Find(std::string_view name) override;

 private:
  std::vector<std::pair<std::string, engine::BlockDevice*>> exports_;
};

}  // namespace keelson::frontend::testing
