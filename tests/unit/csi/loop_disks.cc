#include "tests/unit/csi/loop_disks.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"

namespace keelson::csi {
namespace {

constexpr int kAttemptsMax = 16;

}  // namespace

LoopDisks::~LoopDisks() {
  for (const auto& [id, loop] : loops_) {
    ioctl(loop, LOOP_CLR_FD, 0);
    close(loop);
  }
}

std::string LoopDisks::Path(const std::string& id) const {
  return absl::StrCat(directory_, "/", id);
}

absl::Status LoopDisks::Make(const std::string& id, std::uint64_t size_bytes,
                             const std::string& source_id) {
  if (!source_id.empty()) {
    const auto loop = loops_.find(source_id);
    if (loop != loops_.end()) fsync(loop->second);
    const std::string copy = absl::StrCat("cp --sparse=always ", Path(source_id), " ", Path(id));
    if (std::system(copy.c_str()) != 0) return absl::InternalError("cp failed");
  }
  return Grow(id, size_bytes);
}

absl::Status LoopDisks::Grow(const std::string& id, std::uint64_t size_bytes) {
  const int file = open(Path(id).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const bool done = file >= 0 && ftruncate(file, static_cast<off_t>(size_bytes)) == 0;
  const int error = errno;
  if (file >= 0) close(file);
  if (!done) return absl::InternalError(std::strerror(error));
  const auto loop = loops_.find(id);
  if (loop != loops_.end()) ioctl(loop->second, LOOP_SET_CAPACITY, 0);
  return absl::OkStatus();
}

void LoopDisks::Delete(const std::string& id) { std::filesystem::remove(Path(id)); }

absl::StatusOr<std::string> LoopDisks::Attach(const std::string& id, bool read_only) {
  const int mode = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  const int file = open(Path(id).c_str(), mode);
  std::string path;
  // Somebody else may take the free number first.
  for (int attempt = 0; control >= 0 && file >= 0 && attempt < kAttemptsMax; ++attempt) {
    path = absl::StrCat("/dev/loop", ioctl(control, LOOP_CTL_GET_FREE));
    const int loop = open(path.c_str(), mode);
    loop_config config{};
    config.fd = static_cast<std::uint32_t>(file);
    config.block_size = 4096;
    config.info.lo_flags = read_only ? LO_FLAGS_READ_ONLY : 0;
    if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
      loops_[id] = loop;
      break;
    }
    if (loop >= 0) close(loop);
  }
  if (control >= 0) close(control);
  if (file >= 0) close(file);
  if (loops_.count(id) == 0) return absl::InternalError("there is no loop device to be had");
  return path;
}

absl::Status LoopDisks::Detach(const std::string& id) {
  const auto loop = loops_.find(id);
  if (loop == loops_.end()) return absl::OkStatus();
  ioctl(loop->second, LOOP_CLR_FD, 0);
  close(loop->second);
  loops_.erase(loop);
  return absl::OkStatus();
}

}  // namespace keelson::csi
