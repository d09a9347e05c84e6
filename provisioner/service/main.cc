#include "provisioner/service/program.h"

int main(int argc, char** argv) { return keelson::provisioner::RunProgram(argc, argv); }
