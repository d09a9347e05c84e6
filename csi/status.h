#pragma once
// Propagation of absl::Status, and the Status of a failed system call. Any thread.

#include <cerrno>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define KEEL_CONCAT_INNER(a, b) a##b
#define KEEL_CONCAT(a, b) KEEL_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expression)                                   \
  do {                                                                \
    if (absl::Status keel_status = (expression); !keel_status.ok()) { \
      return keel_status;                                             \
    }                                                                 \
  } while (false)

#define ASSIGN_OR_RETURN(target, expression)                          \
  auto KEEL_CONCAT(keel_statusor_, __LINE__) = (expression);          \
  if (!KEEL_CONCAT(keel_statusor_, __LINE__).ok()) {                  \
    return std::move(KEEL_CONCAT(keel_statusor_, __LINE__)).status(); \
  }                                                                   \
  target = *std::move(KEEL_CONCAT(keel_statusor_, __LINE__))

namespace keelson::csi {

// `what` names the object and the act, for example "mount of /dev/loop3 at /a/b".
//   ENOENT -> NOT_FOUND   EBUSY, ENOTEMPTY -> FAILED_PRECONDITION   EACCES, EPERM ->
//   PERMISSION_DENIED ENOSPC -> RESOURCE_EXHAUSTED   everything else -> INTERNAL
absl::Status ErrnoStatus(int error_number, std::string_view what);

}  // namespace keelson::csi
