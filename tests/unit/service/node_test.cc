#include "blockstore/service/node.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "tests/unit/service/nbd_client.h"
#include "tests/unit/service/node_fixture.h"

namespace keelson::service {
namespace {

class NodeTest : public NodeFixture {
 protected:
  // What a client reads of a block of an attached volume.
  static std::string ReadBlock(const std::string& uri, std::uint64_t offset) {
    const std::unique_ptr<NbdClient> client = NbdClient::Connect(uri);
    std::string data;
    if (client == nullptr || client->Read(offset, 4096, &data) != 0) return "";
    return data;
  }
  static const std::string kA;
  static const std::string kB;
  static const std::string kZeroes;
};

const std::string NodeTest::kA(4096, 'a');
const std::string NodeTest::kB(4096, 'b');
const std::string NodeTest::kZeroes(4096, '\0');

INSTANTIATE_TEST_SUITE_P(DefaultBackend, NodeTest, testing::Values(io::Backend::kAuto));

// What goes through the reactor in every way: on each backend.
class NodeBackendTest : public NodeTest {};
INSTANTIATE_TEST_SUITE_P(Backends, NodeBackendTest,
                         testing::Values(io::Backend::kUring, io::Backend::kAio),
                         [](const auto& backend) {
                           return backend.param == io::Backend::kUring ? "IoUring" : "Libaio";
                         });

TEST_P(NodeBackendTest, ServesAVolumeToAnNbdClient) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi).ok());
  const absl::StatusOr<std::string> uri = Attach("vol");
  ASSERT_TRUE(uri.ok()) << uri.status();
  EXPECT_EQ(*uri, "nbd+unix:///vol?socket=" + directory_.Child("run/nbd.sock"));

  const std::unique_ptr<NbdClient> client = NbdClient::Connect(*uri);
  ASSERT_NE(client, nullptr);
  EXPECT_EQ(client->size_bytes(), 8 * kMebi);
  EXPECT_FALSE(client->read_only());
  EXPECT_EQ(client->Write(4096, kA), 0);
  EXPECT_EQ(client->Flush(), 0);
  std::string data;
  EXPECT_EQ(client->Read(0, 8192, &data), 0);
  EXPECT_EQ(data, kZeroes + kA);
  const std::vector<v1::Volume> volumes = Volumes();
  ASSERT_EQ(volumes.size(), 1u);
  EXPECT_TRUE(volumes[0].attached());
  EXPECT_EQ(volumes[0].uri(), *uri);
  EXPECT_EQ(volumes[0].allocated_bytes(), kMebi);
}

TEST_P(NodeBackendTest, KeepsSnapshotsAndClonesApartFromTheirSource) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi).ok());
  const absl::StatusOr<std::string> uri = Attach("vol");
  ASSERT_TRUE(uri.ok());
  {
    const std::unique_ptr<NbdClient> client = NbdClient::Connect(*uri);
    ASSERT_NE(client, nullptr);
    ASSERT_EQ(client->Write(0, kA), 0);
    ASSERT_TRUE(Snapshot("vol", "snap").ok());  // while attached
    ASSERT_EQ(client->Write(0, kB), 0);
  }
  EXPECT_EQ(Snapshots("vol"), std::vector<std::string>{"snap"});
  ASSERT_TRUE(Clone("vol", "snap", "clone", 16 * kMebi).ok());
  const absl::StatusOr<std::string> clone_uri = Attach("clone");
  ASSERT_TRUE(clone_uri.ok());
  EXPECT_EQ(ReadBlock(*uri, 0), kB);
  EXPECT_EQ(ReadBlock(*clone_uri, 0), kA);
  EXPECT_EQ(NbdClient::Connect(*clone_uri)->size_bytes(), 16 * kMebi);

  // The clone outlives snapshot and source.
  EXPECT_TRUE(DeleteSnapshot("vol", "snap").ok());
  EXPECT_TRUE(Detach("vol").ok());
  EXPECT_TRUE(DeleteVolume("vol").ok());
  EXPECT_EQ(ReadBlock(*clone_uri, 0), kA);
  ASSERT_EQ(Volumes().size(), 1u);
  EXPECT_EQ(Volumes()[0].name(), "clone");
}

