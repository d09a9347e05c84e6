// What is outside of the Node: gRPC on its socket, the metrics page, the command line's parts.

#include "proto/rpc/server.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/server_context.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <stdexcept>

#include "blockstore/service/blockstore_service.h"
#include "blockstore/service/daemon.h"
#include "blockstore/service/metrics.h"
#include "blockstore/service/reactor_thread.h"
#include "proto/keelson/v1/blockstore.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/unix_socket.h"
#include "tests/unit/service/temporary_directory.h"

namespace keelson::service {
namespace {

TEST(HandleCallTest, MapsStatusesAndExceptions) {
  const grpc::ServerContext context;
  EXPECT_TRUE(rpc::HandleCall(context, "Call", [] { return absl::OkStatus(); }).ok());
  const grpc::Status refused =
      rpc::HandleCall(context, "Call", [] { return absl::NotFoundError("gone"); });
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(refused.error_message(), "gone");
  const grpc::Status thrown = rpc::HandleCall(
      context, "Call", []() -> absl::Status { throw std::runtime_error("library"); });
  EXPECT_EQ(thrown.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_NE(thrown.error_message().find("library"), std::string::npos);
}

class ServerTest : public testing::Test {
 protected:
  void SetUp() override {
    NodeOptions options;
    options.state_directory = directory_.Child("state");
    options.run_directory = directory_.Child("run");
    absl::StatusOr<std::unique_ptr<Node>> node = Node::Start(options);
    ASSERT_TRUE(node.ok()) << node.status();
    node_ = *std::move(node);
    node_->OpenPools();
    service_ = MakeBlockStoreService(node_.get());
    socket_ = directory_.Child("run/blockstore.sock");
  }
  void TearDown() override { node_->Stop(); }

  // grpc.health.v1.Health/Check of the whole server, in raw bytes: 1 is SERVING, 2 NOT_SERVING.
  int Health(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::GenericStub stub(channel);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const grpc::Slice nothing;
    const grpc::ByteBuffer request(&nothing, 1);
    auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, &response);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    std::vector<grpc::Slice> slices;
    if (!status.ok() || !response.Dump(&slices).ok() || slices.empty()) return -1;
    return slices[0].size() < 2 ? 0 : slices[0].begin()[1];
  }

  TemporaryDirectory directory_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<grpc::Service> service_;
  std::string socket_;
};

TEST_F(ServerTest, AnswersOnAPrivateSocketAndReportsItsHealth) {
  absl::StatusOr<std::unique_ptr<rpc::Server>> server = rpc::Server::Start(socket_, service_.get());
  ASSERT_TRUE(server.ok()) << server.status();
  struct stat info = {};
  ASSERT_EQ(stat(socket_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);

  const auto channel = rpc::ConnectUnix(socket_);
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_EQ(Health(*channel), 2);
  (*server)->SetServing(true);
  EXPECT_EQ(Health(*channel), 1);

  const auto stub = v1::BlockStore::NewStub(*channel);
  grpc::ClientContext context;
  v1::AttachVolumeRequest request;
  request.set_name("nothing");
  v1::AttachVolumeResponse response;
  const grpc::Status status = stub->AttachVolume(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_NE(status.error_message().find("nothing"), std::string::npos);

  (*server)->Shutdown(std::chrono::milliseconds(0));
  EXPECT_TRUE(absl::IsUnavailable(rpc::ConnectUnix(socket_).status()));
}

TEST_F(ServerTest, TakesOverAStaleSocketButNotALivingOne) {
  {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    ASSERT_LT(socket_.size(), sizeof(address.sun_path));
    std::memcpy(address.sun_path, socket_.c_str(), socket_.size() + 1);
    ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    close(fd);  // and the path stays, as after a crash
  }
  absl::StatusOr<std::unique_ptr<rpc::Server>> server = rpc::Server::Start(socket_, service_.get());
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_TRUE(absl::IsFailedPrecondition(rpc::Server::Start(socket_, service_.get()).status()));
  EXPECT_TRUE(rpc::ProbeUnixSocket(socket_).ok());
}

TEST_F(ServerTest, LeavesAFileAloneThatIsNotASocket) {
  std::ofstream(socket_) << "precious";
  EXPECT_TRUE(absl::IsFailedPrecondition(rpc::Server::Start(socket_, service_.get()).status()));
  EXPECT_EQ(*ReadFile(socket_), "precious");
  EXPECT_TRUE(
      absl::IsInvalidArgument(rpc::Server::Start(std::string(200, 'x'), service_.get()).status()));
}

// The body of GET /metrics on a loopback port.
std::string Fetch(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  std::string page;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
    EXPECT_EQ(send(fd, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
    char buffer[4096];
    for (ssize_t got = 0; (got = recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      page.append(buffer, static_cast<std::size_t>(got));
    }
  }
  close(fd);
  return page;
}

TEST_F(ServerTest, ShowsMetricsOfPoolsAndOfTheProcess) {
  v1::CreatePoolRequest request;
  request.set_directory(directory_.Child("pool"));
  request.set_size_bytes(std::uint64_t{32} << 20);
  v1::CreatePoolResponse response;
  ASSERT_TRUE(node_->CreatePool(request, &response).ok());
  absl::StatusOr<std::unique_ptr<Metrics>> metrics = Metrics::Start("127.0.0.1:0", node_.get());
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  const std::string page = Fetch((*metrics)->port());
  const std::string label = "{pool=\"" + directory_.Child("pool") + "\"}";
  for (const std::string& line :
       {"keelson_pool_healthy" + label + " 1\n", "keelson_pool_used_bytes" + label + " 0\n",
        "keelson_pool_checksum_errors_total" + label + " 0\n",
        std::string("keelson_nbd_connections{reactor=\"0\"} 0\n"),
        std::string("keelson_scrape_timeouts_total 0\n"), std::string("keelson_io_backend_info{"),
        std::string("process_resident_memory_bytes ")}) {
    EXPECT_NE(page.find(line), std::string::npos) << line << "\nin\n" << page;
  }
  const std::string taken = "127.0.0.1:" + std::to_string((*metrics)->port());
  EXPECT_TRUE(absl::IsUnavailable(Metrics::Start(taken, node_.get()).status()));
}

TEST(ReactorThreadTest, LetsACallerGiveUpOnAStuckReactor) {
  absl::StatusOr<std::unique_ptr<ReactorThread>> thread = ReactorThread::Start({}, "stuck");
  ASSERT_TRUE(thread.ok()) << thread.status();
  std::promise<void> unblock;
  std::future<void> stuck =
      (*thread)->Submit([blocked = unblock.get_future()]() mutable { blocked.wait(); });
  std::future<int> answer = (*thread)->Submit([] { return 42; });
  EXPECT_EQ(answer.wait_for(std::chrono::milliseconds(1)), std::future_status::timeout);
  unblock.set_value();
  stuck.get();
  EXPECT_EQ(answer.get(), 42);
}

TEST(DaemonTest, TakesLoopbackAddressesOnly) {
  const absl::StatusOr<io::Address> v4 = ParseLoopbackAddress("127.0.0.1:10809");
  ASSERT_TRUE(v4.ok());
  EXPECT_EQ(v4->host, "127.0.0.1");
  EXPECT_EQ(v4->port, 10809);
  const absl::StatusOr<io::Address> v6 = ParseLoopbackAddress("[::1]:0");
  ASSERT_TRUE(v6.ok());
  EXPECT_EQ(v6->host, "::1");
  for (const char* text : {"", "10809", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "0.0.0.0:1",
                           "192.168.1.1:1", "[::]:1", "example.org:1", "[::1:1", ":1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseLoopbackAddress(text).status())) << text;
  }
}

}  // namespace
}  // namespace keelson::service
