#pragma once
// What keeps a node that is short of memory from waiting for itself: the daemon writes back the
// pages that the node must write back to get memory, so it must get what it needs without that, and
// never be paged out. Called once by main, before the first thread is started.

namespace keelson::service {

// Marks this thread and those that it starts as I/O flushers, and locks the process's memory as it
// is touched. Says in the log what it may not.
void PrepareForWriteback();

}  // namespace keelson::service
