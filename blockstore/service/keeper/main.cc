// keelson-fuse-keeper: what keelson-blockstore has done outside of itself for the frontend "loop"
// (docs/frontends.md). `keep` holds descriptors for as long as there are any; the others do one
// thing to a loop device and end, with what came of it on stdout and absl's code as exit status.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/service/keeper/keeper.h"
#include "blockstore/service/keeper/loop_device.h"

namespace keelson::service {
namespace {

constexpr char kUsage[] =
    "usage: keelson-fuse-keeper keep SOCKET [--stay]\n"
    "       keelson-fuse-keeper loop-attach FILE ro|rw\n"
    "       keelson-fuse-keeper loop-check INDEX DEVICE\n"
    "       keelson-fuse-keeper loop-grow INDEX DEVICE FILE\n"
    "       keelson-fuse-keeper loop-detach INDEX DEVICE FILE\n"
    "       keelson-fuse-keeper loop-detach-dead FILE\n"
    "Run by keelson-blockstore. `keep --stay` may be run as a service of its own, beside it.\n";

// Whatever the one who started us had open: its pools' locks among them.
void CloseInherited() { close_range(STDERR_FILENO + 1, ~0U, 0); }

absl::StatusOr<LoopBinding> ParseBinding(const std::string& index, const std::string& device) {
  LoopBinding binding;
  if (absl::SimpleAtoi(index, &binding.index) && absl::SimpleAtoi(device, &binding.device) &&
      binding.index >= 0) {
    return binding;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", index, "' and '", device, "' are no loop index and device number"));
}

// What is printed when it went well.
absl::StatusOr<std::string> RunLoopCommand(const std::vector<std::string>& words) {
  const std::string& command = words[0];
  if (command == "loop-attach" && words.size() == 3 && (words[2] == "ro" || words[2] == "rw")) {
    ASSIGN_OR_RETURN(const LoopBinding binding, AttachLoop(words[1], words[2] == "ro"));
    return absl::StrCat(binding.index, " ", binding.device);
  }
  if (command == "loop-detach-dead" && words.size() == 2) {
    RETURN_IF_ERROR(DetachLoopsOf(words[1]));
    return std::string();
  }
  if (words.size() < 3) return absl::InvalidArgumentError(kUsage);
  ASSIGN_OR_RETURN(const LoopBinding binding, ParseBinding(words[1], words[2]));
  if (command == "loop-check" && words.size() == 3) {
    RETURN_IF_ERROR(CheckLoop(binding));
    return std::string();
  }
  if (command == "loop-grow" && words.size() == 4) {
    RETURN_IF_ERROR(GrowLoop(binding, words[3]));
    return std::string();
  }
  if (command == "loop-detach" && words.size() == 4) {
    RETURN_IF_ERROR(DetachLoop(binding, words[3]));
    return std::string();
  }
  return absl::InvalidArgumentError(kUsage);
}

int Main(const std::vector<std::string>& words) {
  CloseInherited();
  umask(S_IRWXG | S_IRWXO);
  if (!words.empty() && words[0] == "keep" && (words.size() == 2 || words.size() == 3)) {
    if (words.size() == 2) return RunKeeper({.socket_path = words[1], .stay = false});
    if (words[2] == "--stay") return RunKeeper({.socket_path = words[1], .stay = true});
  }
  if (words.empty() || words[0].rfind("loop-", 0) != 0) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  const absl::StatusOr<std::string> done = RunLoopCommand(words);
  const std::string text = done.ok() ? *done : std::string(done.status().message());
  std::puts(text.c_str());
  return static_cast<int>(done.status().code());
}

}  // namespace
}  // namespace keelson::service

int main(int argc, char** argv) { return keelson::service::Main({argv + 1, argv + argc}); }
