#include "blockstore/service/member_ports.h"

#include <gtest/gtest.h>

#include "blockstore/engine/remote_replica.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/pool_directory.h"
#include "blockstore/replica/session.h"
#include "blockstore/service/open_pool.h"
#include "blockstore/service/reactor_thread.h"
#include "tests/unit/service/temporary_directory.h"

namespace keelson::service {
namespace {

struct Ways {
  bool local_is_session = false;
  bool local_is_local = false;
  bool other_is_remote = false;
  bool other_is_local = true;
  absl::Status served;
  absl::Status no_replica;
  absl::Status no_pool;
};

io::Task<absl::StatusOr<Ways>> FindWays(io::Reactor* reactor, std::string directory) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<replica::ReplicaStore> store,
                      co_await OpenPool(reactor, std::move(directory), kLockPatienceNanos));
  absl::StatusOr<pool::ReplicaId> made = co_await store->Create("vol", 1 << 20, 1);
  MemberPorts ports(reactor);
  ports.Add(store.get());
  replica::Member here;
  here.pool = store->pool().id();
  here.replica = *made;
  replica::Member elsewhere = here;
  elsewhere.pool = pool::PoolId(pool::Uuid::Random());
  elsewhere.address = "127.0.0.1:1";
  Ways ways;
  const std::unique_ptr<replica::ReplicaPort> local = ports.MakePort(here);
  const std::unique_ptr<replica::ReplicaPort> other = ports.MakePort(elsewhere);
  ways.local_is_session = dynamic_cast<replica::Session*>(local.get()) != nullptr;
  ways.local_is_local = ports.IsLocal(here);
  ways.other_is_remote = dynamic_cast<engine::RemoteReplica*>(other.get()) != nullptr;
  ways.other_is_local = ports.IsLocal(elsewhere);
  ways.served = ports.OpenPort(here.pool, here.replica).status();
  ways.no_replica = ports.OpenPort(here.pool, pool::ReplicaId(pool::Uuid::Random())).status();
  ways.no_pool = ports.OpenPort(elsewhere.pool, here.replica).status();
  CO_RETURN_IF_ERROR(co_await store->Close());
  co_return ways;
}

TEST(MemberPortsTest, LeadsToAPoolHereDirectlyAndElsewhereOverTheNetwork) {
  const TemporaryDirectory directory;
  io::ReactorOptions options;
  options.buffer_arena_bytes = std::size_t{4} << 20;
  absl::StatusOr<std::unique_ptr<ReactorThread>> thread = ReactorThread::Start(options, "test");
  ASSERT_TRUE(thread.ok()) << thread.status();
  pool::CreatePoolOptions create;
  create.directory = directory.Child("pool");
  create.size_bytes = std::uint64_t{64} << 20;
  io::Reactor* reactor = &(*thread)->reactor();
  ASSERT_TRUE(
      (*thread)->Run([&] { return pool::CreatePoolDirectory(reactor, create); }).status().ok());
  const absl::StatusOr<Ways> ways =
      (*thread)->Run([&] { return FindWays(reactor, create.directory); });
  ASSERT_TRUE(ways.ok()) << ways.status();
  EXPECT_TRUE(ways->local_is_session);
  EXPECT_TRUE(ways->local_is_local);
  EXPECT_TRUE(ways->other_is_remote);
  EXPECT_FALSE(ways->other_is_local);
  EXPECT_TRUE(ways->served.ok()) << ways->served;
  EXPECT_TRUE(absl::IsNotFound(ways->no_replica));
  EXPECT_TRUE(absl::IsNotFound(ways->no_pool));
}

}  // namespace
}  // namespace keelson::service
