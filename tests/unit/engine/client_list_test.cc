#include "blockstore/engine/client_list.h"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <utility>

#include "blockstore/io/gate.h"

namespace keelson::engine {
namespace {

constexpr std::string_view kTicketA = "000102030405060708090a0b0c0d0e0f";
constexpr std::string_view kTicketB = "ffffffffffffffffffffffffffffffff";

ListedClient Client(std::string node, std::string_view ticket, bool read_only = false) {
  return {std::move(node), *Ticket::Parse(ticket), read_only};
}

// Counts what reaches it; calls made while it is held wait.
class HeldDevice final : public BlockDevice {
 public:
  std::uint64_t size_bytes() const override { return std::uint64_t{1} << 20; }
  bool read_only() const override { return false; }
  io::Task<absl::Status> Read(std::uint64_t, std::span<std::byte>) override { return Enter(); }
  io::Task<absl::Status> Write(std::uint64_t, std::span<const std::byte>, bool) override {
    return Enter();
  }
  io::Task<absl::Status> Flush() override { return Enter(); }
  io::Task<absl::Status> Trim(std::uint64_t, std::uint64_t, bool) override { return Enter(); }
  io::Task<absl::StatusOr<std::vector<BlockRun>>> Status(std::uint64_t, std::uint64_t,
                                                         std::size_t) override {
    co_return std::vector<BlockRun>();
  }

  void Hold() { held_ = true; }
  void Release() {
    held_ = false;
    waiting_.WakeAll();
  }
  int calls() const { return calls_; }

 private:
  io::Task<absl::Status> Enter() {
    ++calls_;
    if (held_) co_await waiting_.Wait();
    co_return absl::OkStatus();
  }

  bool held_ = false;
  int calls_ = 0;
  io::WaitList waiting_;
};

class ClientListTest : public testing::Test {
 protected:
  ~ClientListTest() override {
    device_.Release();
    sessions_.clear();
    Start(list_.Close());
  }

  template <typename T>
  static io::Task<void> Store(io::Task<T> task, std::optional<T>* result) {
    T value = co_await std::move(task);
    result->emplace(std::move(value));
  }
  void Start(io::Task<void> task) { gate_.Spawn(std::move(task)); }

  // A connection that does what it is told: it is destroyed when the test says so.
  struct Session {
    std::optional<std::unique_ptr<ClientSession>> opened;
    bool told_to_end = false;
    ClientSession* operator->() { return opened->get(); }
    bool refused() const { return opened.has_value() && *opened == nullptr; }
    bool open() const { return opened.has_value() && *opened != nullptr; }
  };
  Session* Open(std::string_view ticket) {
    sessions_.push_back(std::make_unique<Session>());
    Session* const session = sessions_.back().get();
    Start(Store(list_.Open(*Ticket::Parse(ticket), [session] { session->told_to_end = true; }),
                &session->opened));
    return session;
  }
  std::optional<absl::Status>* Write(Session* session) {
    results_.push_back(std::make_unique<std::optional<absl::Status>>());
    Start(Store((*session)->Write(0, block_, false), results_.back().get()));
    return results_.back().get();
  }

