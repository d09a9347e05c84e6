#pragma once
// Opening a pool of this node, as the daemon and the tools do it: like pool::OpenPoolDirectory and
// replica::ReplicaStore::Open, but with patience for a predecessor that was just killed: its lock
// goes only when the kernel has ended the I/O it had in flight, a moment after the process is gone.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "blockstore/io/reactor.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::service {

inline constexpr std::int64_t kLockPatienceNanos = 5'000'000'000;

// On the reactor's thread. FAILED_PRECONDITION when another process still has the pool open after
// `lock_patience_ns`; the other errors come at once.
io::Task<absl::StatusOr<std::unique_ptr<replica::ReplicaStore>>> OpenPool(
    io::Reactor* reactor, std::string directory, std::int64_t lock_patience_ns);

// The pool's identity, by its data file alone: whether or not the pool is open, or sound. Errors as
// of pool::DecodeSuperblock, and NOT_FOUND.
absl::StatusOr<pool::PoolId> ReadPoolId(const std::string& directory);

}  // namespace keelson::service
