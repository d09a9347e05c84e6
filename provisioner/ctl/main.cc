#include <iostream>

#include "provisioner/ctl/command_line.h"

int main(int argc, char** argv) {
  return keelson::ctl::RunCommandLine(argc, argv, &std::cout, &std::cerr);
}
