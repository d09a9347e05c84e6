#pragma once
// Readiness: tells when a descriptor that is neither a File nor a Stream (a character device with
// messages) can be read. Owns the descriptor. Owned by one reactor; used on its thread only. The
// reading itself is the caller's, without blocking.

#include "blockstore/io/task.h"

namespace keelson::io {

class Readiness {
 public:
  // No wait is in flight.
  virtual ~Readiness() = default;

  virtual int fd() const = 0;
  // Completes when there is something to read, or an error or end to be found by reading: true.
  // False: Cancel was called since the last wait. At most one waits at a time.
  virtual Task<bool> WaitReadable() = 0;
  // Ends a wait in flight soon, or the next one at once.
  virtual void Cancel() = 0;
};

}  // namespace keelson::io
