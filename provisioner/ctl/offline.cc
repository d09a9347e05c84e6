#include "provisioner/ctl/offline.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace keelson::ctl {

absl::Status BecomeTool(const std::vector<std::string>& arguments) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) {
    return absl::InternalError(
        absl::StrCat("/proc/self/exe cannot be read: ", error.message(), "; is /proc mounted?"));
  }
  const std::string program = self.parent_path() / "keelson-blockstore";
  std::vector<std::string> words = {program, "tool"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  return absl::NotFoundError(absl::StrCat("cannot run ", program, ": ", std::strerror(errno),
                                          "; keelctl needs it for what works without the daemon"));
}

}  // namespace keelson::ctl