TEST_P(NodeTest, GrowsAVolumeAttachedOrNot) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi).ok());
  ASSERT_TRUE(Grow("vol", 16 * kMebi).ok());
  const absl::StatusOr<std::string> uri = Attach("vol");
  ASSERT_TRUE(uri.ok());
  EXPECT_EQ(NbdClient::Connect(*uri)->size_bytes(), 16 * kMebi);
  ASSERT_TRUE(Grow("vol", 32 * kMebi).ok());
  EXPECT_EQ(NbdClient::Connect(*uri)->size_bytes(), 32 * kMebi);
  EXPECT_TRUE(absl::IsOutOfRange(Grow("vol", 8 * kMebi)));
}

TEST_P(NodeBackendTest, ResumesAttachmentsAndTheirModeAfterARestart) {
  ASSERT_TRUE(CreatePool("pool").ok());
  for (const char* name : {"writable", "read-only", "detached"}) {
    ASSERT_TRUE(CreateVolume(name, 8 * kMebi).ok());
  }
  const absl::StatusOr<std::string> writable = Attach("writable");
  const absl::StatusOr<std::string> read_only = Attach("read-only", true);
  ASSERT_TRUE(writable.ok() && read_only.ok());
  ASSERT_EQ(NbdClient::Connect(*writable)->Write(0, kA), 0);
  Restart();
  EXPECT_EQ(ReadBlock(*writable, 0), kA);
  EXPECT_EQ(NbdClient::Connect(*writable)->Write(0, kB), 0);
  EXPECT_TRUE(NbdClient::Connect(*read_only)->read_only());
  EXPECT_NE(NbdClient::Connect(*read_only)->Write(0, kB), 0);
  for (const v1::Volume& volume : Volumes()) {
    EXPECT_EQ(volume.attached(), volume.name() != "detached") << volume.name();
  }
}

TEST_P(NodeTest, EndsClientsWhenAVolumeIsDetached) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi).ok());
  const absl::StatusOr<std::string> uri = Attach("vol");
  ASSERT_TRUE(uri.ok());
  const std::unique_ptr<NbdClient> client = NbdClient::Connect(*uri);
  ASSERT_NE(client, nullptr);
  EXPECT_TRUE(absl::IsFailedPrecondition(DeleteVolume("vol")));
  ASSERT_TRUE(Detach("vol").ok());
  EXPECT_EQ(client->Write(0, kA), -1);
  EXPECT_EQ(NbdClient::Connect(*uri), nullptr);
  EXPECT_TRUE(DeleteVolume("vol").ok());
  EXPECT_TRUE(Volumes().empty());
}

TEST_P(NodeTest, AttachesAndDetachesIdempotently) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi).ok());
  EXPECT_TRUE(Detach("vol").ok());
  const absl::StatusOr<std::string> first = Attach("vol");
  const absl::StatusOr<std::string> second = Attach("vol");
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(*first, *second);
  // The other mode is another attachment, and being refused must not change how this one resumes.
  EXPECT_TRUE(absl::IsFailedPrecondition(Attach("vol", true).status()));
  Restart();
  EXPECT_FALSE(NbdClient::Connect(*first)->read_only());
  EXPECT_TRUE(Detach("vol").ok());
  EXPECT_TRUE(Detach("vol").ok());
}

TEST_P(NodeTest, KeepsNamesUniqueAcrossPools) {
  ASSERT_TRUE(CreatePool("one").ok());
  ASSERT_TRUE(CreatePool("two").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi, directory_.Child("one")).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(CreateVolume("vol", 8 * kMebi, directory_.Child("two"))));
  ASSERT_TRUE(Snapshot("vol", "snap").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Clone("vol", "snap", "vol")));
  // A name that could not be used is free again.
  EXPECT_TRUE(absl::IsInvalidArgument(CreateVolume("other", 1)));
  EXPECT_TRUE(CreateVolume("other", 8 * kMebi).ok());
}

TEST_P(NodeTest, PutsAVolumeWhereMostSpaceIsFree) {
  ASSERT_TRUE(CreatePool("small", 32 * kMebi).ok());
  ASSERT_TRUE(CreatePool("large", 64 * kMebi).ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi).ok());
  for (const v1::Pool& pool : Pools()) {
    const bool large = pool.directory() == directory_.Child("large");
    EXPECT_EQ(pool.volume_count(), large ? 1u : 0u) << pool.directory();
  }
}

