// Several machines in one world: what each loses alone, pauses, and the network between them.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/sim/sim_connection.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_stream.h"
#include "tests/sim/world.h"

namespace keelson::sim {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::size_t kArena = std::size_t{4} << 20;

io::internal::Detached Spawn(io::Task<void> task) { co_await std::move(task); }

io::Task<void> SleepThenSay(SimReactor* process, std::int64_t duration_ns, std::int64_t* when_ns) {
  auto sleep = process->SleepFor(duration_ns);
  co_await sleep;
  *when_ns = process->NowNanos();
}

TEST(MachineTest, LosesPowerAlone) {
  World world(1);
  Machine* const a = world.AddMachine("a");
  Machine* const b = world.AddMachine("b");
  world.StartProcess(a, kArena);
  SimReactor* const living = world.StartProcess(b, kArena);
  const pool::BootId boot_a = a->boot(), boot_b = b->boot();
  world.PowerCut(a);
  EXPECT_NE(a->boot(), boot_a);
  EXPECT_EQ(b->boot(), boot_b);
  EXPECT_TRUE(a->processes().empty());
  EXPECT_EQ(b->processes(), std::vector<SimReactor*>{living});
  world.PowerCutAll();
  EXPECT_NE(b->boot(), boot_b);
  EXPECT_TRUE(b->processes().empty());
}

TEST(MachineTest, HasItsOwnDiskAtTheSamePath) {
  World world(1);
  Machine* const a = world.AddMachine("a");
  Machine* const b = world.AddMachine("b");
  SimDisk* const disk = a->AddDisk("/disk", 1 << 20);
  EXPECT_EQ(b->FindDisk("/disk"), nullptr);
  EXPECT_NE(b->AddDisk("/disk", 1 << 20), disk);
  EXPECT_EQ(a->FindDisk("/disk"), disk);
}

TEST(PauseTest, HoldsAProcessUpAndThenRunsWhatIsLateAtOnce) {
  World world(1);
  SimReactor* const paused = world.StartProcess();
  SimReactor* const other = world.StartProcess();
  const std::int64_t start_ns = world.now_ns();
  std::int64_t first_ns = 0, second_ns = 0, other_ns = 0;
  Spawn(SleepThenSay(paused, 10 * kMs, &first_ns));
  Spawn(SleepThenSay(paused, 20 * kMs, &second_ns));
  Spawn(SleepThenSay(other, 30 * kMs, &other_ns));
  world.Pause(paused, 100 * kMs);
  world.RunUntil(start_ns + 99 * kMs);
  EXPECT_EQ(first_ns, 0);
  EXPECT_GT(other_ns, 0);
  EXPECT_LT(other_ns, start_ns + 31 * kMs);
  world.RunUntil(start_ns + 101 * kMs);
  EXPECT_GE(first_ns, start_ns + 100 * kMs);
  EXPECT_GE(second_ns, first_ns);
}

TEST(PauseTest, EndsWithTheLaterOfTwo) {
  World world(1);
  SimReactor* const process = world.StartProcess();
  const std::int64_t start_ns = world.now_ns();
  std::int64_t woke_ns = 0;
  Spawn(SleepThenSay(process, kMs, &woke_ns));
  world.Pause(process, 50 * kMs);
  world.Pause(process->machine(), 80 * kMs);
  world.Pause(process, 20 * kMs);
  world.RunUntil(start_ns + 100 * kMs);
  EXPECT_GE(woke_ns, start_ns + 80 * kMs);
}

TEST(PauseTest, LetsALateTimerBeCancelled) {
  World world(1);
  SimReactor* const process = world.StartProcess();
  int fired = 0;
  io::TimerNode node;
  node.owner = &fired;
  node.when_ns = world.now_ns() + kMs;
  node.fire = [](io::TimerNode* timer) { ++*static_cast<int*>(timer->owner); };
  process->StartTimer(&node);
  world.Pause(process, 50 * kMs);
  world.RunUntil(world.now_ns() + 10 * kMs);
  process->CancelTimer(&node);
  world.RunUntil(world.now_ns() + 100 * kMs);
  EXPECT_EQ(fired, 0);
}

TEST(PauseTest, IsForgottenWhenTheProcessDies) {
  World world(1);
  SimReactor* const process = world.StartProcess();
  std::int64_t woke_ns = 0;
  Spawn(SleepThenSay(process, kMs, &woke_ns));
  world.Pause(process, 50 * kMs);
  world.RunUntil(world.now_ns() + 10 * kMs);
  world.Kill(process);
  world.RunUntil(world.now_ns() + 100 * kMs);
  EXPECT_EQ(woke_ns, 0);
}

// A connection from machine a to machine b.
class LinkTest : public ::testing::Test {
 protected:
  LinkTest() {
    io::Address address;
    address.host = "b";
    listener_ = *server_->Listen(address);
    auto connected = world_.RunTask(client_->Connect(listener_->address(), In(1'000 * kMs)));
    client_end_ = **std::move(connected);
    auto accepted = world_.RunTask(listener_->Accept());
    server_end_ = **std::move(accepted);
  }
  std::int64_t In(std::int64_t duration_ns) const { return world_.now_ns() + duration_ns; }
  absl::Status Write(io::Stream* stream) {
    std::byte byte{7};
    iovec part = {&byte, 1};
    return *world_.RunTask(stream->WriteAll({&part, 1}, In(100 * kMs)));
  }
  absl::StatusOr<std::size_t> Read(io::Stream* stream) {
    std::byte byte;
    return *world_.RunTask(stream->ReadSome({&byte, 1}, In(100 * kMs)));
  }
  void LeakServer() {
    static_cast<void>(listener_.release());
    static_cast<void>(server_end_.release());
  }

  World world_{5};
  Machine* a_ = world_.AddMachine("a");
  Machine* b_ = world_.AddMachine("b");
  SimReactor* client_ = world_.StartProcess(a_, kArena);
  SimReactor* server_ = world_.StartProcess(b_, kArena);
  std::unique_ptr<io::Listener> listener_;
  std::unique_ptr<io::Stream> client_end_, server_end_;
};

TEST_F(LinkTest, HoldsBytesBackInTheBlockedDirectionOnly) {
  world_.network().link(a_, b_).reset_when_healed = 0;
  world_.network().Block(a_, b_);
  EXPECT_TRUE(Write(client_end_.get()).ok());
  EXPECT_EQ(Read(server_end_.get()).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(Write(server_end_.get()).ok());
  EXPECT_EQ(*Read(client_end_.get()), 1u);
  world_.network().Heal(a_, b_);
  EXPECT_EQ(*Read(server_end_.get()), 1u);
}

TEST_F(LinkTest, MayGiveAConnectionUpDuringAPartition) {
  world_.network().link(a_, b_).reset_when_healed = 1;
  world_.network().Block(a_, b_);
  EXPECT_TRUE(Write(client_end_.get()).ok());
  world_.network().HealAll();
  EXPECT_EQ(Read(client_end_.get()).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Read(server_end_.get()).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(LinkTest, ConnectsOnlyWhenBothDirectionsAreOpen) {
  world_.network().Block(b_, a_);
  auto refused = world_.RunTask(client_->Connect(listener_->address(), In(300 * kMs)));
  EXPECT_EQ(refused->status().code(), absl::StatusCode::kDeadlineExceeded);
  world_.network().Heal(b_, a_);
  auto connected = world_.RunTask(client_->Connect(listener_->address(), In(300 * kMs)));
  EXPECT_TRUE(connected->ok()) << connected->status();
}

TEST_F(LinkTest, TakesAsLongAsTheLinkSays) {
  world_.network().link(a_, b_).latency_ns_min = 20 * kMs;
  world_.network().link(a_, b_).latency_ns_max = 30 * kMs;
  const std::int64_t sent_ns = world_.now_ns();
  EXPECT_TRUE(Write(client_end_.get()).ok());
  EXPECT_EQ(*Read(server_end_.get()), 1u);
  EXPECT_GE(world_.now_ns(), sent_ns + 20 * kMs);
}

TEST_F(LinkTest, SaysNothingOfALossOfPowerUntilItIsSpokenTo) {
  LeakServer();
  world_.PowerCut(b_);
  EXPECT_EQ(Read(client_end_.get()).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(Write(client_end_.get()).ok());
  EXPECT_EQ(Read(client_end_.get()).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(LinkTest, HidesADeathBehindAPartition) {
  LeakServer();
  world_.network().link(b_, a_).reset_when_healed = 0;
  world_.network().Block(b_, a_);
  world_.Kill(server_);
  EXPECT_EQ(Read(client_end_.get()).status().code(), absl::StatusCode::kDeadlineExceeded);
  world_.network().Heal(b_, a_);
  const auto got = Read(client_end_.get());
  EXPECT_TRUE(!got.ok() || *got == 0) << "the end, or a reset";
}

TEST_F(LinkTest, TellsAnotherMachineOfAShutdownOnlyWhenItArrives) {
  world_.network().link(a_, b_).latency_ns_min = 20 * kMs;
  world_.network().link(a_, b_).latency_ns_max = 30 * kMs;
  client_end_->Shutdown();
  EXPECT_TRUE(Write(server_end_.get()).ok());
  world_.RunUntil(In(50 * kMs));
  EXPECT_FALSE(Write(server_end_.get()).ok());
}

}  // namespace
}  // namespace keelson::sim
