#include "blockstore/service/open_pool.h"

#include <array>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/pool_directory.h"
#include "blockstore/pool/superblock.h"

namespace keelson::service {
namespace {

constexpr std::int64_t kRetryNanos = 20'000'000;

// Waits while another process holds the data file's lock. Whatever else is wrong with the file, the
// one who opens the pool says.
io::Task<void> WaitForLock(io::Reactor* reactor, std::string path, std::int64_t patience_ns) {
  const std::int64_t deadline_ns = reactor->NowNanos() + patience_ns;
  while (reactor->NowNanos() < deadline_ns) {
    const io::FileOptions options;
    const absl::Status probe = reactor->OpenFile(path, options).status();
    if (!absl::IsFailedPrecondition(probe)) co_return;
    co_await reactor->SleepFor(kRetryNanos);
  }
}

}  // namespace

io::Task<absl::StatusOr<std::unique_ptr<replica::ReplicaStore>>> OpenPool(
    io::Reactor* reactor, std::string directory, std::int64_t lock_patience_ns) {
  co_await WaitForLock(reactor, directory + "/data", lock_patience_ns);
  pool::OpenPoolOptions options;
  options.directory = std::move(directory);
  CO_ASSIGN_OR_RETURN(std::unique_ptr<pool::Pool> pool,
                      co_await pool::OpenPoolDirectory(reactor, std::move(options)));
  co_return co_await replica::ReplicaStore::Open(std::move(pool));
}

absl::StatusOr<pool::PoolId> ReadPoolId(const std::string& directory) {
  std::ifstream data(directory + "/data", std::ios::binary);
  if (!data) return absl::NotFoundError(absl::StrCat(directory, "/data cannot be read"));
  absl::Status status;
  for (const std::uint64_t offset : pool::kSuperblockOffsets) {
    std::array<char, pool::kHeaderBlockBytes> block{};
    data.seekg(static_cast<std::streamoff>(offset));
    data.read(block.data(), block.size());
    const absl::StatusOr<pool::Superblock> superblock =
        pool::DecodeSuperblock(std::as_bytes(std::span(block)));
    if (superblock.ok()) return superblock->pool_id;
    status = superblock.status();
  }
  return status;
}

}  // namespace keelson::service