TEST_P(NodeTest, RefusesBadNamesSizesAndPools) {
  EXPECT_TRUE(absl::IsFailedPrecondition(CreateVolume("vol", 8 * kMebi)));  // no pool
  EXPECT_TRUE(absl::IsInvalidArgument(CreatePool("tiny", 1)));
  v1::CreatePoolRequest relative;
  relative.set_directory("relative/path");
  v1::CreatePoolResponse response;
  EXPECT_TRUE(absl::IsInvalidArgument(node_->CreatePool(relative, &response)));
  EXPECT_TRUE(Pools().empty());

  ASSERT_TRUE(CreatePool("pool").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(CreatePool("pool")));
  for (const std::string& name : {std::string(), std::string("a/b"), std::string("a b"),
                                  std::string("a@b"), std::string(254, 'x')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CreateVolume(name, 8 * kMebi))) << name;
  }
  for (const std::uint64_t size_bytes : {std::uint64_t{0}, kMebi - 4096, kMebi + 1, UINT64_MAX}) {
    EXPECT_FALSE(CreateVolume("vol", size_bytes).ok()) << size_bytes;
  }
  EXPECT_TRUE(absl::IsNotFound(CreateVolume("vol", kMebi, "/no/such/pool")));
  EXPECT_TRUE(absl::IsNotFound(Attach("vol").status()));
  EXPECT_TRUE(absl::IsNotFound(Detach("vol")));
  EXPECT_TRUE(absl::IsNotFound(DeleteVolume("vol")));
  EXPECT_TRUE(absl::IsNotFound(Grow("vol", kMebi)));
  EXPECT_TRUE(absl::IsNotFound(Snapshot("vol", "snap")));
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi).ok());
  EXPECT_TRUE(absl::IsNotFound(Clone("vol", "no-such-snapshot", "clone")));
  EXPECT_TRUE(absl::IsNotFound(DeleteSnapshot("vol", "no-such-snapshot")));
}

TEST_P(NodeTest, RefusesASecondDaemonOnItsDirectoriesAndPools) {
  ASSERT_TRUE(CreatePool("pool").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Node::Start(options_).status()));

  NodeOptions other = options_;
  other.state_directory = directory_.Child("state2");
  other.run_directory = directory_.Child("run2");
  other.pools = {directory_.Child("pool")};
  other.lock_patience_ns = 0;
  absl::StatusOr<std::unique_ptr<Node>> second = Node::Start(other);
  ASSERT_TRUE(second.ok()) << second.status();
  (*second)->OpenPools();
  v1::ListPoolsResponse pools;
  EXPECT_TRUE((*second)->ListPools({}, &pools).ok());
  ASSERT_EQ(pools.pools_size(), 1);
  EXPECT_NE(pools.pools(0).error(), "");
  v1::CheckPoolRequest check;
  check.set_pool(directory_.Child("pool"));
  v1::CheckPoolResponse report;
  EXPECT_TRUE(absl::IsUnavailable((*second)->CheckPool(check, &report)));
  (*second)->Stop();
}

TEST_P(NodeTest, ServesNeitherOfTwoPoolsThatAreCopiesOfEachOther) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreatePool("other").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi, directory_.Child("pool")).ok());
  StopNode();
  std::filesystem::copy(directory_.Child("pool"), directory_.Child("copy"),
                        std::filesystem::copy_options::recursive);
  options_.pools = {directory_.Child("copy")};
  StartNode();
  for (const v1::Pool& pool : Pools()) {
    const bool is_other = pool.directory() == directory_.Child("other");
    EXPECT_EQ(pool.error().empty(), is_other) << pool.error();
    if (is_other) continue;
    const char* twin = pool.directory() == directory_.Child("copy") ? "/pool " : "/copy ";
    EXPECT_NE(pool.error().find(twin), std::string::npos) << pool.error();
    EXPECT_NE(pool.error().find("take the copy out"), std::string::npos) << pool.error();
  }
  EXPECT_FALSE(Attach("vol").ok());
  options_.pools.clear();
  Restart();
  EXPECT_TRUE(Attach("vol").ok());
}

