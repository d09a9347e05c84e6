#pragma once
// Invariant checks that stay on in release builds. A failed check means wrong *memory* state (a bug
// in this program): the process aborts with a message, and the core dump shows where. Wrong bytes
// from a disk or a peer are never a KEEL_CHECK; they are an absl::Status.

#include <cstdio>
#include <cstdlib>

namespace keelson::io {

[[noreturn]] inline void CheckFailed(const char* condition, const char* message, const char* file,
                                     int line) {
  std::fprintf(stderr, "%s:%d: invariant broken: %s (%s)\n", file, line, message, condition);
  std::fflush(stderr);
  std::abort();
}

}  // namespace keelson::io

#define KEEL_CHECK(condition, message)                                     \
  do {                                                                     \
    if (!(condition)) [[unlikely]] {                                       \
      ::keelson::io::CheckFailed(#condition, message, __FILE__, __LINE__); \
    }                                                                      \
  } while (false)
