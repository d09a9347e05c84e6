#include "blockstore/service/memory_lock.h"

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "blockstore/io/log.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace keelson::service {
namespace {

bool HasCapability(unsigned capability) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  return (data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}

// With a limit, what is mapped later would fail where it is needed most.
bool MayLockAll() {
  const rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  return HasCapability(CAP_IPC_LOCK) || setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0;
}

}  // namespace

void PrepareForWriteback() {
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) {
    KEEL_LOG_WARN(
        "event=not_an_io_flusher reason=\"{}\" consequence=\"a node short of memory may hang on "
        "its own volumes\" remedy=\"give the daemon CAP_SYS_RESOURCE\"",
        std::strerror(errno));
  }
  // ONFAULT: stacks and arenas that are never touched cost nothing.
  const bool unlimited = MayLockAll();
  if (!unlimited) errno = EPERM;
  if (!unlimited || mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
    KEEL_LOG_WARN(
        "event=memory_not_locked reason=\"{}\" consequence=\"a node short of memory may hang on "
        "its own volumes\" remedy=\"give the daemon CAP_IPC_LOCK or an unlimited "
        "RLIMIT_MEMLOCK\"",
        std::strerror(errno));
  }
}

}  // namespace keelson::service
