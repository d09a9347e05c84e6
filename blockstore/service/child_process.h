#pragma once
// Starting keelson-fuse-keeper from the daemon: for one act, with a deadline, or to stay. Blocking
// calls; any thread but a reactor's.

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace keelson::service {

// The program `name` in the directory of this process's own.
std::string ProgramBeside(const std::string& name);

// Runs `program` to its end; what it printed on stdout, without the last newline. An exit status is
// the code of the absl::Status that is returned, with that text as its message. DEADLINE_EXCEEDED:
// it has not ended in `limit`; it was killed, which takes effect once the kernel lets go of it.
absl::StatusOr<std::string> RunProgram(const std::string& program,
                                       const std::vector<std::string>& arguments,
                                       std::chrono::milliseconds limit);

// Starts `program` in a session of its own, so that signals to the daemon's group pass it by.
// stderr is appended to `log_path`. The caller reaps it, should it end before the caller does.
absl::StatusOr<pid_t> StartToStay(const std::string& program,
                                  const std::vector<std::string>& arguments,
                                  const std::string& log_path);

}  // namespace keelson::service
