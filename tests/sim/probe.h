#pragma once
// Coverage probes: SIM_PROBE("a torn write was kept") counts that a rare event happened. A run of
// many seeds in which a probe never fires proves less than it seems to, so the suite fails then.
// Every probe in the program registers itself before main, hit or not. The counts live in memory
// that forked workers share.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace keelson::sim {

struct ProbeCount {
  std::string_view name;
  std::uint64_t hits = 0;
};

// All probes of this program, by name.
std::vector<ProbeCount> ProbeCounts();

namespace internal {

template <std::size_t kSize>
struct ProbeName {
  char text[kSize];
  // Implicit, so that a string literal can be a template argument.
  constexpr ProbeName(const char (&literal)[kSize]) { std::copy_n(literal, kSize, text); }
};

// Gives the probe called `name` its counter.
std::atomic<std::uint64_t>* RegisterProbe(std::string_view name);

template <ProbeName kName>
struct Probe {
  static inline std::atomic<std::uint64_t>* const counter = RegisterProbe(kName.text);
  static void Hit() { counter->fetch_add(1, std::memory_order_relaxed); }
};

}  // namespace internal
}  // namespace keelson::sim

#define SIM_PROBE(name) ::keelson::sim::internal::Probe<name>::Hit()