TEST_P(NodeTest, WaitsForAPredecessorThatStillListens) {
  NodeOptions other = options_;
  other.state_directory = directory_.Child("state2");
  other.run_directory = directory_.Child("run2");
  std::filesystem::create_directory(other.run_directory);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string path = other.run_directory + "/nbd.sock";
  ASSERT_LT(path.size(), sizeof(address.sun_path));
  path.copy(address.sun_path, path.size());
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  std::thread predecessor([listener] {
    close(accept(listener, nullptr, nullptr));  // when it has been found listening
    close(listener);
  });
  absl::StatusOr<std::unique_ptr<Node>> second = Node::Start(other);
  predecessor.join();
  ASSERT_TRUE(second.ok()) << second.status();
  (*second)->Stop();
}

TEST_P(NodeTest, WaitsForAPredecessorThatIsStillLettingGoOfAPool) {
  ASSERT_TRUE(CreatePool("pool").ok());
  NodeOptions other = options_;
  other.state_directory = directory_.Child("state2");
  other.run_directory = directory_.Child("run2");
  other.pools = {directory_.Child("pool")};
  absl::StatusOr<std::unique_ptr<Node>> second = Node::Start(other);
  ASSERT_TRUE(second.ok()) << second.status();
  std::thread opening([&second] { (*second)->OpenPools(); });
  StopNode();
  opening.join();
  v1::ListPoolsResponse pools;
  EXPECT_TRUE((*second)->ListPools({}, &pools).ok());
  ASSERT_EQ(pools.pools_size(), 1);
  EXPECT_EQ(pools.pools(0).error(), "");
  (*second)->Stop();
}

TEST_P(NodeTest, ServesTheOtherPoolsWhenOneDoesNotOpen) {
  ASSERT_TRUE(CreatePool("good").ok());
  ASSERT_TRUE(CreatePool("bad").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi, directory_.Child("good")).ok());
  StopNode();
  std::filesystem::resize_file(directory_.Child("bad/data"), 0);
  StartNode();
  for (const v1::Pool& pool : Pools()) {
    EXPECT_EQ(pool.error().empty(), pool.directory() == directory_.Child("good")) << pool.error();
  }
  EXPECT_TRUE(Attach("vol").ok());
  EXPECT_EQ(node_->Snapshot(std::chrono::seconds(10)).unopened.size(), 1u);
}

TEST_P(NodeTest, ChecksAndDumpsAPoolByIdAndByDirectory) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi).ok());
  const absl::StatusOr<std::string> uri = Attach("vol");
  ASSERT_TRUE(uri.ok());
  ASSERT_EQ(NbdClient::Connect(*uri)->Write(0, kA), 0);
  for (const std::string& name : {Pools()[0].id(), directory_.Child("pool") + "/"}) {
    v1::CheckPoolRequest check;
    check.set_pool(name);
    check.set_verify_data(true);
    v1::CheckPoolResponse report;
    const absl::Status status = node_->CheckPool(check, &report);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(report.replicas(), 1u);
    EXPECT_EQ(report.extents(), 1u);
    EXPECT_EQ(report.problems_size(), 0) << report.problems(0);
  }
  v1::DumpPoolRequest dump;
  dump.set_pool(directory_.Child("pool"));
  const absl::StatusOr<std::vector<std::string>> lines = node_->DumpPool(dump);
  ASSERT_TRUE(lines.ok());
  EXPECT_FALSE(lines->empty());
}

