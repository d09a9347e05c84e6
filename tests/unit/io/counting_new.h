#pragma once
// A binary that links counting_new.cc counts its heap allocations.

#include <cstddef>

namespace keelson::io {

// Calls of operator new so far, by all threads; 0 under AddressSanitizer.
std::size_t AllocationCount();

}  // namespace keelson::io
