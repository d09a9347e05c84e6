#include "csi/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "csi/fd.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

constexpr std::size_t kOutputBytesMax = 4096;
constexpr std::size_t kMessageBytesMax = 600;

absl::StatusOr<std::string> FindTool(const std::string& name) {
  for (const char* directory : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
    std::string path = absl::StrCat(directory, name);
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the program ", name, " is not installed on this node"));
}

// posix_spawn's attributes and actions, freed at the end.
struct SpawnPlan {
  SpawnPlan() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

absl::StatusOr<pid_t> Spawn(const std::string& path, const std::vector<std::string>& arguments,
                            int directory_fd, int output_fd) {
  SpawnPlan plan;
  posix_spawn_file_actions_addopen(&plan.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&plan.actions, output_fd, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&plan.actions, output_fd, STDERR_FILENO);
  if (directory_fd >= 0) {
    posix_spawn_file_actions_addfchdir_np(&plan.actions, directory_fd);
  } else {
    posix_spawn_file_actions_addchdir_np(&plan.actions, "/");
  }
  sigset_t none;
  sigemptyset(&none);
  sigset_t all;
  sigfillset(&all);
  posix_spawnattr_setsigmask(&plan.attributes, &none);
  posix_spawnattr_setsigdefault(&plan.attributes, &all);
  // A group of its own: a signal for this program's group does not end a file system check.
  posix_spawnattr_setpgroup(&plan.attributes, 0);
  posix_spawnattr_setflags(&plan.attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  char search_path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  char language[] = "LC_ALL=C";
  char* environment[] = {search_path, language, nullptr};
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, path.c_str(), &plan.actions, &plan.attributes, argv.data(), environment);
  if (error != 0) return ErrnoStatus(error, absl::StrCat("start of ", path));
  return pid;
}

// Reads until the tool has ended (its pidfd becomes readable) or the time is over. False: it is.
bool Collect(int output_fd, int pid_fd, std::chrono::steady_clock::time_point end,
             std::string* output) {
  pollfd fds[] = {{pid_fd, POLLIN, 0}, {output_fd, POLLIN, 0}};
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    const int wait_ms = static_cast<int>(std::min<std::int64_t>(left.count(), 60'000));
    if (poll(fds, 2, wait_ms) < 0 && errno != EINTR) return false;
    char buffer[1024];
    ssize_t count = 0;
    while ((count = read(output_fd, buffer, sizeof(buffer))) > 0) {
      output->append(buffer, static_cast<std::size_t>(count));
      if (output->size() > 2 * kOutputBytesMax) output->erase(0, output->size() - kOutputBytesMax);
    }
    if ((fds[1].revents & (POLLHUP | POLLERR)) != 0) fds[1].fd = -1;
    if ((fds[0].revents & POLLIN) != 0) return true;
  }
}

}  // namespace

absl::StatusOr<CommandResult> RunCommand(const std::vector<std::string>& arguments,
                                         int directory_fd, std::chrono::milliseconds timeout) {
  ASSIGN_OR_RETURN(const std::string path, FindTool(arguments.front()));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return ErrnoStatus(errno, "pipe");
  Fd reader(ends[0]);
  Fd writer(ends[1]);
  // What the tool writes waits for us, rather than failing.
  fcntl(writer.get(), F_SETFL, 0);
  ASSIGN_OR_RETURN(const pid_t pid, Spawn(path, arguments, directory_fd, writer.get()));
  writer.Close();
  const Fd pid_fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  CommandResult result;
  const bool ended =
      pid_fd.ok() && Collect(reader.get(), pid_fd.get(), std::chrono::steady_clock::now() + timeout,
                             &result.output);
  if (!ended) kill(-pid, SIGKILL);
  // A killed tool may hang in the kernel for as long as its device does: then so does this call,
  // since the device is not free before.
  siginfo_t info{};
  while (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) != 0 && errno == EINTR) {
  }
  if (result.output.size() > kOutputBytesMax) {
    result.output.erase(0, result.output.size() - kOutputBytesMax);
  }
  if (!ended) {
    return absl::DeadlineExceededError(
        absl::StrCat(arguments.front(), " did not end within ",
                     std::chrono::duration_cast<std::chrono::seconds>(timeout).count(),
                     " s and was stopped: ", OneLine(result.output)));
  }
  if (info.si_code != CLD_EXITED) {
    return absl::InternalError(absl::StrCat(arguments.front(), " died of signal ", info.si_status));
  }
  result.exit_code = info.si_status;
  return result;
}

std::string OneLine(const std::string& output) {
  std::string line;
  for (const char c : output) {
    const bool printable = c > ' ' && c <= '~';
    if (printable) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  if (line.size() > kMessageBytesMax) {
    line = absl::StrCat("...", line.substr(line.size() - kMessageBytesMax));
  }
  return std::string(absl::StripAsciiWhitespace(line));
}

}  // namespace keelson::csi
