#include "blockstore/service/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <thread>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/service/keeper/keeper_messages.h"

namespace keelson::service {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kOutputBytesMax = 8192;
constexpr std::chrono::milliseconds kReapInterval{2};
// What a killed one is given to end.
constexpr std::chrono::milliseconds kReapPatience{200};

// What a child begins with: no signal blocked or ignored, /dev/null as stdin.
class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawnattr_init(&attributes_);
    posix_spawn_file_actions_init(&actions_);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes_, &signals);
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attributes_, &signals);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawnattr_destroy(&attributes_);
    posix_spawn_file_actions_destroy(&actions_);
  }

  posix_spawn_file_actions_t* actions() { return &actions_; }

  absl::StatusOr<pid_t> Spawn(const std::string& program, const std::vector<std::string>& arguments,
                              short flags) {
    posix_spawnattr_setflags(
        &attributes_, static_cast<short>(flags | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
    // const_cast: the interface is that of C; nothing is written to.
    std::vector<char*> argv = {const_cast<char*>(program.c_str())};
    for (const std::string& argument : arguments) {
      argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    pid_t pid = -1;
    const int error =
        posix_spawn(&pid, program.c_str(), &actions_, &attributes_, argv.data(), environ);
    if (error == 0) return pid;
    return io::ErrnoStatus(error, absl::StrCat("starting ", program));
  }

 private:
  posix_spawnattr_t attributes_;
  posix_spawn_file_actions_t actions_;
};

int MillisUntil(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  return static_cast<int>(std::max<std::int64_t>(0, left.count()));
}

// Reads until the other end is closed, or the deadline.
std::string ReadUntil(int fd, Clock::time_point deadline) {
  std::string output;
  std::array<char, 512> buffer;
  pollfd ready = {fd, POLLIN, 0};
  for (;;) {
    const int count = poll(&ready, 1, MillisUntil(deadline));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return output;
    const ssize_t got = read(fd, buffer.data(), buffer.size());
    if (got <= 0) return output;
    if (output.size() < kOutputBytesMax) output.append(buffer.data(), static_cast<size_t>(got));
  }
}

// The exit status, or -1 when it has not ended by `deadline`.
int Reap(pid_t pid, Clock::time_point deadline) {
  for (;;) {
    int status = 0;
    const pid_t ended = waitpid(pid, &status, WNOHANG);
    if (ended == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    if (ended < 0 && errno != EINTR) return 128;
    if (Clock::now() >= deadline) return -1;
    std::this_thread::sleep_for(kReapInterval);
  }
}

}  // namespace

std::string ProgramBeside(const std::string& name) {
  std::error_code error;
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe", error);
  return (error ? std::filesystem::path("/usr/bin") : own.parent_path()) / name;
}

absl::StatusOr<std::string> RunProgram(const std::string& program,
                                       const std::vector<std::string>& arguments,
                                       std::chrono::milliseconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  std::array<int, 2> ends = {-1, -1};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return io::ErrnoStatus(errno, "making a pipe");
  Descriptor output(ends[0]);
  Descriptor childs(ends[1]);
  SpawnSettings settings;
  posix_spawn_file_actions_adddup2(settings.actions(), childs.get(), STDOUT_FILENO);
  ASSIGN_OR_RETURN(const pid_t pid, settings.Spawn(program, arguments, 0));
  childs.Reset();
  std::string text = ReadUntil(output.get(), deadline);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  int status = Reap(pid, deadline);
  if (status < 0) {
    kill(pid, SIGKILL);
    // One that the kernel does not let go of is left to init, after us.
    (void)Reap(pid, Clock::now() + kReapPatience);
    return absl::DeadlineExceededError(
        absl::StrCat("it has not ended in ", limit.count() / 1000,
                     " s: the volume's I/O waits; see `keelctl why`"));
  }
  if (status == 0) return text;
  if (status > static_cast<int>(absl::StatusCode::kUnauthenticated)) {
    return absl::InternalError(absl::StrCat(program, " ended with status ", status));
  }
  return absl::Status(static_cast<absl::StatusCode>(status), text);
}

absl::StatusOr<pid_t> StartToStay(const std::string& program,
                                  const std::vector<std::string>& arguments,
                                  const std::string& log_path) {
  SpawnSettings settings;
  posix_spawn_file_actions_addopen(settings.actions(), STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(settings.actions(), STDERR_FILENO, log_path.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  return settings.Spawn(program, arguments, POSIX_SPAWN_SETSID);
}

}  // namespace keelson::service
