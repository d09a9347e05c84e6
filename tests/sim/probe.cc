#include "tests/sim/probe.h"

#include <sys/mman.h>

#include "blockstore/io/check.h"

namespace keelson::sim {
namespace {

constexpr std::size_t kProbesMax = 256;

struct Registry {
  std::vector<std::string_view> names;
  std::atomic<std::uint64_t>* counters = nullptr;

  Registry() {
    void* const memory = mmap(nullptr, kProbesMax * sizeof(*counters), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KEEL_CHECK(memory != MAP_FAILED, "a page of shared memory for the probes");
    counters = static_cast<std::atomic<std::uint64_t>*>(memory);
  }
};

Registry& TheRegistry() {
  static Registry* const registry = new Registry;
  return *registry;
}

}  // namespace

std::atomic<std::uint64_t>* internal::RegisterProbe(std::string_view name) {
  Registry& registry = TheRegistry();
  KEEL_CHECK(registry.names.size() < kProbesMax, "kProbesMax is above the number of probes");
  registry.names.push_back(name);
  return &registry.counters[registry.names.size() - 1];
}

std::vector<ProbeCount> ProbeCounts() {
  const Registry& registry = TheRegistry();
  std::vector<ProbeCount> counts;
  for (std::size_t i = 0; i < registry.names.size(); ++i) {
    counts.push_back({registry.names[i], registry.counters[i].load()});
  }
  std::sort(counts.begin(), counts.end(),
            [](const ProbeCount& a, const ProbeCount& b) { return a.name < b.name; });
  return counts;
}

}  // namespace keelson::sim
