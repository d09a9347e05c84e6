#pragma once
// keelson-provisioner: its command line and its life, from the first directory to SIGTERM. Main
// thread.

namespace keelson::provisioner {

// The process's exit status.
int RunProgram(int argc, char** argv);

}  // namespace keelson::provisioner
