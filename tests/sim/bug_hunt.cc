#include "tests/sim/bug_hunt.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"

namespace keelson::sim {
namespace {

constexpr int kWorkers = 2;
constexpr std::uint64_t kSeedsPerWorker = 20;
constexpr std::time_t kSeedSecondsMax = 60;  // of the processor; a seed takes a tenth of one
constexpr rlim_t kMemoryBytesMax = rlim_t{4} << 30;

// What a worker tells the parent.
struct Slot {
  std::uint64_t seed = 0;  // under way, or the one that failed
  char error[1024] = {};
  int stderr_fd = -1;  // of the worker: why it aborted
};

// A bug and how far the search for it came.
struct Quarry {
  HuntResult result;
  std::uint64_t known = 0;
  std::uint64_t next = 1;
  std::optional<std::uint64_t> suspect;  // failed with the bug; without it is to be seen
  bool done = false;
};

struct Job {
  std::size_t quarry = 0;
  std::string_view bug;
  std::uint64_t first = 0, last = 0;  // the one after the last
};

class Hunter {
 public:
  Hunter(const std::vector<BugRow>& rows, const std::map<std::string, Simulation>& simulations,
         const HuntOptions& options)
      : simulations_(simulations), options_(options) {
    for (const BugRow& row : rows) {
      Quarry quarry;
      quarry.result.row = row;
      quarry.result.row.seed = 0;
      if (options.known_first) quarry.known = row.seed;
      quarries_.push_back(std::move(quarry));
    }
    void* const memory = mmap(nullptr, kWorkers * sizeof(Slot), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KEEL_CHECK(memory != MAP_FAILED, "a few pages can be mapped");
    for (int i = 0; i < kWorkers; ++i) {
      slots_[i] = new (static_cast<Slot*>(memory) + i) Slot;
      slots_[i]->stderr_fd = memfd_create("stderr", 0);
    }
  }

  std::vector<HuntResult> Run() {
    for (int slot = 0; slot < kWorkers; ++slot) StartNext(slot);
    while (!running_.empty()) {
      int state = 0;
      const pid_t pid = wait(&state);
      const auto found = running_.find(pid);
      if (found == running_.end()) continue;
      const auto [slot, job] = found->second;
      running_.erase(found);
      Ended(*slots_[slot], job, state);
      const Quarry& quarry = quarries_[job.quarry];
      if (quarry.done && options_.ended) options_.ended(quarry.result);
      if (!quarry.done) {
        Start(slot, NextJob(job.quarry));
      } else {
        StartNext(slot);
      }
    }
    std::vector<HuntResult> results;
    for (Quarry& quarry : quarries_) results.push_back(std::move(quarry.result));
    return results;
  }

 private:
  void StartNext(int slot) {
    if (next_quarry_ == quarries_.size()) return;
    Start(slot, NextJob(next_quarry_++));
  }

  Job NextJob(std::size_t index) {
    Quarry& quarry = quarries_[index];
    Job job;
    job.quarry = index;
    if (quarry.suspect.has_value()) {
      job.first = *quarry.suspect;
      job.last = job.first + 1;
      return job;
    }
    job.bug = quarry.result.row.bug;
    if (quarry.known != 0) {
      job.first = quarry.known;
      job.last = job.first + 1;
      return job;
    }
    job.first = quarry.next;
    job.last = std::min(quarry.next + kSeedsPerWorker, options_.seeds_max + 1);
    return job;
  }

  void Start(int slot, const Job& job) {
    std::fflush(nullptr);
    const pid_t pid = fork();
    if (pid == 0) Work(slots_[slot], job);
    KEEL_CHECK(pid > 0, "a worker can be forked");
    running_[pid] = {slot, job};
  }

  // noexcept: an exception must end the worker, not reach the test framework in it.
  [[noreturn]] void Work(Slot* slot, const Job& job) noexcept {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (ftruncate(slot->stderr_fd, 0) == 0) lseek(slot->stderr_fd, 0, SEEK_SET);
    dup2(slot->stderr_fd, STDERR_FILENO);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // those reserve terabytes
    const rlimit memory = {kMemoryBytesMax, kMemoryBytesMax};
    setrlimit(RLIMIT_AS, &memory);
#endif
    SetSeededBug(job.bug);
    const Simulation& simulation = simulations_.at(quarries_[job.quarry].result.row.simulation);
    for (std::uint64_t seed = job.first; seed < job.last; ++seed) {
      slot->seed = seed;
      const itimerval limit = {{0, 0}, {kSeedSecondsMax, 0}};
      setitimer(ITIMER_PROF, &limit, nullptr);
      const std::string error = simulation(seed);
      if (error.empty()) continue;
      std::snprintf(slot->error, sizeof(slot->error), "%s", error.c_str());
      _exit(1);
    }
    _exit(0);
  }

  void Ended(const Slot& slot, const Job& job, int state) {
    Quarry& quarry = quarries_[job.quarry];
    const bool passed = WIFEXITED(state) && WEXITSTATUS(state) == 0;
    if (quarry.suspect.has_value()) {
      const std::uint64_t seed = *std::exchange(quarry.suspect, std::nullopt);
      quarry.done = passed;
      if (passed) quarry.result.row.seed = seed;
      if (passed) quarry.result.row.found_by = FoundBy(quarry.result.error);
    } else if (!passed) {
      quarry.suspect = slot.seed;
      quarry.result.error = WhatWentWrong(slot, state);
      // A run without an end is no finding: nobody says what broke.
      if (WIFSIGNALED(state) && WTERMSIG(state) == SIGPROF) quarry.suspect.reset();
    }
    if (quarry.done || quarry.suspect.has_value()) {
      if (job.first != quarry.known) quarry.next = slot.seed + 1;
      return;
    }
    if (quarry.known != 0) {
      quarry.result.moved = true;
      quarry.known = 0;
    } else if (!job.bug.empty()) {
      quarry.next = passed ? job.last : slot.seed + 1;
    }
    quarry.done = quarry.next > options_.seeds_max;
  }

  static std::string WhatWentWrong(const Slot& slot, int state) {
    if (WIFEXITED(state) && WEXITSTATUS(state) == 1) return slot.error;
    char text[4096] = {};
    const ssize_t count = pread(slot.stderr_fd, text, sizeof(text) - 1, 0);
    const std::string all(text, count > 0 ? static_cast<std::size_t>(count) : 0);
    const std::size_t broken = all.find("invariant broken: ");
    if (broken == std::string::npos) return absl::StrCat("abort: ", all.substr(0, 200));
    const std::string what = all.substr(broken + std::string_view("invariant broken: ").size());
    return absl::StrCat("abort: ", what.substr(0, what.find('\n')));
  }

  // The invariant's name, or the beginning of what the model says.
  static std::string FoundBy(const std::string& error) {
    const std::size_t colon = error.find(':');
    const std::string name = error.substr(0, colon);
    if (colon != std::string::npos && name != "abort" && name.find(' ') == std::string::npos) {
      return name;
    }
    constexpr std::size_t kShown = 60;
    std::string shown = error.substr(0, kShown);
    std::replace(shown.begin(), shown.end(), '\n', ' ');
    return shown;
  }

  const std::map<std::string, Simulation>& simulations_;
  HuntOptions options_;
  std::vector<Quarry> quarries_;
  std::size_t next_quarry_ = 0;
  Slot* slots_[kWorkers] = {};
  std::map<pid_t, std::pair<int, Job>> running_;
};

}  // namespace

absl::StatusOr<std::vector<BugRow>> ParseBugTable(std::string_view text) {
  std::vector<BugRow> rows;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#')));
    BugRow row;
    if (!(words >> row.bug)) continue;
    if (!(words >> row.rule >> row.simulation >> row.seed)) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number,
                       " of the table of bugs: a name, a rule, a simulation and a seed are "
                       "wanted, not: ",
                       line));
    }
    std::getline(words >> std::ws, row.found_by);
    rows.push_back(std::move(row));
  }
  return rows;
}

absl::StatusOr<std::vector<BugRow>> LoadBugTable(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("no table of bugs at ", path));
  std::ostringstream text;
  text << file.rdbuf();
  return ParseBugTable(text.str());
}

std::string FormatBugTable(const std::vector<BugRow>& rows) {
  std::string text;
  for (const BugRow& row : rows) {
    char line[512];
    std::snprintf(line, sizeof(line), "%-32s %-4s %-6s %6llu  %s", row.bug.c_str(),
                  row.rule.c_str(), row.simulation.c_str(),
                  static_cast<unsigned long long>(row.seed), row.found_by.c_str());
    absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(line), "\n");
  }
  return text;
}

std::vector<HuntResult> HuntBugs(const std::vector<BugRow>& rows,
                                 const std::map<std::string, Simulation>& simulations,
                                 const HuntOptions& options) {
  spdlog::set_level(spdlog::level::off);
  // As in SeedRunner: giving each large buffer back to the kernel costs more than a seed.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  return Hunter(rows, simulations, options).Run();
}

}  // namespace keelson::sim
