#include "blockstore/io/buffer_pool.h"

#include <sys/mman.h>

#include "blockstore/io/check.h"

namespace keelson::io {
namespace {

constexpr std::size_t kArenaBytesMin = std::size_t{4} << 20;
constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

// Maps `size_bytes` at a 2 MiB boundary, so that huge pages fit and 1 MiB chunks are aligned.
std::byte* MapArena(std::size_t size_bytes) {
  const std::size_t mapped_bytes = size_bytes + kHugePageBytes;
  void* mapped = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  KEEL_CHECK(mapped != MAP_FAILED, "no memory for the I/O buffers; lower the buffer arena size");
  auto* start = static_cast<std::byte*>(mapped);
  const std::size_t skip =
      (kHugePageBytes - reinterpret_cast<std::uintptr_t>(start)) & (kHugePageBytes - 1);
  if (skip > 0) munmap(start, skip);
  munmap(start + skip + size_bytes, mapped_bytes - skip - size_bytes);
  // Advice only, a kernel may refuse any of it: fewer TLB misses and DMA segments; a child process
  // must not copy pages that a device writes to; volume data does not belong in core dumps.
  madvise(start + skip, size_bytes, MADV_HUGEPAGE);
  madvise(start + skip, size_bytes, MADV_DONTFORK);
  madvise(start + skip, size_bytes, MADV_DONTDUMP);
  return start + skip;
}

}  // namespace

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    Reset();
    pool_ = std::exchange(other.pool_, nullptr);
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
    size_class_ = other.size_class_;
  }
  return *this;
}

void Buffer::Reset() {
  if (data_ == nullptr) return;
  size_bytes_ = 0;
  // Emptied before it is given back: that may resume a waiter, which may look at this buffer.
  std::exchange(pool_, nullptr)->Give(std::exchange(data_, nullptr), size_class_);
}

BufferPool::BufferPool(std::size_t arena_bytes) {
  KEEL_CHECK(arena_bytes >= kArenaBytesMin && arena_bytes % kBufferSizeMax == 0,
             "a buffer arena is a multiple of 1 MiB, at least 4 MiB");
  KEEL_CHECK(arena_bytes / kUnitBytes < kNone, "a buffer arena has fewer than 2^32 units");
  arena_ = {MapArena(arena_bytes), arena_bytes};
  free_bytes_ = arena_bytes;
  units_.resize(arena_bytes / kUnitBytes);
  free_heads_.fill(kNone);
  constexpr std::uint32_t kChunkUnits = UnitsOf(kClassCount - 1);
  // Last chunk first: the lists are stacks, and the low addresses should be used first.
  for (std::size_t unit = units_.size(); unit > 0; unit -= kChunkUnits) {
    Link(static_cast<std::uint32_t>(unit - kChunkUnits), kClassCount - 1);
  }
}

BufferPool::~BufferPool() {
  KEEL_CHECK(free_bytes_ == arena_.size(),
             "every Buffer is given back before its pool is destroyed");
  munmap(arena_.data(), arena_.size());
}

Task<Buffer> BufferPool::Take(std::size_t size_bytes) {
  const std::uint32_t size_class = ClassOf(size_bytes);
  std::byte* data = first_waiter_ == nullptr ? Allocate(size_class) : nullptr;
  if (data == nullptr) {
    Waiter waiter(this, size_class);
    co_await waiter;
    data = waiter.data;
  }
  co_return Buffer(this, data, size_bytes, size_class);
}

Buffer BufferPool::TryTake(std::size_t size_bytes) {
  const std::uint32_t size_class = ClassOf(size_bytes);
  std::byte* data = first_waiter_ == nullptr ? Allocate(size_class) : nullptr;
  if (data == nullptr) return {};
  return {this, data, size_bytes, size_class};
}

void BufferPool::Waiter::await_suspend(std::coroutine_handle<> awaiting) noexcept {
  handle = awaiting;
  if (pool->last_waiter_ == nullptr) {
    pool->first_waiter_ = this;
  } else {
    pool->last_waiter_->next = this;
  }
  pool->last_waiter_ = this;
}

std::uint32_t BufferPool::ClassOf(std::size_t size_bytes) {
  KEEL_CHECK(size_bytes >= 1 && size_bytes <= kBufferSizeMax, "a buffer is 1 byte to 1 MiB long");
  std::uint32_t size_class = 0;
  while (UnitsOf(size_class) * kUnitBytes < size_bytes) ++size_class;
  return size_class;
}

std::byte* BufferPool::Allocate(std::uint32_t size_class) {
  std::uint32_t from = size_class;
  while (from < kClassCount && free_heads_[from] == kNone) ++from;
  if (from == kClassCount) return nullptr;
  const std::uint32_t unit = free_heads_[from];
  Unlink(unit);
  // Split: keep the first quarter, free the other three.
  while (from > size_class) {
    --from;
    for (std::uint32_t quarter = 3; quarter > 0; --quarter) {
      Link(unit + quarter * UnitsOf(from), from);
    }
  }
  free_bytes_ -= UnitsOf(size_class) * kUnitBytes;
  return arena_.data() + unit * kUnitBytes;
}

void BufferPool::Give(std::byte* data, std::uint32_t size_class) {
  auto unit =
      static_cast<std::uint32_t>(static_cast<std::size_t>(data - arena_.data()) / kUnitBytes);
  free_bytes_ += UnitsOf(size_class) * kUnitBytes;
  // Merge while the other three quarters of the parent block are free as well.
  for (; size_class + 1 < kClassCount; ++size_class) {
    const std::uint32_t parent = unit & ~(UnitsOf(size_class + 1) - 1);
    bool whole = true;
    for (std::uint32_t quarter = 0; quarter < 4; ++quarter) {
      const std::uint32_t sibling = parent + quarter * UnitsOf(size_class);
      whole = whole && (sibling == unit || units_[sibling].free_class == size_class);
    }
    if (!whole) break;
    for (std::uint32_t quarter = 0; quarter < 4; ++quarter) {
      const std::uint32_t sibling = parent + quarter * UnitsOf(size_class);
      if (sibling != unit) Unlink(sibling);
    }
    unit = parent;
  }
  Link(unit, size_class);
  ServeWaiters();
}

void BufferPool::ServeWaiters() {
  // A resumed waiter may give its buffer back at once; the outermost call then goes on serving, so
  // that a long queue does not become a deep stack.
  if (serving_) return;
  serving_ = true;
  while (first_waiter_ != nullptr) {
    Waiter* waiter = first_waiter_;
    waiter->data = Allocate(waiter->size_class);
    if (waiter->data == nullptr) break;
    first_waiter_ = waiter->next;
    if (first_waiter_ == nullptr) last_waiter_ = nullptr;
    waiter->handle.resume();
  }
  serving_ = false;
}

void BufferPool::Link(std::uint32_t unit, std::uint32_t size_class) {
  const std::uint32_t head = free_heads_[size_class];
  units_[unit] = {head, kNone, size_class};
  if (head != kNone) units_[head].previous = unit;
  free_heads_[size_class] = unit;
}

void BufferPool::Unlink(std::uint32_t unit) {
  Unit& entry = units_[unit];
  if (entry.previous != kNone) {
    units_[entry.previous].next = entry.next;
  } else {
    free_heads_[entry.free_class] = entry.next;
  }
  if (entry.next != kNone) units_[entry.next].previous = entry.previous;
  entry = Unit{};
}

}  // namespace keelson::io
