#pragma once
// The long-lived part of keelson-fuse-keeper: holds the descriptors of the daemon's FUSE
// connections, so that they outlive it. One thread, poll(2); memory locked; nothing is ever read
// from or written to what it holds. One for each run directory, which is what its lock is for.

#include <string>

namespace keelson::service {

struct KeeperOptions {
  std::string socket_path;
  bool stay = false;  // also while nothing is kept: for one that is run as a service of its own
};

// Serves until what it kept has been dropped (or, if nothing ever was, nobody has connected for a
// while), and returns the process's exit status. Says on stderr why it could not begin.
int RunKeeper(const KeeperOptions& options);

}  // namespace keelson::service
