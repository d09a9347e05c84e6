// In a file of its own: where a compiler sees these bodies together with their callers it takes the
// pair malloc and delete for a mistake.

#include "tests/unit/frontend/allocation_count.h"

#include <cstdlib>
#include <new>

namespace {
thread_local std::uint64_t allocations = 0;
}  // namespace

void* operator new(std::size_t size) {
  ++allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace keelson::frontend::testing {

std::uint64_t AllocationsOfThisThread() { return allocations; }

}  // namespace keelson::frontend::testing
