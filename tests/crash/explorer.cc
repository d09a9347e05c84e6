#include "tests/crash/explorer.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "blockstore/io/check.h"
#include "blockstore/io/log.h"
#include "tests/crash/recovery.h"

namespace keelson::crash {
namespace {

constexpr CutKind kKinds[] = {CutKind::kLost, CutKind::kKept, CutKind::kRandom, CutKind::kKilled};

// What a worker tells its parent, in memory they share: it outlives a worker that aborts.
struct Report {
  std::uint64_t states;
  std::uint64_t events;
  char state[256];  // being recovered now
  char failure[2048];
  char recording[256];  // where the current recording is kept
};

Report* current_report = nullptr;  // this worker's; null outside of workers

std::string SpecText(const StateSpec& spec) {
  return absl::StrCat(CutName(spec.kind), ":", spec.cut, ":", spec.seed);
}

// The moments after which a promise is in force: a cut there must find it kept.
std::set<std::uint64_t> AcknowledgedAt(const History& history) {
  std::set<std::uint64_t> moments;
  for (const VolumeHistory& volume : history.volumes) {
    for (const Act* act : {&volume.made, &volume.removed}) moments.insert(act->acked);
    for (const Act& flush : volume.flushes) moments.insert(flush.acked);
    for (const SnapshotHistory& snapshot : volume.snapshots) {
      moments.insert(snapshot.made.acked);
      moments.insert(snapshot.removed.acked);
    }
    for (const std::vector<Version>& versions : volume.blocks) {
      for (const Version& version : versions) moments.insert(version.written.acked);
    }
  }
  return moments;
}

// One builder's position, explored in every way that is new there.
class Explorer {
 public:
  Explorer(CrashReactor* reactor, const Recording& recording, ExploreOptions options)
      : reactor_(reactor),
        recording_(recording),
        options_(options),
        acknowledged_at_(AcknowledgedAt(recording.history)),
        builder_(&recording.trace, recording.disk, recording.files) {}

  ExploreResult Run() {
    result_.events = recording_.trace.events().size();
    bool durable_changed = true;
    do {
      durable_changed = durable_changed || builder_.durable_changed();
      const std::uint64_t cut = builder_.position();
      const bool promised = acknowledged_at_.contains(cut);
      // A state equal to the last one, with nothing promised since, is not looked at twice.
      if (durable_changed || promised) Try({cut, CutKind::kLost, 0});
      durable_changed = false;
      Try({cut, CutKind::kKept, 0});
      for (int i = 0; i < options_.random_states; ++i) {
        Try({cut, CutKind::kRandom, static_cast<std::uint64_t>(i)});
      }
      Try({cut, CutKind::kKilled, 0});
    } while (result_.failure.empty() && builder_.Advance());
    return result_;
  }

  absl::Status Only(const StateSpec& spec) {
    while (builder_.position() < spec.cut && builder_.Advance()) {
    }
    return Check(spec);
  }

 private:
  absl::Status Check(const StateSpec& spec) {
    sim::Random random(recording_.seed * 1'000'003 + spec.cut * 16 + spec.seed);
    const CrashState state = builder_.Cut(spec.kind, &random);
    return CheckRecovery(reactor_, recording_.history, state, spec.cut, spec.kind);
  }
  void Try(const StateSpec& spec) {
    if (!result_.failure.empty()) return;
    if (current_report != nullptr) {
      std::snprintf(current_report->state, sizeof current_report->state, "%s",
                    SpecText(spec).c_str());
    }
    const absl::Status checked = Check(spec);
    ++result_.states;
    if (!checked.ok()) result_.failure = absl::StrCat(SpecText(spec), ": ", checked.ToString());
  }

