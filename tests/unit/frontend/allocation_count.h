#pragma once
// How often the calling thread has used operator new. Linking allocation_count.cc replaces the
// program's operator new with one that counts.

#include <cstdint>

namespace keelson::frontend::testing {

std::uint64_t AllocationsOfThisThread();

}  // namespace keelson::frontend::testing
