#include "blockstore/service/command_line.h"

int main(int argc, char** argv) { return keelson::service::RunCommandLine(argc, argv); }
