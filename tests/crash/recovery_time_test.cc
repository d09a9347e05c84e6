// How long a pool takes to open with 100 GiB of allocated space: a sparse data file, and a map that
// was written by hand. The time is printed; what is asserted is that it opens and is whole.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/format.h"
#include "blockstore/pool/pool.h"
#include "blockstore/pool/pool_directory.h"
#include "blockstore/pool/rocks_meta_store.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::crash {
namespace {

constexpr std::uint64_t kUsedExtents = 100 * 1024;  // 100 GiB
constexpr std::uint64_t kDataBytes = pool::kDataStart + (kUsedExtents + 64) * pool::kExtentBytes;
constexpr std::uint32_t kExtentsPerBatch = 1024;

using Clock = std::chrono::steady_clock;
double MillisSince(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

// Every other extent has holes: a bitmap in the record.
pool::ExtentState StateOf(std::uint32_t extent) {
  pool::ExtentState state;
  state.pool_extent = extent;
  state.present = pool::BlockBits::Range(0, extent % 2 == 0 ? 256 : 100);
  return state;
}

class RecoveryTimeTest : public ::testing::Test {
 protected:
  RecoveryTimeTest() {
    std::string pattern = ::testing::TempDir() + "recovery_time_XXXXXX";
    directory_ = mkdtemp(pattern.data());
    auto reactor = io::MakeReactor({});
    EXPECT_TRUE(reactor.ok()) << reactor.status();
    reactor_ = *std::move(reactor);
    std::fclose(std::fopen((directory_ + "/data").c_str(), "w"));
    std::filesystem::resize_file(directory_ + "/data", kDataBytes);
  }
  ~RecoveryTimeTest() override {
    reactor_.reset();
    std::filesystem::remove_all(directory_);
  }

  void Run(io::Task<absl::Status> task) {
    io::Gate gate;
    gate.Spawn(RunAndStop(reactor_.get(), std::move(task)));
    reactor_->Run();
  }
  static io::Task<void> RunAndStop(io::Reactor* reactor, io::Task<absl::Status> task) {
    const absl::Status status = co_await std::move(task);
    EXPECT_TRUE(status.ok()) << status;
    reactor->Stop();
  }

  static io::Task<absl::Status> Format(io::Reactor* reactor, std::string directory) {
    CO_ASSIGN_OR_RETURN(const std::unique_ptr<io::File> data,
                        reactor->OpenFile(directory + "/data", {}));
    pool::RocksMetaStoreOptions options;
    options.directory = directory + "/meta";
    options.create = true;
    CO_ASSIGN_OR_RETURN(const std::unique_ptr<pool::RocksMetaStore> meta,
                        pool::RocksMetaStore::Open(reactor, options));
    const pool::PoolId id(pool::Uuid::Random());
    co_return co_await pool::Pool::Format(data.get(), meta.get(), id, /*force=*/false);
  }

  static io::Task<absl::StatusOr<std::unique_ptr<replica::ReplicaStore>>> OpenStore(
      io::Reactor* reactor, std::string directory) {
    pool::OpenPoolOptions options;
    options.directory = std::move(directory);
    CO_ASSIGN_OR_RETURN(std::unique_ptr<pool::Pool> pool,
                        co_await pool::OpenPoolDirectory(reactor, std::move(options)));
    co_return co_await replica::ReplicaStore::Open(std::move(pool));
  }

  // A volume whose map is filled by hand; nothing of it is flushed out of RocksDB's log by a close,
  // so that the timed opening has as much log to replay as RocksDB ever keeps.
  static io::Task<absl::Status> Fill(io::Reactor* reactor, std::string directory) {
    CO_ASSIGN_OR_RETURN(const std::unique_ptr<replica::ReplicaStore> store,
                        co_await OpenStore(reactor, directory));
    CO_ASSIGN_OR_RETURN(
        const pool::ReplicaId id,
        co_await store->Create("large", kUsedExtents * pool::kExtentBytes, /*created_unix_ns=*/1));
    const pool::LayerNumber layer = store->Find(id)->head()->number();
    std::string value;
    for (std::uint32_t extent = 0; extent < kUsedExtents;) {
      pool::MetaBatch batch;
      for (std::uint32_t i = 0; i < kExtentsPerBatch; ++i, ++extent) {
        value.clear();
        pool::AppendExtentState(StateOf(extent), &value);
        batch.Put(pool::Table::kMap, pool::EncodeMapKey({layer, extent}), value);
      }
      CO_RETURN_IF_ERROR(co_await store->pool().meta().Commit(&batch, /*synced=*/true));
    }
    co_return co_await store->Close();
  }

  static io::Task<absl::Status> Time(io::Reactor* reactor, std::string directory) {
    const Clock::time_point begin = Clock::now();
    CO_ASSIGN_OR_RETURN(const std::unique_ptr<replica::ReplicaStore> store,
                        co_await OpenStore(reactor, directory));
    std::printf("recovery of 100 GiB of allocated space: %.0f ms\n", MillisSince(begin));
    EXPECT_EQ(store->pool().space().used_bytes, kUsedExtents * pool::kExtentBytes);
    const replica::Layer* head = store->FindByName("large")->head();
    for (std::uint32_t extent = 0; extent < kUsedExtents; extent += 997) {
      pool::ExtentState state;
      EXPECT_TRUE(head->Find(extent, &state));
      EXPECT_EQ(state, StateOf(extent)) << extent;
    }
    co_return co_await store->Close();
  }

  std::string directory_;
  std::unique_ptr<io::Reactor> reactor_;
};

TEST_F(RecoveryTimeTest, AHundredGibibytesOpenWhole) {
  Run(Format(reactor_.get(), directory_));
  Run(Fill(reactor_.get(), directory_));
  Run(Time(reactor_.get(), directory_));
}

}  // namespace
}  // namespace keelson::crash
