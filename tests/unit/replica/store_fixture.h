#pragma once
// A pool on simulated disks, opened by the production code, for unit tests of the store and the
// engine. Everything a test writes is one 4 KiB block filled with one letter.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/engine/engine.h"
#include "blockstore/replica/check.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_meta_store.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/store_life.h"
#include "tests/sim/world.h"

namespace keelson {

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kBlock = 4096;

class StoreFixture : public testing::Test {
 protected:
  static constexpr std::uint64_t kExtents = 16;

  void SetUp() override {
    world_.AddDisk(sim::kDataPath, (kExtents + 1) * kMiB);
    life_.process = world_.StartProcess();
    ASSERT_TRUE(Must(sim::FormatStore(&world_, life_.process)).ok());
    Open();
  }
  void TearDown() override {
    if (life_.process == nullptr) return;
    if (life_.store != nullptr) Close();
    life_.Leak();
  }

  template <typename T>
  T Must(io::Task<T> task) {
    std::optional<T> result = world_.RunTask(std::move(task));
    if (!result.has_value()) {
      ADD_FAILURE() << "the call hangs";
      std::abort();
    }
    return *std::move(result);
  }

  absl::Status TryOpen() {
    if (life_.process == nullptr) life_.process = world_.StartProcess();
    auto opened = Must(sim::OpenStore(&world_, life_.process));
    if (!opened.ok()) return opened.status();
    life_.store = *std::move(opened);
    return absl::OkStatus();
  }
  void Open() {
    const absl::Status opened = TryOpen();
    ASSERT_TRUE(opened.ok()) << opened;
  }
  void Close() {
    for (auto& [name, engine] : life_.engines) (void)Must(engine->Detach());
    life_.engines.clear();
    (void)Must(life_.store->Close());
    life_.store.reset();
  }
  void Kill() {
    world_.Kill(life_.process);
    life_.Leak();
  }
  void PowerCut() {
    world_.PowerCut();
    life_.Leak();
  }

  pool::ReplicaId Create(const std::string& name, std::uint64_t size_bytes) {
    auto id = Must(store().Create(name, size_bytes, 0));
    EXPECT_TRUE(id.ok()) << id.status();
    return *id;
  }
  engine::Engine& Attach(const std::string& name) {
    auto engine = Must(engine::Engine::Attach(&store(), store().FindByName(name)->id(), {}));
    EXPECT_TRUE(engine.ok()) << engine.status();
    life_.engines[name] = *std::move(engine);
    return *life_.engines[name];
  }
  void Detach(const std::string& name) {
    ASSERT_TRUE(Must(life_.engines[name]->Detach()).ok());
    life_.engines.erase(name);
  }

  absl::Status Write(engine::Engine& engine, std::uint64_t block, char letter,
                     std::uint64_t count = 1) {
    pool::HeaderBlock data(count * kBlock);
    std::fill(data.span().begin(), data.span().end(), static_cast<std::byte>(letter));
    return Must(engine.Write(block * kBlock, data.span(), false));
  }
  // The letter of a block, '0' for zeroes, '?' for a mixture, or '!' when the read fails.
  char Read(engine::Engine& engine, std::uint64_t block) {
    pool::HeaderBlock data(kBlock);
    last_read_ = Must(engine.Read(block * kBlock, data.span()));
    if (!last_read_.ok()) return '!';
    const std::byte first = data.span()[0];
    for (std::byte byte : data.span()) {
      if (byte != first) return '?';
    }
    return first == std::byte{0} ? '0' : static_cast<char>(first);
  }
  std::string ReadBlocks(engine::Engine& engine, std::uint64_t first, std::uint64_t count) {
    std::string letters;
    for (std::uint64_t block = first; block < first + count; ++block) {
      letters.push_back(Read(engine, block));
    }
    return letters;
  }
  // "" when the pool is sound, else its problems.
  std::string Check(bool verify_data = true);

  replica::ReplicaStore& store() { return *life_.store; }
  pool::PoolSpace space() { return store().pool().space(); }
  void FinishCleanup() {
    ASSERT_TRUE(world_.RunTask(store().WaitForCleanup()));
    ASSERT_TRUE(Must(store().pool().changes().Flush()).ok());
    world_.RunUntil(world_.now_ns() + 1'000'000'000);
  }

  sim::World world_{7};
  sim::StoreLife life_;
  absl::Status last_read_;
};

inline std::string StoreFixture::Check(bool verify_data) {
  auto report = Must(replica::CheckPool(&store(), {.verify_data = verify_data}));
  EXPECT_TRUE(report.ok()) << report.status();
  std::string problems;
  for (const std::string& problem : report->problems) problems += problem + "\n";
  return problems;
}

}  // namespace keelson
