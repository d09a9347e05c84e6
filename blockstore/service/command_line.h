#pragma once
// The command line of keelson-blockstore: the daemon, and `tool` with its subcommands.

namespace keelson::service {

// Parses, runs, and returns the exit code: 0 done, 1 failed, 2 wrong usage.
int RunCommandLine(int argc, char** argv);

}  // namespace keelson::service
