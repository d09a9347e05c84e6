#pragma once
// Propagation of absl::Status in functions that return one, for every program of the project.

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define KEEL_CONCAT_INNER(a, b) a##b
#define KEEL_CONCAT(a, b) KEEL_CONCAT_INNER(a, b)

// Returns the status of `expression` when it is not OK.
#define RETURN_IF_ERROR(expression)                                   \
  do {                                                                \
    if (absl::Status keel_status = (expression); !keel_status.ok()) { \
      return keel_status;                                             \
    }                                                                 \
  } while (false)

// Assigns the value of the StatusOr `expression` to `target`, or returns its status.
#define ASSIGN_OR_RETURN(target, expression)                          \
  auto KEEL_CONCAT(keel_statusor_, __LINE__) = (expression);          \
  if (!KEEL_CONCAT(keel_statusor_, __LINE__).ok()) {                  \
    return std::move(KEEL_CONCAT(keel_statusor_, __LINE__)).status(); \
  }                                                                   \
  target = *std::move(KEEL_CONCAT(keel_statusor_, __LINE__))
