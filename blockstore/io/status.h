#pragma once
// absl::Status helpers: propagation macros (plain and coroutine forms) and the errno table.

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

#define CO_RETURN_IF_ERROR(expression)                                \
  do {                                                                \
    if (absl::Status keel_status = (expression); !keel_status.ok()) { \
      co_return keel_status;                                          \
    }                                                                 \
  } while (false)

#define ASSIGN_OR_RETURN(target, expression)                          \
  auto KEEL_CONCAT(keel_statusor_, __LINE__) = (expression);          \
  if (!KEEL_CONCAT(keel_statusor_, __LINE__).ok()) {                  \
    return std::move(KEEL_CONCAT(keel_statusor_, __LINE__)).status(); \
  }                                                                   \
  target = *std::move(KEEL_CONCAT(keel_statusor_, __LINE__))

#define CO_ASSIGN_OR_RETURN(target, expression)                          \
  auto KEEL_CONCAT(keel_statusor_, __LINE__) = (expression);             \
  if (!KEEL_CONCAT(keel_statusor_, __LINE__).ok()) {                     \
    co_return std::move(KEEL_CONCAT(keel_statusor_, __LINE__)).status(); \
  }                                                                      \
  target = *std::move(KEEL_CONCAT(keel_statusor_, __LINE__))

namespace keelson::io {

// The Status for a failed system call or I/O completion. `error_number` is positive.
// `what` names the object and the act, for example "write of /pools/a/data at 1048576".
//   ENOSPC, EDQUOT -> RESOURCE_EXHAUSTED   ENOENT -> NOT_FOUND   EEXIST -> ALREADY_EXISTS
//   EACCES, EPERM -> PERMISSION_DENIED     EINVAL -> INVALID_ARGUMENT
//   ECANCELED -> CANCELLED                 ETIMEDOUT, ETIME -> DEADLINE_EXCEEDED
//   ECONNRESET, EPIPE, ECONNREFUSED, ENOTCONN -> UNAVAILABLE; everything else (EIO) -> INTERNAL
absl::Status ErrnoStatus(int error_number, std::string_view what);

// The errno a frontend gives its client for a failed request: the one exhaustive table of it.
// OK is 0. DATA_LOSS and INTERNAL are EIO, RESOURCE_EXHAUSTED is ENOSPC, INVALID_ARGUMENT is
// EINVAL, OUT_OF_RANGE is EINVAL, PERMISSION_DENIED is EPERM, CANCELLED and ABORTED are ESHUTDOWN.
int StatusErrno(const absl::Status& status);

}  // namespace keelson::io
