// What a pool refuses to open, and what it says.
#include <gtest/gtest.h>

#include "tests/unit/replica/store_fixture.h"

namespace keelson {
namespace {

class PoolOpenTest : public StoreFixture {
 protected:
  void Overwrite(std::uint64_t offset, std::span<const std::byte> bytes) {
    auto file = life_.process->OpenFile(sim::kDataPath, {});
    ASSERT_TRUE(file.ok()) << file.status();
    std::unique_ptr<io::File> data = *std::move(file);
    ASSERT_TRUE(Must(WriteAndFlush(data.get(), offset, bytes)).ok());
  }
  static io::Task<absl::Status> WriteAndFlush(io::File* file, std::uint64_t offset,
                                              std::span<const std::byte> bytes) {
    absl::Status written = co_await file->Write(offset, bytes);
    if (!written.ok()) co_return written;
    co_return co_await file->Flush();
  }
  void ExpectRefusal(absl::StatusCode code, const std::string& part) {
    const absl::Status status = TryOpen();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_NE(std::string(status.message()).find(part), std::string::npos) << status;
  }
};

TEST_F(PoolOpenTest, RefusesForeignData) {
  Close();
  pool::HeaderBlock foreign(8192);
  std::fill(foreign.span().begin(), foreign.span().end(), std::byte{0x55});
  Overwrite(0, foreign.span());
  ExpectRefusal(absl::StatusCode::kFailedPrecondition, "does not begin with a Keelson superblock");
}

TEST_F(PoolOpenTest, UsesTheSecondSuperblockWhenTheFirstIsDamaged) {
  Close();
  pool::HeaderBlock zeroes(4096);
  Overwrite(0, zeroes.span());
  EXPECT_TRUE(TryOpen().ok());
}

TEST_F(PoolOpenTest, RefusesATruncatedDataFile) {
  Close();
  world_.FindDisk(sim::kDataPath)->Resize(8 * kMiB);
  ExpectRefusal(absl::StatusCode::kFailedPrecondition, "truncated");
}

TEST_F(PoolOpenTest, RefusesAnEmptyMetadataStore) {
  Create("v", 4 * kMiB);
  Close();
  world_.AddMetaDisk(sim::kMetaPath)->Erase();
  ExpectRefusal(absl::StatusCode::kFailedPrecondition, "metadata store is empty");
}

TEST_F(PoolOpenTest, RefusesAMetadataStoreOlderThanTheData) {
  Create("v", 4 * kMiB);
  engine::Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 0, 'a').ok());
  ASSERT_TRUE(Must(engine.Flush()).ok());
  Close();
  // The mark of a batch this metadata store has not seen.
  pool::HeaderBlock block(pool::kHeaderBlockBytes);
  {
    Open();
    pool::EncodeMark({store().pool().id(), 1'000'000}, block.span());
    Close();
  }
  Overwrite(pool::kMarkOffsets[0], block.span());
  ExpectRefusal(absl::StatusCode::kFailedPrecondition, "older than the data");
}

TEST_F(PoolOpenTest, ATornMarkDoesNotPreventTheOpen) {
  Create("v", 4 * kMiB);
  Create("w", 4 * kMiB);
  Close();
  pool::HeaderBlock garbage(4096);
  garbage.span()[5] = std::byte{7};
  Overwrite(pool::kMarkOffsets[1], garbage.span());
  EXPECT_TRUE(TryOpen().ok());
}

TEST_F(PoolOpenTest, RefusesASecondOpener) {
  auto second = Must(sim::OpenStore(&world_, life_.process));
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(PoolOpenTest, ANewBootIsANewIncarnationAndANewProcessIsNot) {
  const pool::Uuid first = store().pool().incarnation();
  Kill();
  Open();
  EXPECT_EQ(store().pool().incarnation(), first);
  EXPECT_FALSE(store().pool().restarted());
  PowerCut();
  Open();
  EXPECT_NE(store().pool().incarnation(), first);
  EXPECT_TRUE(store().pool().restarted());
}

}  // namespace
}  // namespace keelson
