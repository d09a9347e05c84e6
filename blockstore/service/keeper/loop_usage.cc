#include "blockstore/service/keeper/loop_usage.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace keelson::service {
namespace {

constexpr std::size_t kNamedMax = 8;
constexpr int kLoopMajor = 7;

void Name(std::string user, std::vector<std::string>* users) {
  if (users->size() < kNamedMax) users->push_back(std::move(user));
}

// The mounts that this mount namespace shows. The fields are those of proc(5).
void AddMounts(int index, const std::string& device, std::vector<std::string>* users) {
  std::ifstream mounts("/proc/self/mountinfo");
  const std::string number = absl::StrCat(kLoopMajor, ":", index);
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string id, parent, device_number, root, mount_point, word;
    fields >> id >> parent >> device_number >> root >> mount_point;
    while (fields >> word && word != "-") {
    }
    std::string type, source;
    fields >> type >> source;
    // Some file systems (btrfs) have a number of their own.
    if (device_number == number || source == device) {
      Name(absl::StrCat("mounted on ", mount_point), users);
    }
  }
}

void AddSwaps(const std::string& device, std::vector<std::string>* users) {
  std::ifstream swaps("/proc/swaps");
  for (std::string line; std::getline(swaps, line);) {
    if (line.substr(0, line.find_first_of(" \t")) == device) Name("used for swapping", users);
  }
}

void AddHolders(int index, std::vector<std::string>* users) {
  std::error_code error;
  const std::string folder = absl::StrCat("/sys/block/loop", index, "/holders");
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    Name(absl::StrCat("part of ", entry.path().filename().string()), users);
  }
}

void AddProcesses(const std::string& device, std::vector<std::string>* users) {
  std::error_code error;
  for (const auto& process : std::filesystem::directory_iterator("/proc", error)) {
    const std::string pid = process.path().filename();
    int number = 0;
    if (!absl::SimpleAtoi(pid, &number) || number == getpid()) continue;
    std::error_code gone;
    for (const auto& open : std::filesystem::directory_iterator(process.path() / "fd", gone)) {
      // The text of the link only: to follow it could mean to wait for another volume.
      if (std::filesystem::read_symlink(open.path(), gone) != device) continue;
      std::string command;
      std::getline(std::ifstream(process.path() / "comm"), command);
      Name(absl::StrCat("open in process ", pid, " (", command, ")"), users);
      break;
    }
  }
}

}  // namespace

std::string DescribeLoopUsers(int index) {
  const std::string device = absl::StrCat("/dev/loop", index);
  std::vector<std::string> users;
  AddMounts(index, device, &users);
  AddSwaps(device, &users);
  AddHolders(index, &users);
  AddProcesses(device, &users);
  return absl::StrJoin(users, ", ");
}

}  // namespace keelson::service
