#include "blockstore/replica/names.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace keelson::replica {

absl::Status CheckName(std::string_view what, std::string_view name) {
  const bool good = !name.empty() && name.size() <= 253 && name != "." && name != ".." &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                             (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                    });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "a ", std::string(what), " name is 1 to 253 characters of [A-Za-z0-9._-], and not . or .."));
}

}  // namespace keelson::replica