  CrashReactor* reactor_;
  const Recording& recording_;
  ExploreOptions options_;
  std::set<std::uint64_t> acknowledged_at_;
  ImageBuilder builder_;
  ExploreResult result_;
};

std::string RecordingPath(std::uint64_t seed) {
  return (std::filesystem::temp_directory_path() /
          absl::StrCat("keelson-crash-", getpid(), "-", seed, ".recording"))
      .string();
}

// In a worker: one seed, recorded and explored. False when it failed.
bool RunSeed(const RecordOptions& run, ExploreOptions options, Report* report) {
  CrashReactor reactor(run.seed);
  auto recording = std::make_unique<Recording>();
  std::snprintf(report->state, sizeof report->state, "recording");
  const absl::Status recorded = RecordRun(&reactor, run, recording.get());
  if (!recorded.ok()) {
    std::snprintf(report->failure, sizeof report->failure, "recording seed %llu: %s",
                  static_cast<unsigned long long>(run.seed), recorded.ToString().c_str());
    return false;
  }
  const std::string path = RecordingPath(run.seed);
  if (options.keep_recording && recording->Save(path).ok()) {
    std::snprintf(report->recording, sizeof report->recording, "%s", path.c_str());
  }
  const ExploreResult explored = Explore(&reactor, *recording, options);
  report->states += explored.states;
  report->events += explored.events;
  if (!explored.failure.empty()) {
    std::snprintf(report->failure, sizeof report->failure, "%s", explored.failure.c_str());
    return false;
  }
  std::filesystem::remove(path);
  return true;
}

[[noreturn]] void RunWorker(const std::vector<RecordOptions>& runs, ExploreOptions options,
                            unsigned worker, unsigned worker_count, Report* report) {
  current_report = report;
  spdlog::set_level(spdlog::level::err);
  mallopt(M_ARENA_MAX, 1);  // RocksDB's short-lived threads would each map and unmap one
  for (std::size_t i = worker; i < runs.size(); i += worker_count) {
    if (!RunSeed(runs[i], options, report)) break;
  }
  std::_Exit(0);  // a failed recovery may leave coroutines behind
}

std::string Describe(const Report& report, int wait_status) {
  if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0 && report.failure[0] == '\0')
    return "";
  std::string text = report.failure;
  if (text.empty()) {
    text = absl::StrCat(report.state, ": the process died, wait status ", wait_status);
  }
  if (report.recording[0] != '\0') {
    absl::StrAppend(&text, "\n  replay: KEELSON_CRASH_REPLAY=", report.recording, ":", report.state,
                    " crash_test --gtest_filter=CrashReplay.*");
  }
  return text;
}

}  // namespace

ExploreResult Explore(CrashReactor* reactor, const Recording& recording, ExploreOptions options) {
  return Explorer(reactor, recording, options).Run();
}

absl::Status Replay(CrashReactor* reactor, const Recording& recording, const StateSpec& spec) {
  return Explorer(reactor, recording, {}).Only(spec);
}

ExploreResult ExploreSeeds(const std::vector<RecordOptions>& runs, ExploreOptions options,
                           unsigned worker_count) {
  worker_count = std::max(1u, std::min(worker_count, static_cast<unsigned>(runs.size())));
  const std::size_t shared_bytes = worker_count * sizeof(Report);
  void* shared =
      mmap(nullptr, shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  KEEL_CHECK(shared != MAP_FAILED, "memory for the workers' reports");
  auto* reports = static_cast<Report*>(shared);
  std::vector<pid_t> workers;
  std::fflush(nullptr);
  for (unsigned i = 0; i < worker_count; ++i) {
    const pid_t pid = fork();
    KEEL_CHECK(pid >= 0, "a worker process");
    if (pid == 0) RunWorker(runs, options, i, worker_count, &reports[i]);
    workers.push_back(pid);
  }
  ExploreResult result;
  for (unsigned i = 0; i < worker_count; ++i) {
    int wait_status = 0;
    waitpid(workers[i], &wait_status, 0);
    result.states += reports[i].states;
    result.events += reports[i].events;
    const std::string failure = Describe(reports[i], wait_status);
    if (!failure.empty()) absl::StrAppend(&result.failure, failure, "\n");
  }
  munmap(shared, shared_bytes);
  return result;
}

absl::Status ReplayFromText(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  StateSpec spec;
  if (parts.size() != 4 || !absl::SimpleAtoi(parts[2], &spec.cut) ||
      !absl::SimpleAtoi(parts[3], &spec.seed)) {
    return absl::InvalidArgumentError("want FILE:KIND:CUT:SEED");
  }
  for (CutKind kind : kKinds) {
    if (parts[1] == CutName(kind)) spec.kind = kind;
  }
  auto recording = std::make_unique<Recording>();
  const absl::Status loaded = recording->Load(parts[0]);
  if (!loaded.ok()) return loaded;
  CrashReactor reactor(1);
  return Replay(&reactor, *recording, spec);
}

}  // namespace keelson::crash