TEST_P(NodeBackendTest, CountsWhatVolumesAndClientsDo) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi).ok());
  const absl::StatusOr<std::string> uri = Attach("vol");
  ASSERT_TRUE(uri.ok());
  const std::unique_ptr<NbdClient> client = NbdClient::Connect(*uri);
  ASSERT_EQ(client->Write(0, kA), 0);
  ASSERT_EQ(client->Flush(), 0);
  const NodeSnapshot snapshot = node_->Snapshot(std::chrono::seconds(10));
  EXPECT_EQ(snapshot.timeouts, 0u);
  ASSERT_EQ(snapshot.shards.size(), 1u);
  const ShardSnapshot& shard = snapshot.shards[0];
  EXPECT_EQ(shard.backend, GetParam() == io::Backend::kUring ? "io_uring" : "libaio");
  EXPECT_EQ(shard.nbd.connections, 1u);
  ASSERT_EQ(shard.pools.size(), 1u);
  EXPECT_TRUE(shard.pools[0].healthy);
  EXPECT_EQ(shard.pools[0].space.used_bytes, kMebi);
  ASSERT_EQ(shard.pools[0].volumes.size(), 1u);
  EXPECT_EQ(shard.pools[0].volumes[0].volume, "vol");
  EXPECT_EQ(shard.pools[0].volumes[0].counters.writes, 1u);
  EXPECT_EQ(shard.pools[0].volumes[0].counters.written_bytes, 4096u);
  EXPECT_EQ(shard.pools[0].volumes[0].counters.flushes, 1u);
}

TEST_P(NodeTest, SpreadsPoolsOverReactorsWithASocketEach) {
  StopNode();
  options_.reactor_count = 2;
  StartNode();
  ASSERT_TRUE(CreatePool("one").ok());
  ASSERT_TRUE(CreatePool("two").ok());
  ASSERT_TRUE(CreateVolume("a", 8 * kMebi, directory_.Child("one")).ok());
  ASSERT_TRUE(CreateVolume("b", 8 * kMebi, directory_.Child("two")).ok());
  const absl::StatusOr<std::string> a = Attach("a");
  const absl::StatusOr<std::string> b = Attach("b");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(*a, "nbd+unix:///a?socket=" + directory_.Child("run/nbd-0.sock"));
  EXPECT_EQ(*b, "nbd+unix:///b?socket=" + directory_.Child("run/nbd-1.sock"));
  EXPECT_EQ(NbdClient::Connect(*a)->Write(0, kA), 0);
  EXPECT_EQ(NbdClient::Connect(*b)->Write(0, kB), 0);
  Restart();
  EXPECT_EQ(Volumes().size(), 2u);
}

TEST_P(NodeTest, ShowsWhichOfTwoVolumesOfOneNameIsNotServed) {
  ASSERT_TRUE(CreatePool("one").ok());
  ASSERT_TRUE(CreateVolume("vol", 8 * kMebi).ok());
  StopNode();
  // Another node's pool, with a volume of the same name, is moved here.
  NodeOptions own = options_;
  options_.state_directory = directory_.Child("state2");
  StartNode();
  ASSERT_TRUE(CreatePool("two").ok());
  ASSERT_TRUE(CreateVolume("vol", 16 * kMebi).ok());
  ASSERT_TRUE(Attach("vol").ok());
  StopNode();
  options_ = own;
  options_.pools = {directory_.Child("one"), directory_.Child("two")};
  StartNode();
  const std::vector<v1::Volume> volumes = Volumes();
  ASSERT_EQ(volumes.size(), 2u);
  for (const v1::Volume& volume : volumes) {
    EXPECT_EQ(volume.error().empty(), volume.size_bytes() == 8 * kMebi);
    EXPECT_FALSE(volume.attached());
  }
}

TEST(NodeStartTest, AnswersUnavailableUntilItsPoolsAreOpen) {
  const TemporaryDirectory directory;
  NodeOptions options;
  options.state_directory = directory.Child("state");
  options.run_directory = directory.Child("run");
  absl::StatusOr<std::unique_ptr<Node>> node = Node::Start(options);
  ASSERT_TRUE(node.ok()) << node.status();
  v1::ListPoolsResponse response;
  EXPECT_TRUE(absl::IsUnavailable((*node)->ListPools({}, &response)));
  (*node)->OpenPools();
  EXPECT_TRUE((*node)->ListPools({}, &response).ok());
  (*node)->Stop();
}

TEST(NodeStartTest, RefusesTcpForSeveralReactors) {
  const TemporaryDirectory directory;
  NodeOptions options;
  options.state_directory = directory.Child("state");
  options.run_directory = directory.Child("run");
  options.reactor_count = 2;
  options.nbd_tcp = io::Address{"", "127.0.0.1", 0};
  EXPECT_TRUE(absl::IsInvalidArgument(Node::Start(options).status()));
}

}  // namespace
}  // namespace keelson::service
