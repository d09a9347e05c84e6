// Other nodes (R16): a Node that has a volume attached, and one that shows it as a client.

#include <gtest/gtest.h>

#include <thread>

#include "blockstore/pool/ids.h"
#include "tests/unit/service/nbd_client.h"
#include "tests/unit/service/node_fixture.h"

namespace keelson::service {
namespace {

constexpr char kTicketB[] = "000102030405060708090a0b0c0d0e0f";
constexpr char kTicketC[] = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";
constexpr std::uint64_t kAttachment = 5;

v1::VolumeClient Client(const std::string& node, const std::string& ticket,
                        bool read_only = false) {
  v1::VolumeClient client;
  client.set_node(node);
  client.set_ticket(ticket);
  client.set_read_only(read_only);
  return client;
}

class NodeClientsTest : public NodeFixture {
 protected:
  void SetUp() override {
    options_.client_listen = io::Address{"", "127.0.0.1", 0};
    NodeFixture::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(CreatePool("pool").ok());
    other_options_ = options_;
    other_options_.state_directory = directory_.Child("other-state");
    other_options_.run_directory = directory_.Child("other-run");
    other_options_.client_listen.reset();
    StartOther();
  }
  void TearDown() override {
    StopOther();
    NodeFixture::TearDown();
  }
  void StartOther() {
    absl::StatusOr<std::unique_ptr<Node>> other = Node::Start(other_options_);
    ASSERT_TRUE(other.ok()) << other.status();
    other_ = *std::move(other);
    other_->OpenPools();
  }
  void StopOther() {
    if (other_ != nullptr) other_->Stop();
    other_.reset();
  }
  // The port stays, as it does where an operator has chosen it.
  void KeepClientPort() {
    const std::string address = ClientAddress();
    options_.client_listen->port =
        static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
  }

  // A volume with one copy, made by its member.
  void MakeVolume() {
    const v1::Pool pool = Pools()[0];
    member_.set_pool_id(pool.id());
    member_.set_replica_id(pool::Uuid::Random().ToString());
    member_.set_incarnation(pool.incarnation());
    member_.set_state(v1::MEMBER_STATE_IN_SYNC);
    v1::CreateReplicaRequest request;
    request.set_volume_id(volume_id_);
    request.set_volume("vol");
    request.set_replica_id(member_.replica_id());
    request.set_pool(member_.pool_id());
    request.set_size_bytes(8 * kMebi);
    *request.add_members() = member_;
    v1::CreateReplicaResponse response;
    ASSERT_TRUE(node_->CreateReplica(request, &response).ok());
  }
  absl::Status AttachTo(const std::vector<v1::VolumeClient>& clients,
                        std::uint64_t attachment = kAttachment,
                        v1::Frontend frontend = v1::FRONTEND_UNSPECIFIED) {
    v1::AttachVolumeRequest request;
    request.set_name("vol");
    request.set_frontend(frontend);
    request.mutable_target()->set_volume_id(volume_id_);
    request.mutable_target()->set_attachment(attachment);
    *request.mutable_target()->add_segments()->add_members() = member_;
    for (const v1::VolumeClient& client : clients) *request.add_clients() = client;
    v1::AttachVolumeResponse response;
    return node_->AttachVolume(request, &response);
  }
  absl::Status SetClients(const std::vector<v1::VolumeClient>& clients,
                          std::uint64_t attachment = kAttachment) {
    v1::SetClientsRequest request;
    request.set_volume("vol");
    request.set_attachment(attachment);
    for (const v1::VolumeClient& client : clients) *request.add_clients() = client;
    v1::SetClientsResponse response;
    return node_->SetClients(request, &response);
  }
  std::string ClientAddress() {
    v1::GetNodeResponse response;
    EXPECT_TRUE(node_->GetNode({}, &response).ok());
    return response.client_address();
  }
  absl::StatusOr<std::string> ShowOn(Node* node, const std::string& ticket,
                                     std::uint64_t attachment = kAttachment,
                                     const std::string& name = "vol") {
    v1::AttachVolumeRequest request;
    request.set_name(name);
    request.mutable_remote()->set_address(ClientAddress());
    request.mutable_remote()->set_ticket(ticket);
    request.mutable_remote()->set_attachment(attachment);
    v1::AttachVolumeResponse response;
    const absl::Status status = node->AttachVolume(request, &response);
    if (!status.ok()) return status;
    return response.uri();
  }
  static v1::GetVolumeStatusResponse StatusOf(Node* node) {
    v1::GetVolumeStatusRequest request;
    request.set_name("vol");
    v1::GetVolumeStatusResponse response;
    const absl::Status status = node->GetVolumeStatus(request, &response);
    EXPECT_TRUE(status.ok()) << status;
    return response;
  }
  static absl::Status DetachFrom(Node* node, bool client_only = false) {
    v1::DetachVolumeRequest request;
    request.set_name("vol");
    request.set_client_only(client_only);
    v1::DetachVolumeResponse response;
    return node->DetachVolume(request, &response);
  }
  // The first attempt to resume it comes at once, on a thread of its own.
  static bool IsResumed(Node* node) {
    for (int i = 0; i < 1'000'000; ++i) {
      if (StatusOf(node).remote().connected()) return true;
      std::this_thread::yield();
    }
    return false;
  }

