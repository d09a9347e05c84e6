#pragma once
// The Status of a failed system call; the macros that propagate one come with it. Any thread.

#include <cerrno>
#include <string_view>

#include "absl/status/status.h"
#include "proto/rpc/status_macros.h"

namespace keelson::csi {

// `what` names the object and the act, for example "mount of /dev/loop3 at /a/b".
//   ENOENT -> NOT_FOUND   EBUSY, ENOTEMPTY -> FAILED_PRECONDITION   ENOSPC -> RESOURCE_EXHAUSTED
//   EACCES, EPERM -> PERMISSION_DENIED   everything else -> INTERNAL
absl::Status ErrnoStatus(int error_number, std::string_view what);

}  // namespace keelson::csi
