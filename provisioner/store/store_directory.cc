#include "provisioner/store/store_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace keelson::provisioner {
namespace {

constexpr mode_t kMode = 0700;

absl::Status Refused(const std::string& directory, std::string_view act, int error_number) {
  return absl::UnavailableError(absl::StrCat("store directory ", directory, ": ", std::string(act),
                                             ": ", std::strerror(error_number)));
}

// Makes the name of `directory` in its parent durable.
absl::Status SyncParent(const std::string& directory) {
  std::filesystem::path path(directory);
  if (!path.has_filename()) path = path.parent_path();  // a slash at the end
  const std::string parent = path.has_parent_path() ? path.parent_path().string() : ".";
  const int fd = open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Refused(directory, "opening its parent", errno);
  const int synced = fsync(fd);
  const int error_number = errno;
  close(fd);
  if (synced != 0) return Refused(directory, "syncing its parent", error_number);
  return absl::OkStatus();
}

absl::Status Make(const std::string& directory) {
  if (mkdir(directory.c_str(), kMode) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return absl::FailedPreconditionError(absl::StrCat(
          "store directory ", directory, ": its parent is not a directory; make that first"));
    }
    if (errno != EEXIST) return Refused(directory, "making it", errno);
  }
  return SyncParent(directory);
}

absl::Status KeepOthersOut(const std::string& directory, mode_t mode) {
  if ((mode & 07777) == kMode) return absl::OkStatus();
  if (chmod(directory.c_str(), kMode) == 0) return absl::OkStatus();
  if (errno == EPERM) {
    return absl::FailedPreconditionError(
        absl::StrCat("store directory ", directory,
                     " belongs to another user, who can open it to others: give it to the user "
                     "that runs keelson-provisioner"));
  }
  return Refused(directory, "setting its mode", errno);
}

// What RocksDB leaves when it is interrupted while it makes a store.
bool IsOfAnUnfinishedStore(std::string_view name) {
  return name == "LOCK" || name == "IDENTITY" || name.starts_with("MANIFEST-") ||
         name.starts_with("OPTIONS-") || name.ends_with(".dbtmp");
}

// What RocksDB has only in a store that was made, and may have records.
bool HoldsRecords(std::string_view name) {
  return name.ends_with(".sst") || name.ends_with(".log");
}

absl::Status CheckContents(const std::string& directory) {
  std::error_code error;
  std::string stranger;
  std::string part;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name == "CURRENT") return absl::OkStatus();  // a store; RocksDB judges the rest
    if (HoldsRecords(name)) part = name;
    if (!IsOfAnUnfinishedStore(name)) stranger = name;
  }
  if (error) return Refused(directory, "listing it", error.value());
  if (!part.empty()) {
    return absl::DataLossError(absl::StrCat(
        "the store at ", directory, " has lost its file CURRENT, and still has ", part,
        ": put back the directory from a backup, or move it away, start with an empty one and run "
        "'keelctl adopt'"));
  }
  if (!stranger.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("store directory ", directory, " holds something that is not a store (",
                     stranger, "): name an empty directory, or one that does not exist"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status PrepareStoreDirectory(const std::string& directory) {
  struct stat found {};
  if (stat(directory.c_str(), &found) != 0) {
    if (errno != ENOENT && errno != ENOTDIR) return Refused(directory, "looking at it", errno);
    if (absl::Status made = Make(directory); !made.ok()) return made;
    if (stat(directory.c_str(), &found) != 0) return Refused(directory, "looking at it", errno);
  }
  if (!S_ISDIR(found.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("store directory ", directory, " is not a directory"));
  }
  if (absl::Status kept = KeepOthersOut(directory, found.st_mode); !kept.ok()) return kept;
  return CheckContents(directory);
}

}  // namespace keelson::provisioner