  const std::string volume_id_ = pool::Uuid::Random().ToString();
  v1::Member member_;
  NodeOptions other_options_;
  std::unique_ptr<Node> other_;
};
INSTANTIATE_TEST_SUITE_P(DefaultBackend, NodeClientsTest, testing::Values(io::Backend::kAuto));

TEST_P(NodeClientsTest, ShowsAVolumeOnAnotherNodeWhichSeesTheSameBytes) {
  MakeVolume();
  ASSERT_TRUE(AttachTo({Client("b", kTicketB)}).ok());
  const absl::StatusOr<std::string> uri = ShowOn(other_.get(), kTicketB);
  ASSERT_TRUE(uri.ok()) << uri.status();
  EXPECT_EQ(*uri, *ShowOn(other_.get(), kTicketB)) << "asked twice";
  const std::unique_ptr<NbdClient> there = NbdClient::Connect(*uri);
  const std::unique_ptr<NbdClient> here = NbdClient::Connect(StatusOf(node_.get()).uri());
  ASSERT_TRUE(there != nullptr && here != nullptr);
  EXPECT_EQ(there->size_bytes(), 8 * kMebi);
  std::string data;
  EXPECT_EQ(there->Write(4096, std::string(4096, 'x')), 0);
  EXPECT_EQ(here->Read(4096, 4096, &data), 0);
  EXPECT_EQ(data, std::string(4096, 'x'));
  EXPECT_EQ(here->Write(4096, std::string(4096, 'y')), 0);
  EXPECT_EQ(there->Read(4096, 4096, &data), 0);
  EXPECT_EQ(data, std::string(4096, 'y'));
  EXPECT_EQ(there->Flush(), 0);

  const v1::GetVolumeStatusResponse status = StatusOf(node_.get());
  ASSERT_EQ(status.clients_size(), 1);
  EXPECT_TRUE(status.clients(0).connected());
  EXPECT_EQ(status.clients(0).node(), "b");
  EXPECT_EQ(status.DebugString().find(kTicketB), std::string::npos);
  const v1::GetVolumeStatusResponse shown = StatusOf(other_.get());
  EXPECT_TRUE(shown.remote().connected());
  EXPECT_FALSE(shown.attached());
  EXPECT_EQ(shown.attachment(), kAttachment);
  EXPECT_EQ(shown.DebugString().find(kTicketB), std::string::npos);
  v1::ListVolumesResponse listed;
  EXPECT_TRUE(other_->ListVolumes({}, &listed).ok());
  ASSERT_EQ(listed.volumes_size(), 1);
  EXPECT_TRUE(listed.volumes(0).remote());
  EXPECT_TRUE(DetachFrom(other_.get()).ok());
  EXPECT_TRUE(absl::IsNotFound(DetachFrom(other_.get())));
}

TEST_P(NodeClientsTest, RefusesAListThatIsNone) {
  MakeVolume();
  EXPECT_TRUE(absl::IsNotFound(SetClients({})));
  EXPECT_TRUE(absl::IsInvalidArgument(AttachTo({Client("b", "")}))) << "no ticket";
  ASSERT_TRUE(AttachTo({}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(SetClients({}, kAttachment + 1)));
  EXPECT_TRUE(absl::IsFailedPrecondition(SetClients({}, kAttachment - 1)));
  for (const auto& clients :
       std::vector<std::vector<v1::VolumeClient>>{{Client("b", "")},
                                                  {Client("b", "short")},
                                                  {Client("b", kTicketB), Client("b", kTicketC)},
                                                  {Client("b", kTicketB), Client("c", kTicketB)},
                                                  {Client("", kTicketB)},
                                                  {Client("b/c", kTicketB)}}) {
    const absl::Status status = SetClients(clients);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(std::string(status.message()).find(kTicketB), std::string::npos);
    EXPECT_EQ(std::string(status.message()).find("short"), std::string::npos);
  }
  EXPECT_TRUE(SetClients({Client("b", kTicketB)}).ok());
  EXPECT_TRUE(SetClients({Client("b", ""), Client("c", kTicketC)}).ok()) << "b keeps its ticket";
  EXPECT_TRUE(ShowOn(other_.get(), kTicketB).ok());
}

TEST_P(NodeClientsTest, RefusesARemoteEngineThatIsNone) {
  v1::AttachVolumeRequest request;
  request.set_name("vol");
  v1::AttachVolumeResponse response;
  const auto attach = [&] { return other_->AttachVolume(request, &response); };
  request.mutable_remote();
  EXPECT_TRUE(absl::IsInvalidArgument(attach()));
  request.mutable_remote()->set_address("localhost:1");
  request.mutable_remote()->set_ticket(kTicketB);
  request.mutable_remote()->set_attachment(1);
  EXPECT_TRUE(absl::IsInvalidArgument(attach())) << "names are not looked up";
  request.mutable_remote()->set_address("127.0.0.1:1");
  request.set_name("a/b");
  EXPECT_TRUE(absl::IsInvalidArgument(attach()));
  request.set_name("vol");
  request.mutable_target();
  EXPECT_TRUE(absl::IsInvalidArgument(attach())) << "one or the other";
}

TEST_P(NodeClientsTest, AClientThatIsTakenOffTheListIsServedNoMore) {
  MakeVolume();
  ASSERT_TRUE(AttachTo({Client("b", kTicketB), Client("c", kTicketC, true)}).ok());
  const absl::StatusOr<std::string> uri = ShowOn(other_.get(), kTicketC);
  ASSERT_TRUE(uri.ok()) << uri.status();
  std::unique_ptr<NbdClient> reader = NbdClient::Connect(*uri);
  ASSERT_NE(reader, nullptr);
  EXPECT_TRUE(reader->read_only());
  EXPECT_EQ(reader->Write(0, std::string(4096, 'x')), 1) << "EPERM";
  ASSERT_TRUE(SetClients({Client("b", "")}).ok());
  EXPECT_EQ(StatusOf(node_.get()).clients_size(), 1);
  // Pointed there again under another name on the list, in place.
  ASSERT_TRUE(ShowOn(other_.get(), kTicketB).ok());
  std::string data;
  EXPECT_EQ(reader->Read(0, 4096, &data), 0);
}

TEST_P(NodeClientsTest, BothSidesGoOnWithTheSameListAfterARestart) {
  MakeVolume();
  KeepClientPort();
  Restart();
  ASSERT_TRUE(AttachTo({Client("b", kTicketB)}).ok());
  const absl::StatusOr<std::string> uri = ShowOn(other_.get(), kTicketB);
  ASSERT_TRUE(uri.ok()) << uri.status();
  const std::unique_ptr<NbdClient> client = NbdClient::Connect(*uri);
  ASSERT_EQ(client->Write(0, std::string(4096, 'x')), 0);
  Restart();
  std::string data;
  EXPECT_EQ(client->Read(0, 4096, &data), 0) << "a pause, and no error";
  EXPECT_EQ(data, std::string(4096, 'x'));
  EXPECT_EQ(StatusOf(node_.get()).restart(), 1u);
  StopOther();
  StartOther();
  EXPECT_TRUE(IsResumed(other_.get()));
  const std::unique_ptr<NbdClient> again = NbdClient::Connect(*uri);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->Read(0, 4096, &data), 0);
  EXPECT_EQ(data, std::string(4096, 'x'));
}

TEST_P(NodeClientsTest, ANewAttachmentHasTheListThatItIsGiven) {
  MakeVolume();
  ASSERT_TRUE(AttachTo({Client("b", kTicketB)}).ok());
  ASSERT_TRUE(ShowOn(other_.get(), kTicketB).ok());
  ASSERT_TRUE(DetachFrom(node_.get()).ok());
  ASSERT_TRUE(AttachTo({Client("b", kTicketC)}, kAttachment + 1).ok());
  ASSERT_TRUE(ShowOn(other_.get(), kTicketC, kAttachment + 1).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(ShowOn(other_.get(), kTicketC, kAttachment).status()));
}

TEST_P(NodeClientsTest, TheEnginesNodeShowsItAsItselfAndDetachingAClientLeavesTheEngine) {
  MakeVolume();
  ASSERT_TRUE(AttachTo({Client("self", kTicketB)}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(ShowOn(node_.get(), kTicketB).status()));
  EXPECT_TRUE(DetachFrom(node_.get(), /*client_only=*/true).ok());
  EXPECT_TRUE(StatusOf(node_.get()).attached());
  ASSERT_TRUE(ShowOn(other_.get(), kTicketB).ok());
  EXPECT_TRUE(DetachFrom(other_.get(), /*client_only=*/true).ok());
  EXPECT_TRUE(DetachFrom(other_.get(), /*client_only=*/true).ok()) << "asked twice";
  EXPECT_TRUE(StatusOf(node_.get()).attached());
}

TEST_P(NodeClientsTest, AnEngineWithoutAFrontendServesClientsOnlyItsOwnNodeAmongThem) {
  MakeVolume();
  const std::vector<v1::VolumeClient> list = {Client("self", kTicketB), Client("b", kTicketC)};
  ASSERT_TRUE(AttachTo(list, kAttachment, v1::FRONTEND_NONE).ok());
  ASSERT_TRUE(AttachTo(list, kAttachment, v1::FRONTEND_NONE).ok()) << "asked twice";
  EXPECT_TRUE(absl::IsFailedPrecondition(AttachTo(list))) << "with another frontend";
  EXPECT_EQ(StatusOf(node_.get()).uri(), "");
  const absl::StatusOr<std::string> there = ShowOn(other_.get(), kTicketC);
  const absl::StatusOr<std::string> here = ShowOn(node_.get(), kTicketB);
  ASSERT_TRUE(there.ok() && here.ok()) << there.status() << here.status();
  EXPECT_EQ(StatusOf(node_.get()).uri(), *here);
  std::string data;
  EXPECT_EQ(NbdClient::Connect(*there)->Write(4096, std::string(4096, 'x')), 0);
  EXPECT_EQ(NbdClient::Connect(*here)->Read(4096, 4096, &data), 0);
  EXPECT_EQ(data, std::string(4096, 'x'));
  EXPECT_TRUE(DetachFrom(node_.get(), /*client_only=*/true).ok());
  EXPECT_TRUE(StatusOf(node_.get()).attached());
  EXPECT_EQ(StatusOf(node_.get()).uri(), "") << "as before";
  EXPECT_EQ(NbdClient::Connect(*there)->Read(4096, 4096, &data), 0);
  EXPECT_EQ(NbdClient::Connect(*here), nullptr);
}

TEST_P(NodeClientsTest, AnEngineWithoutAFrontendIsOneAfterARestartToo) {
  MakeVolume();
  KeepClientPort();
  Restart();
  ASSERT_TRUE(AttachTo({Client("b", kTicketB)}, kAttachment, v1::FRONTEND_NONE).ok());
  ASSERT_TRUE(ShowOn(other_.get(), kTicketB).ok());
  Restart();
  EXPECT_TRUE(IsResumed(other_.get()));
  EXPECT_TRUE(StatusOf(node_.get()).attached());
  EXPECT_EQ(StatusOf(node_.get()).uri(), "");
  v1::ListVolumesResponse listed;
  EXPECT_TRUE(node_->ListVolumes({}, &listed).ok());
  ASSERT_EQ(listed.volumes_size(), 1);
  EXPECT_EQ(listed.volumes(0).uri(), "");
}

}  // namespace
}  // namespace keelson::service