  std::array<std::byte, 4096> block_{};
  HeldDevice device_;
  ClientList list_{&device_, "vol"};
  std::vector<std::unique_ptr<Session>> sessions_;
  std::vector<std::unique_ptr<std::optional<absl::Status>>> results_;
  io::Gate gate_;
};

TEST(TicketTest, TakesOneFormOnlyAndIsNeverInAnError) {
  EXPECT_EQ(Ticket::Parse(kTicketA)->Reveal(), kTicketA);
  for (const std::string_view bad :
       {"", "00", "000102030405060708090A0B0C0D0E0F", "000102030405060708090a0b0c0d0e0g",
        "00000000000000000000000000000000", "000102030405060708090a0b0c0d0e0f0"}) {
    const absl::Status status = Ticket::Parse(bad).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad;
    if (bad.size() > 2) {
      EXPECT_EQ(std::string(status.message()).find(bad), std::string::npos) << status;
    }
  }
}

TEST(TicketTest, MatchesItselfOnly) {
  const Ticket ticket = *Ticket::Parse(kTicketA);
  EXPECT_TRUE(ticket.Matches(*Ticket::Parse(kTicketA)));
  EXPECT_FALSE(ticket.Matches(*Ticket::Parse("000102030405060708090a0b0c0d0e0e")));
  EXPECT_FALSE(ticket.Matches(*Ticket::Parse("100102030405060708090a0b0c0d0e0f")));
  EXPECT_FALSE(ticket.Matches(Ticket()));
}

TEST(ClientListCheckTest, RefusesANodeOrATicketThatIsThereTwice) {
  EXPECT_TRUE(ClientList::Check({Client("b", kTicketA), Client("c", kTicketB)}).ok());
  EXPECT_FALSE(ClientList::Check({Client("b", kTicketA), Client("b", kTicketB)}).ok());
  const absl::Status twice = ClientList::Check({Client("b", kTicketA), Client("c", kTicketA)});
  EXPECT_FALSE(twice.ok());
  EXPECT_EQ(std::string(twice.message()).find(kTicketA), std::string::npos);
  EXPECT_FALSE(ClientList::Check({Client("", kTicketA)}).ok());
  EXPECT_FALSE(ClientList::Check(std::vector<ListedClient>(ClientList::kClientsMax + 1)).ok());
}

TEST_F(ClientListTest, ServesOnlyWhoIsListed) {
  list_.Replace({Client("b", kTicketA)});
  EXPECT_EQ(list_.Find(*Ticket::Parse(kTicketB)), nullptr);
  EXPECT_TRUE(Open(kTicketB)->refused());
  Session* const b = Open(kTicketA);
  ASSERT_TRUE(b->open());
  std::optional<absl::Status>* const written = Write(b);
  ASSERT_TRUE(written->has_value());
  EXPECT_TRUE((*written)->ok());
  EXPECT_EQ(device_.calls(), 1);
}

TEST_F(ClientListTest, RefusesAClientThatLeftAndIsDrainedWhenItsLastRequestHasEnded) {
  list_.Replace({Client("b", kTicketA), Client("c", kTicketB)});
  Session* const b = Open(kTicketA);
  Session* const c = Open(kTicketB);
  device_.Hold();
  std::optional<absl::Status>* const under_way = Write(b);
  EXPECT_TRUE(list_.drained());

  list_.Replace({Client("c", kTicketB)});
  EXPECT_TRUE(b->told_to_end);
  EXPECT_FALSE(c->told_to_end);
  EXPECT_FALSE(list_.drained());
  EXPECT_EQ(list_.Status().size(), 2u);
  EXPECT_TRUE(list_.Status()[1].leaving);
  EXPECT_EQ(list_.Status()[1].requests_in_flight, 1u);
  std::optional<absl::Status>* const late = Write(b);
  ASSERT_TRUE(late->has_value());
  EXPECT_TRUE(absl::IsAborted(**late)) << **late;
  EXPECT_EQ(device_.calls(), 1) << "nothing of it reaches the engine any more";
  EXPECT_TRUE(Open(kTicketA)->refused());

  device_.Release();
  EXPECT_TRUE((*under_way)->ok());
  EXPECT_FALSE(list_.drained()) << "its connection is still there";
  b->opened->reset();
  EXPECT_TRUE(list_.drained());
  EXPECT_TRUE((*Write(c))->ok());
}

TEST_F(ClientListTest, BeginsANewSessionAfterAllThatTheEarlierOneHadUnderWay) {
  list_.Replace({Client("b", kTicketA)});
  Session* const first = Open(kTicketA);
  device_.Hold();
  Write(first);
  Session* const second = Open(kTicketA);
  Session* const third = Open(kTicketA);
  EXPECT_TRUE(first->told_to_end);
  EXPECT_FALSE(second->opened.has_value());
  device_.Release();
  EXPECT_FALSE(second->opened.has_value());
  first->opened->reset();
  // The one that came last stays.
  ASSERT_TRUE(second->open());
  EXPECT_TRUE(second->told_to_end);
  EXPECT_FALSE(third->opened.has_value());
  second->opened->reset();
  ASSERT_TRUE(third->open());
  EXPECT_FALSE(third->told_to_end);
  EXPECT_TRUE((*Write(third))->ok());
}

TEST_F(ClientListTest, ANewTicketOfANodeWaitsForWhatTheOldOneHadUnderWay) {
  list_.Replace({Client("b", kTicketA)});
  Session* const old_ticket = Open(kTicketA);
  list_.Replace({Client("b", kTicketB)});
  EXPECT_TRUE(old_ticket->told_to_end);
  Session* const new_ticket = Open(kTicketB);
  EXPECT_FALSE(new_ticket->opened.has_value());
  old_ticket->opened->reset();
  EXPECT_TRUE(new_ticket->open());
  EXPECT_TRUE(Open(kTicketA)->refused());
}

TEST_F(ClientListTest, KeepsTheSessionOfAClientThatIsListedAgainAsItWas) {
  list_.Replace({Client("b", kTicketA)});
  Session* const b = Open(kTicketA);
  list_.Replace({Client("c", kTicketB), Client("b", kTicketA)});
  EXPECT_FALSE(b->told_to_end);
  list_.Replace({Client("b", kTicketA, /*read_only=*/true)});
  EXPECT_TRUE(b->told_to_end) << "it may do less than before";
}

TEST_F(ClientListTest, AReadOnlyClientReadsAndFlushesAndWritesNothing) {
  list_.Replace({Client("b", kTicketA, /*read_only=*/true)});
  Session* const b = Open(kTicketA);
  EXPECT_TRUE((*b)->read_only());
  EXPECT_TRUE(absl::IsPermissionDenied(**Write(b)));
  std::optional<absl::Status> trimmed, read, flushed;
  Start(Store((*b)->Trim(0, 4096, false), &trimmed));
  Start(Store((*b)->Read(0, block_), &read));
  Start(Store((*b)->Flush(), &flushed));
  EXPECT_TRUE(absl::IsPermissionDenied(*trimmed));
  EXPECT_TRUE(read->ok());
  EXPECT_TRUE(flushed->ok());
  EXPECT_EQ(device_.calls(), 2);
}

TEST_F(ClientListTest, ClosesWhenEverySessionAndEveryOpenHasEnded) {
  list_.Replace({Client("b", kTicketA)});
  Session* const b = Open(kTicketA);
  Session* const waiting = Open(kTicketA);
  bool closed = false;
  const auto close = [](ClientList* list, bool* done) -> io::Task<void> {
    co_await list->Close();
    *done = true;
  };
  Start(close(&list_, &closed));
  EXPECT_TRUE(b->told_to_end);
  EXPECT_FALSE(closed);
  b->opened->reset();
  EXPECT_TRUE(waiting->refused());
  EXPECT_TRUE(closed);
  EXPECT_TRUE(Open(kTicketA)->refused());
}

}  // namespace
}  // namespace keelson::engine
