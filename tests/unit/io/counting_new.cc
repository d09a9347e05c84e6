#include "tests/unit/io/counting_new.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<std::size_t> allocation_count{0};
}  // namespace

// AddressSanitizer has an operator new of its own, and the count means nothing there.
#if !defined(__SANITIZE_ADDRESS__)
// In a file of its own: inlined next to its use, GCC takes the pair for a mismatch.
void* operator new(std::size_t size_bytes) {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size_bytes)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size_bytes*/) noexcept { std::free(memory); }
#endif

namespace keelson::io {

std::size_t AllocationCount() { return allocation_count.load(std::memory_order_relaxed); }

}  // namespace keelson::io
