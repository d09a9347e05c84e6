// The simulated reactor, by the suite that every reactor passes, and that its runs can be repeated.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "blockstore/io/gate.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/sim_stream.h"
#include "tests/sim/world.h"
#include "tests/unit/io/reactor_suite.h"

namespace keelson::io {
namespace {

// One world for each test; it owns the process, the test owns what forwards to it.
class OwnedReactor final : public Reactor {
 public:
  explicit OwnedReactor(std::uint64_t seed) : world_(seed), process_(world_.StartProcess()) {
    // The suite expects what a kernel does with a few bytes: they arrive together.
    world_.network().faults().segment_split = 0;
  }

  std::int64_t NowNanos() const override { return process_->NowNanos(); }
  void Schedule(std::coroutine_handle<> handle) override { process_->Schedule(handle); }
  void Post(absl::AnyInvocable<void()> work) override { process_->Post(std::move(work)); }
  void StartTimer(TimerNode* node) override { process_->StartTimer(node); }
  void CancelTimer(TimerNode* node) override { process_->CancelTimer(node); }
  absl::StatusOr<std::unique_ptr<File>> OpenFile(const std::string& path,
                                                 const FileOptions& options) override {
    return process_->OpenFile(path, options);
  }
  absl::StatusOr<std::unique_ptr<Listener>> Listen(const Address& address) override {
    return process_->Listen(address);
  }
  Task<absl::StatusOr<std::unique_ptr<Stream>>> Connect(Address address,
                                                        std::int64_t deadline_ns) override {
    return process_->Connect(std::move(address), deadline_ns);
  }
  absl::StatusOr<std::unique_ptr<Stream>> AdoptStream(int fd) override {
    return process_->AdoptStream(fd);
  }
  BufferPool& buffers() override { return process_->buffers(); }
  std::string backend_name() const override { return process_->backend_name(); }
  void Run() override { process_->Run(); }
  void Stop() override { process_->Stop(); }

 private:
  sim::World world_;
  sim::SimReactor* process_;
};

std::vector<ReactorUnderTest> SimReactors() {
  std::vector<ReactorUnderTest> reactors;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    reactors.push_back({absl::StrCat("Seed", seed),
                        [seed] { return std::make_unique<OwnedReactor>(seed); },
                        [next = 0]() mutable { return absl::StrCat("/sim/", ++next); }});
  }
  return reactors;
}

INSTANTIATE_TEST_SUITE_P(Sim, ReactorSuite, ::testing::ValuesIn(SimReactors()), NameOf);

}  // namespace
}  // namespace keelson::io

