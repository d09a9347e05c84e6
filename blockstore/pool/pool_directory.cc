#include "blockstore/pool/pool_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/rocks_meta_store.h"

namespace keelson::pool {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kDataSizeMin = std::uint64_t{16} << 20;
// What a device must hold only zeroes in to count as unused: every file system, partition table,
// RAID and LVM signature that lies at the beginning is in it.
constexpr std::size_t kSignatureBytes = std::size_t{1} << 20;

std::string DataPath(const std::string& directory) { return directory + "/data"; }
std::string MetaPath(const std::string& directory) { return directory + "/meta"; }
// Exists while a pool is being made: it is the first thing to appear and the last to go, so a pool
// directory with it has never held anything that was acknowledged.
std::string MarkerPath(const std::string& directory) { return directory + "/creating"; }

// True for anything at `path`, a dangling symbolic link too.
bool Exists(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0;
}

absl::Status SyncDirectory(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return io::ErrnoStatus(errno, absl::StrCat("opening directory ", path));
  const int error_number = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  if (error_number == 0) return absl::OkStatus();
  return io::ErrnoStatus(error_number, absl::StrCat("syncing directory ", path));
}

absl::Status CheckSize(const CreatePoolOptions& options) {
  if (options.size_bytes < kDataSizeMin || options.size_bytes % kExtentBytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("pool ", options.directory, ": a data file of ", options.size_bytes,
                     " bytes is impossible; the size is a multiple of 1 MiB and at least 16 MiB"));
  }
  return absl::OkStatus();
}

// Makes the directory. One that holds a finished pool is refused.
absl::Status BeginDirectory(const std::string& directory) {
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return io::ErrnoStatus(errno, absl::StrCat("making pool directory ", directory));
  }
  const bool half_made = Exists(MarkerPath(directory));
  if (!half_made && (Exists(DataPath(directory)) || Exists(MetaPath(directory)))) {
    return absl::AlreadyExistsError(absl::StrCat(
        directory,
        " already holds a pool; choose another directory, or remove its `data` and `meta` if "
        "nothing in it is needed"));
  }
  return absl::OkStatus();
}

absl::Status MakeMarker(const std::string& directory) {
  const int fd = open(MarkerPath(directory).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return io::ErrnoStatus(errno, absl::StrCat("making ", MarkerPath(directory)));
  close(fd);
  RETURN_IF_ERROR(SyncDirectory(directory));
  return SyncDirectory(fs::absolute(directory + "/..").lexically_normal().string());
}

// FAILED_PRECONDITION when the creation that left this half-made pool still runs.
absl::Status CheckNotBeingMade(io::Reactor* reactor, const std::string& directory) {
  if (!Exists(DataPath(directory))) return absl::OkStatus();
  const absl::Status locked = reactor->OpenFile(DataPath(directory), {.lock = true}).status();
  return locked.code() == absl::StatusCode::kFailedPrecondition ? locked : absl::OkStatus();
}

// Removes a pool that was never finished. What cannot be removed now is removed by the next
// attempt: the marker stays as long as anything else does.
void RemoveHalfMade(const std::string& directory) {
  std::error_code ignored;
  fs::remove_all(MetaPath(directory), ignored);
  fs::remove(DataPath(directory), ignored);
  if (Exists(MetaPath(directory)) || Exists(DataPath(directory))) return;
  fs::remove(MarkerPath(directory), ignored);
}

// Refuses a device that something uses or that holds something.
absl::Status CheckDeviceIsFree(const std::string& device) {
  struct stat info {};
  if (stat(device.c_str(), &info) != 0) {
    return io::ErrnoStatus(errno, absl::StrCat("device ", device));
  }
  if (!S_ISBLK(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(device, " is not a block device; leave the device out to use a file"));
  }
  // O_EXCL without O_CREAT: fails while the device is mounted, swapped to, or part of a RAID.
  const int fd = open(device.c_str(), O_RDWR | O_EXCL | O_CLOEXEC);
  if (fd < 0 && errno == EBUSY) {
    return absl::FailedPreconditionError(
        absl::StrCat("device ", device, " is in use (mounted, or held by another driver)"));
  }
  if (fd < 0) return io::ErrnoStatus(errno, absl::StrCat("opening device ", device));
  close(fd);
  return absl::OkStatus();
}

io::Task<absl::Status> CheckDeviceIsBlank(io::Reactor* reactor, io::File* data) {
  io::Buffer buffer = co_await reactor->buffers().Take(kSignatureBytes);
  const std::size_t size_bytes = std::min<std::size_t>(kSignatureBytes, data->size_bytes());
  const std::span<std::byte> span = buffer.span().first(size_bytes);
  CO_RETURN_IF_ERROR(co_await data->Read(0, span));
  const bool blank =
      std::all_of(span.begin(), span.end(), [](std::byte b) { return b == std::byte{0}; });
  if (blank) co_return absl::OkStatus();
  co_return absl::FailedPreconditionError(
      absl::StrCat("device ", std::string(data->path()),
                   " holds something (its first 1 MiB is not zero); use --force to overwrite it"));
}

absl::StatusOr<std::unique_ptr<io::File>> MakeData(io::Reactor* reactor,
                                                   const CreatePoolOptions& options) {
  const std::string path = DataPath(options.directory);
  if (options.device.empty()) {
    return reactor->OpenFile(path, {.create = true, .size_bytes = options.size_bytes});
  }
  // The name it was given, made absolute: a stable one, such as /dev/disk/by-id/…, stays stable.
  const std::string target = fs::absolute(options.device).string();
  if (symlink(target.c_str(), path.c_str()) != 0) {
    return io::ErrnoStatus(errno, absl::StrCat("linking ", path, " to ", target));
  }
  return reactor->OpenFile(path, {});
}

io::Task<absl::Status> FillPool(io::Reactor* reactor, const CreatePoolOptions* options, PoolId id) {
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<io::File> data, MakeData(reactor, *options));
  if (!options->device.empty() && !options->force) {
    CO_RETURN_IF_ERROR(co_await CheckDeviceIsBlank(reactor, data.get()));
  }
  RocksMetaStoreOptions meta_options;
  meta_options.directory = MetaPath(options->directory);
  meta_options.create = true;
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<RocksMetaStore> meta,
                      RocksMetaStore::Open(reactor, meta_options));
  CO_RETURN_IF_ERROR(SyncDirectory(options->directory));
  co_return co_await Pool::Format(data.get(), meta.get(), id, options->force);
}

