#include "csi/mount_table.h"

#include <libmount.h>

#include <cerrno>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

std::string Text(const char* text) { return text == nullptr ? "" : text; }

MountEntry EntryOf(libmnt_fs* fs) {
  MountEntry entry;
  entry.id = mnt_fs_get_id(fs);
  entry.device = mnt_fs_get_devno(fs);
  entry.root = Text(mnt_fs_get_root(fs));
  entry.target = Text(mnt_fs_get_target(fs));
  entry.fs_type = Text(mnt_fs_get_fstype(fs));
  entry.mount_options = Text(mnt_fs_get_vfs_options(fs));
  entry.fs_options = Text(mnt_fs_get_fs_options(fs));
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<MountEntry>> ReadMountTable() {
  const std::unique_ptr<libmnt_table, void (*)(libmnt_table*)> table(
      mnt_new_table_from_file("/proc/self/mountinfo"), mnt_unref_table);
  const std::unique_ptr<libmnt_iter, void (*)(libmnt_iter*)> iterator(
      mnt_new_iter(MNT_ITER_FORWARD), mnt_free_iter);
  if (table == nullptr || iterator == nullptr) {
    return absl::InternalError("cannot read /proc/self/mountinfo; is /proc mounted?");
  }
  std::vector<MountEntry> entries;
  libmnt_fs* fs = nullptr;
  while (mnt_table_next_fs(table.get(), iterator.get(), &fs) == 0) entries.push_back(EntryOf(fs));
  return entries;
}

absl::StatusOr<int> MountIdOf(int fd) {
  std::ifstream info(absl::StrCat("/proc/self/fdinfo/", fd));
  std::string key;
  int value = 0;
  while (info >> key) {
    if (key == "mnt_id:" && info >> value) return value;
  }
  return absl::InternalError("cannot read the mount of a descriptor; is /proc mounted?");
}

bool HasOption(const std::string& options, const std::string& option) {
  return absl::StrCat(",", options, ",").find(absl::StrCat(",", option, ",")) != std::string::npos;
}

}  // namespace keelson::csi