namespace keelson::sim {
namespace {

io::Task<void> WriteBlock(SimReactor* process, io::File* file, std::uint64_t block) {
  io::Buffer buffer = co_await process->buffers().Take(io::kIoAlignment);
  std::fill(buffer.span().begin(), buffer.span().end(), std::byte{1});
  const absl::Status wrote = co_await file->Write(block * io::kIoAlignment, buffer.span());
  EXPECT_TRUE(wrote.ok()) << wrote;
  const absl::Status flushed = co_await file->Flush();
  EXPECT_TRUE(flushed.ok()) << flushed;
}

io::Task<void> ManyWrites(SimReactor* process, io::File* file) {
  io::Gate gate;
  for (std::uint64_t block = 0; block < 50; ++block) {
    gate.Spawn(WriteBlock(process, file, block));
  }
  co_await gate.Close();
}

std::uint64_t TraceOf(std::uint64_t seed) {
  World world(seed);
  SimReactor* const process = world.StartProcess();
  io::FileOptions options;
  options.create = true;
  options.size_bytes = 1 << 20;
  auto file = process->OpenFile("/sim/trace", options);
  EXPECT_TRUE(file.ok()) << file.status();
  if (!file.ok()) return 0;
  EXPECT_TRUE(world.RunTask(ManyWrites(process, file->get())));
  return world.trace_hash();
}

TEST(WorldTest, RepeatsARunOfTheSameSeed) { EXPECT_EQ(TraceOf(7), TraceOf(7)); }

TEST(WorldTest, RunsDifferentlyUnderAnotherSeed) { EXPECT_NE(TraceOf(7), TraceOf(8)); }

io::Task<void> SleepFor(SimReactor* process, std::int64_t duration_ns, bool* woke) {
  auto sleep = process->SleepFor(duration_ns);
  co_await sleep;
  *woke = true;
}

TEST(WorldTest, LetsAYearPassAtOnce) {
  constexpr std::int64_t kYearNanos = std::int64_t{365} * 86'400 * 1'000'000'000;
  World world(1);
  SimReactor* const process = world.StartProcess();
  const std::int64_t start_ns = world.now_ns();
  bool woke = false;
  EXPECT_TRUE(world.RunTask(SleepFor(process, kYearNanos, &woke)));
  EXPECT_TRUE(woke);
  EXPECT_GE(world.now_ns(), start_ns + kYearNanos);
}

io::internal::Detached Spawn(io::Task<void> task) { co_await std::move(task); }

TEST(WorldTest, RunsNothingOfADeadProcess) {
  World world(1);
  SimReactor* const dying = world.StartProcess();
  SimReactor* const living = world.StartProcess();
  bool dead_woke = false;
  bool living_woke = false;
  Spawn(SleepFor(dying, 1'000, &dead_woke));
  Spawn(SleepFor(living, 1'000, &living_woke));
  world.Kill(dying);
  world.RunUntil(world.now_ns() + 10'000);
  EXPECT_FALSE(dead_woke);
  EXPECT_TRUE(living_woke);
}

io::Task<void> Never(io::WaitList* list) { co_await list->Wait(); }

TEST(WorldTest, TellsAHangFromAnEnd) {
  World world(1);
  world.StartProcess();
  auto* const list = new io::WaitList;  // leaked with the waiter
  EXPECT_FALSE(world.RunTask(Never(list)));
}

TEST(WorldTest, HasAnotherBootIdAfterAPowerCutOnly) {
  World world(1);
  const pool::BootId boot = world.boot();
  world.Kill(world.StartProcess());
  EXPECT_EQ(world.boot(), boot);
  world.PowerCut();
  EXPECT_NE(world.boot(), boot);
}

struct TwoProcesses {
  World world{3};
  SimReactor* client = world.StartProcess();
  SimReactor* server = world.StartProcess();
  std::unique_ptr<io::Listener> listener;
  std::unique_ptr<io::Stream> client_end;
  std::unique_ptr<io::Stream> server_end;

  TwoProcesses() {
    io::Address address;
    address.host = "10.0.0.1";
    listener = *server->Listen(address);
    auto connected =
        world.RunTask(client->Connect(listener->address(), world.now_ns() + 1'000'000'000));
    client_end = **std::move(connected);
    auto accepted = world.RunTask(listener->Accept());
    server_end = **std::move(accepted);
  }
};

TEST(SimStreamTest, EndsWhenThePeersProcessDies) {
  TwoProcesses net;
  static_cast<void>(net.listener.release());
  static_cast<void>(net.server_end.release());
  net.world.Kill(net.server);
  std::byte byte;
  auto got = net.world.RunTask(net.client_end->ReadSome({&byte, 1}, io::kNoDeadline));
  ASSERT_TRUE(got.has_value());
  if (got->ok()) {
    EXPECT_EQ(**got, 0u);
  } else {
    EXPECT_EQ(got->status().code(), absl::StatusCode::kUnavailable) << got->status();
  }
}

TEST(SimStreamTest, FailsBothEndsByAReset) {
  TwoProcesses net;
  net.world.network().faults().reset = 1;
  std::byte byte{1};
  iovec part = {&byte, 1};
  auto wrote = net.world.RunTask(net.client_end->WriteAll({&part, 1}, io::kNoDeadline));
  ASSERT_TRUE(wrote.has_value());
  EXPECT_EQ(wrote->code(), absl::StatusCode::kUnavailable) << *wrote;
  auto got = net.world.RunTask(net.server_end->ReadSome({&byte, 1}, io::kNoDeadline));
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->status().code(), absl::StatusCode::kUnavailable) << got->status();
}

TEST(SimStreamTest, CutsAStreamIntoSegments) {
  TwoProcesses net;
  net.world.network().faults().segment_split = 1;
  std::vector<std::byte> bytes(1000, std::byte{7});
  iovec part = {bytes.data(), bytes.size()};
  auto wrote = net.world.RunTask(net.client_end->WriteAll({&part, 1}, io::kNoDeadline));
  ASSERT_TRUE(wrote.has_value() && wrote->ok());
  std::size_t total = 0;
  int reads = 0;
  while (total < bytes.size()) {
    std::byte into[1000];
    auto got = net.world.RunTask(net.server_end->ReadSome(into, io::kNoDeadline));
    ASSERT_TRUE(got.has_value() && got->ok());
    total += **got;
    ++reads;
  }
  EXPECT_EQ(total, bytes.size());
  EXPECT_GT(reads, 1);
}

}  // namespace
}  // namespace keelson::sim