absl::Status FinishDirectory(const std::string& directory) {
  if (unlink(MarkerPath(directory).c_str()) != 0) {
    return io::ErrnoStatus(errno, absl::StrCat("removing ", MarkerPath(directory)));
  }
  return SyncDirectory(directory);
}

absl::Status CheckPoolIsThere(const std::string& directory) {
  if (!Exists(DataPath(directory)) && !Exists(MetaPath(directory)) &&
      !Exists(MarkerPath(directory))) {
    return absl::NotFoundError(
        absl::StrCat("there is no pool at ", directory, "; make one with keelctl pool create"));
  }
  if (Exists(MarkerPath(directory))) {
    return absl::FailedPreconditionError(
        absl::StrCat("the pool at ", directory,
                     " was never finished: its creation was interrupted. It holds nothing; make it "
                     "again with keelctl pool create"));
  }
  struct stat info {};
  if (stat(DataPath(directory).c_str(), &info) != 0) {
    return absl::NotFoundError(
        absl::StrCat(DataPath(directory),
                     " is missing, or the device it points to is: attach that device again"));
  }
  return absl::OkStatus();
}

}  // namespace

io::Task<absl::StatusOr<PoolId>> CreatePoolDirectory(io::Reactor* reactor,
                                                     CreatePoolOptions options) {
  if (options.directory.empty()) {
    co_return absl::InvalidArgumentError("a pool needs a directory to be made in");
  }
  const absl::Status usable =
      options.device.empty() ? CheckSize(options) : CheckDeviceIsFree(options.device);
  CO_RETURN_IF_ERROR(usable);
  CO_RETURN_IF_ERROR(BeginDirectory(options.directory));
  CO_RETURN_IF_ERROR(CheckNotBeingMade(reactor, options.directory));
  RemoveHalfMade(options.directory);
  CO_RETURN_IF_ERROR(MakeMarker(options.directory));
  const PoolId id(Uuid::Random());
  // Its file and store are closed when it returns: the marker goes only after everything is
  // durable.
  const absl::Status filled = co_await FillPool(reactor, &options, id);
  if (!filled.ok()) {
    RemoveHalfMade(options.directory);  // a full disk is not left full
    co_return filled;
  }
  CO_RETURN_IF_ERROR(FinishDirectory(options.directory));
  KEEL_LOG_INFO("event=pool_created pool={} directory={}", id.ToString(), options.directory);
  co_return id;
}

io::Task<absl::StatusOr<std::unique_ptr<Pool>>> OpenPoolDirectory(io::Reactor* reactor,
                                                                  OpenPoolOptions options) {
  CO_RETURN_IF_ERROR(CheckPoolIsThere(options.directory));
  PoolDeps deps;
  deps.reactor = reactor;
  deps.make_id = Uuid::Random;
  deps.discard = options.discard;
  CO_ASSIGN_OR_RETURN(deps.boot, CurrentBootId());
  // The data file's lock first: its holder is the only one that may touch the metadata.
  CO_ASSIGN_OR_RETURN(deps.data, reactor->OpenFile(DataPath(options.directory), {}));
  RocksMetaStoreOptions meta_options;
  meta_options.directory = MetaPath(options.directory);
  CO_ASSIGN_OR_RETURN(deps.meta, RocksMetaStore::Open(reactor, meta_options));
  co_return co_await Pool::Open(std::move(deps));
}

absl::StatusOr<BootId> CurrentBootId() {
  static constexpr const char* kPath = "/proc/sys/kernel/random/boot_id";
  std::string text;
  std::getline(std::ifstream(kPath), text);
  text.erase(std::remove(text.begin(), text.end(), '-'), text.end());
  const absl::StatusOr<Uuid> uuid = Uuid::Parse(text);
  if (!uuid.ok()) {
    return absl::InternalError(
        absl::StrCat(kPath, " cannot be read: is /proc mounted? (", uuid.status().message(), ")"));
  }
  return BootId(*uuid);
}

}  // namespace keelson::pool
