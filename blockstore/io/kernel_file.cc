#include "blockstore/io/kernel_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/kernel_reactor.h"
#include "blockstore/io/status.h"

namespace keelson::io {
namespace {

constexpr std::uint64_t kTransferBytesMax = std::uint64_t{1} << 30;
constexpr mode_t kDataFileMode = 0600;

absl::Status NoDirectIo(const std::string& path) {
  return absl::FailedPreconditionError(
      absl::StrCat(path,
                   ": its file system does not do direct I/O (O_DIRECT); put the data file on "
                   "one that does, such as ext4 or XFS, or use a block device"));
}

absl::Status InUse(const std::string& path) {
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": in use by another keelson-blockstore (or mounted); stop it first"));
}

struct Opened {
  int fd;
  bool created;
};

absl::StatusOr<Opened> OpenDescriptor(const std::string& path, const FileOptions& options) {
  int flags = O_DIRECT | O_CLOEXEC | (options.read_only ? O_RDONLY : O_RDWR);
  struct stat found;
  const bool exists = stat(path.c_str(), &found) == 0;
  // Of a block device O_EXCL means: not while it is mounted or opened so by another.
  if (exists && S_ISBLK(found.st_mode) && options.lock && !options.read_only) flags |= O_EXCL;
  int fd = -1;
  bool created = false;
  if (options.create && !exists) {
    fd = open(path.c_str(), flags | O_CREAT | O_EXCL, kDataFileMode);
    created = fd >= 0;
  }
  if (!created && (exists || !options.create || errno == EEXIST)) fd = open(path.c_str(), flags);
  if (fd < 0) {
    if (errno == EINVAL) return NoDirectIo(path);
    if (errno == EBUSY) return InUse(path);
    return ErrnoStatus(errno, absl::StrCat("opening ", path));
  }
  return Opened{fd, created};
}

// Makes the name of a new file durable.
absl::Status SyncDirectoryOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory =
      slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("opening ", directory));
  const int error_number = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  if (error_number != 0) return ErrnoStatus(error_number, absl::StrCat("syncing ", directory));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<File>> KernelFile::Open(KernelReactor* reactor,
                                                       const std::string& path,
                                                       const FileOptions& options) {
  ASSIGN_OR_RETURN(const Opened opened, OpenDescriptor(path, options));
  std::unique_ptr<KernelFile> file(new KernelFile(reactor, path, opened.fd));
  if (options.lock) {
    RETURN_IF_ERROR(file->Lock(options.read_only));
    file->locked_ = true;
  }
  RETURN_IF_ERROR(file->ReadGeometry());
  if (options.create && !file->block_device_ && file->size_bytes_ < options.size_bytes) {
    RETURN_IF_ERROR(file->Preallocate(options.size_bytes, opened.created));
    file->size_bytes_ = options.size_bytes;
  }
  file->slot_ = reactor->RegisterDescriptor(opened.fd);
  return file;
}

KernelFile::~KernelFile() {
  KEEL_CHECK(in_flight_ == 0, "a File is destroyed after its operations have completed");
  if (locked_) {
    // The ring may let go of a registered file later than this; the lock goes now.
    struct flock unlock = {};
    unlock.l_type = F_UNLCK;
    unlock.l_whence = SEEK_SET;
    fcntl(fd_, F_OFD_SETLK, &unlock);
  }
  if (slot_ >= 0) reactor_->UnregisterDescriptor(slot_);
  close(fd_);
}

absl::Status KernelFile::Lock(bool read_only) const {
  struct flock lock = {};
  // A reader shares with readers; either excludes a writer.
  lock.l_type = static_cast<short>(read_only ? F_RDLCK : F_WRLCK);
  lock.l_whence = SEEK_SET;
  if (fcntl(fd_, F_OFD_SETLK, &lock) == 0) return absl::OkStatus();
  if (errno == EAGAIN || errno == EACCES) return InUse(path_);
  return ErrnoStatus(errno, absl::StrCat("locking ", path_));
}

absl::Status KernelFile::ReadGeometry() {
  struct stat found;
  if (fstat(fd_, &found) != 0) return ErrnoStatus(errno, absl::StrCat("fstat of ", path_));
  if (S_ISBLK(found.st_mode)) {
    int sector = 0;
    if (ioctl(fd_, BLKGETSIZE64, &size_bytes_) != 0 || ioctl(fd_, BLKSSZGET, &sector) != 0) {
      return ErrnoStatus(errno, absl::StrCat("reading the size of ", path_));
    }
    block_device_ = true;
    sector_bytes_ = static_cast<std::uint32_t>(sector);
  } else if (S_ISREG(found.st_mode)) {
    size_bytes_ = static_cast<std::uint64_t>(found.st_size);
    struct statx details = {};
    const int rc = statx(fd_, "", AT_EMPTY_PATH, STATX_DIOALIGN, &details);
    if (rc == 0 && (details.stx_mask & STATX_DIOALIGN) != 0) {  // since Linux 6.1
      // Some files accept O_DIRECT and then go through the page cache (data journalling, fscrypt).
      if (details.stx_dio_offset_align == 0) return NoDirectIo(path_);
      sector_bytes_ = details.stx_dio_offset_align;
    }
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": neither a regular file nor a block device"));
  }
  if (sector_bytes_ > kIoAlignment) {
    return absl::FailedPreconditionError(absl::StrCat(path_, ": logical sectors of ", sector_bytes_,
                                                      " bytes; at most 4096 are supported"));
  }
  return absl::OkStatus();
}

absl::Status KernelFile::Preallocate(std::uint64_t size_bytes, bool created) const {
  absl::Status status;
  // fallocate, not posix_fallocate: that would write every block where the file system cannot.
  if (fallocate(fd_, 0, 0, static_cast<off_t>(size_bytes)) != 0) {
    status =
        errno == EOPNOTSUPP
            ? absl::FailedPreconditionError(absl::StrCat(
                  path_, ": its file system cannot preallocate; use ext4, XFS or btrfs"))
            : ErrnoStatus(errno, absl::StrCat("preallocating ", size_bytes, " bytes for ", path_));
  } else if (fsync(fd_) != 0) {
    status = ErrnoStatus(errno, absl::StrCat("syncing ", path_));
  } else {
    status = SyncDirectoryOf(path_);
  }
  if (!status.ok() && created) unlink(path_.c_str());
  return status;
}

void KernelFile::Submit(IoOp* op) {
  const bool transfer = op->kind == IoOp::Kind::kRead || op->kind == IoOp::Kind::kWrite;
  KEEL_CHECK(((op->offset | op->size_bytes | reinterpret_cast<std::uintptr_t>(op->data)) %
              kIoAlignment) == 0,
             "I/O is aligned to 4 KiB in the file, in memory and in length");
  KEEL_CHECK(!transfer || (op->size_bytes > 0 && op->size_bytes <= kTransferBytesMax),
             "a transfer moves 4 KiB to 1 GiB");
  ++in_flight_;
  op->file = this;
  reactor_->StartFileOp(op);
}

}  // namespace keelson::io
