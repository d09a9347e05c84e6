#include "tests/unit/frontend/memory_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockstore/io/check.h"
#include "blockstore/io/status.h"

namespace keelson::frontend::testing {

using engine::kBlockSize;

MemoryDevice::MemoryDevice(std::uint64_t size_bytes)
    : size_bytes_(size_bytes),
      bytes_(static_cast<std::byte*>(std::calloc(size_bytes, 1))),
      present_(size_bytes / kBlockSize) {}

void MemoryDevice::Release() {
  held_ = false;
  waiting_.WakeAll();
}

void MemoryDevice::FailAfter(std::uint64_t calls, absl::Status status) {
  calls_before_failure_ = calls;
  failure_ = std::move(status);
}

io::Task<absl::Status> MemoryDevice::Enter(std::uint64_t offset, std::uint64_t size_bytes) {
  // The server must have checked what BlockDevice requires.
  KEEL_CHECK(offset % kBlockSize == 0 && size_bytes % kBlockSize == 0, "device calls are aligned");
  KEEL_CHECK(offset + size_bytes <= size_bytes_, "device calls are within the device");
  ++running_;
  if (held_) co_await waiting_.Wait();
  --running_;
  if (failure_.ok()) co_return failure_;
  if (calls_before_failure_ == 0) co_return failure_;
  --calls_before_failure_;
  co_return absl::OkStatus();
}

io::Task<absl::Status> MemoryDevice::Read(std::uint64_t offset, std::span<std::byte> into) {
  KEEL_CHECK(reinterpret_cast<std::uintptr_t>(into.data()) % kBlockSize == 0, "aligned memory");
  call_bytes_max_ = std::max<std::uint64_t>(call_bytes_max_, into.size());
  const absl::Status entered = co_await Enter(offset, into.size());
  CO_RETURN_IF_ERROR(entered);
  std::memcpy(into.data(), bytes_.get() + offset, into.size());
  co_return absl::OkStatus();
}

io::Task<absl::Status> MemoryDevice::Write(std::uint64_t offset, std::span<const std::byte> from,
                                           bool fua) {
  KEEL_CHECK(reinterpret_cast<std::uintptr_t>(from.data()) % kBlockSize == 0, "aligned memory");
  call_bytes_max_ = std::max<std::uint64_t>(call_bytes_max_, from.size());
  const absl::Status entered = co_await Enter(offset, from.size());
  CO_RETURN_IF_ERROR(entered);
  ++writes_;
  if (fua) ++fua_calls_;
  std::memcpy(bytes_.get() + offset, from.data(), from.size());
  for (std::uint64_t at = offset; at < offset + from.size(); at += kBlockSize) {
    present_[at / kBlockSize] = true;
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> MemoryDevice::Flush() {
  const absl::Status entered = co_await Enter(0, 0);
  CO_RETURN_IF_ERROR(entered);
  ++flushes_;
  co_return absl::OkStatus();
}

io::Task<absl::Status> MemoryDevice::Trim(std::uint64_t offset, std::uint64_t size_bytes,
                                          bool fua) {
  const absl::Status entered = co_await Enter(offset, size_bytes);
  CO_RETURN_IF_ERROR(entered);
  ++trims_;
  if (fua) ++fua_calls_;
  for (std::uint64_t at = offset; at < offset + size_bytes; at += kBlockSize) {
    if (present_[at / kBlockSize]) std::memset(bytes_.get() + at, 0, kBlockSize);
    present_[at / kBlockSize] = false;
  }
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<std::vector<engine::BlockRun>>> MemoryDevice::Status(
    std::uint64_t offset, std::uint64_t size_bytes, std::size_t runs_max) {
  std::vector<engine::BlockRun> runs;
  for (std::uint64_t at = offset; at < offset + size_bytes; at += kBlockSize) {
    const bool hole = !present_[at / kBlockSize];
    if (runs.empty() || runs.back().hole != hole) {
      if (runs.size() == runs_max) break;
      runs.push_back({.size_bytes = 0, .hole = hole});
    }
    runs.back().size_bytes += kBlockSize;
  }
  co_return runs;
}

void MemoryDirectory::Remove(std::string_view name) {
  std::erase_if(exports_, [name](const auto& entry) { return entry.first == name; });
}

std::vector<std::string> MemoryDirectory::Names() {
  std::vector<std::string> names;
  for (const auto& [name, device] : exports_) names.push_back(name);
  return names;
}

engine::BlockDevice* MemoryDirectory::Find(std::string_view name) {
  for (const auto& [known, device] : exports_) {
    if (known == name) return device;
  }
  return nullptr;
}

}  // namespace keelson::frontend::testing
