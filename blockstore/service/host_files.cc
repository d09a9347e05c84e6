#include "blockstore/service/host_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"

namespace keelson::service {
namespace {

// A descriptor that is closed at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

absl::Status WriteWhole(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return io::ErrnoStatus(errno, absl::StrCat("write of ", path));
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  if (fsync(fd) != 0) return io::ErrnoStatus(errno, absl::StrCat("fsync of ", path));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return io::ErrnoStatus(errno, absl::StrCat("open of ", path));
  std::string content;
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(file.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io::ErrnoStatus(errno, absl::StrCat("read of ", path));
    if (got == 0) return content;
    content.append(buffer, static_cast<std::size_t>(got));
  }
}

absl::Status ReplaceFile(const std::string& path, std::string_view content) {
  const std::string temporary = path + ".new";
  {
    const Descriptor file(
        open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR));
    if (file.get() < 0) return io::ErrnoStatus(errno, absl::StrCat("open of ", temporary));
    RETURN_IF_ERROR(WriteWhole(file.get(), content, temporary));
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return io::ErrnoStatus(errno, absl::StrCat("rename to ", path));
  }
  const std::string folder = std::filesystem::path(path).parent_path();
  const Descriptor directory(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || fsync(directory.get()) != 0) {
    return io::ErrnoStatus(errno, absl::StrCat("fsync of ", folder));
  }
  return absl::OkStatus();
}

absl::Status MakeDirectory(const std::string& path) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(path, error);
  if (error) return io::ErrnoStatus(error.value(), absl::StrCat("creation of directory ", path));
  if (made && chmod(path.c_str(), S_IRWXU) != 0) {
    return io::ErrnoStatus(errno, absl::StrCat("chmod of ", path));
  }
  return absl::OkStatus();
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileLock::~FileLock() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<FileLock> FileLock::Take(const std::string& path) {
  FileLock lock;
  lock.fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (lock.fd_ < 0) return io::ErrnoStatus(errno, absl::StrCat("open of ", path));
  if (flock(lock.fd_, LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno != EWOULDBLOCK) return io::ErrnoStatus(errno, absl::StrCat("lock of ", path));
  return absl::FailedPreconditionError(
      absl::StrCat("another keelson-blockstore holds ", path,
                   "; stop it, or give this one other directories with --state-dir and --run-dir"));
}

}  // namespace keelson::service
