#pragma once
// keelctl's command line: parsing, and one short function for each command. Results go to `out`,
// errors as one line to `err`. Exit codes: 0 done, 1 failed or problems found, 2 wrong usage.

#include <ostream>

namespace keelson::ctl {

int RunCommandLine(int argc, const char* const* argv, std::ostream* out, std::ostream* err);

}  // namespace keelson::ctl
