#include "tests/unit/frontend/nbd_conversation.h"

#include <gtest/gtest.h>

#include <utility>

namespace keelson::frontend::testing {
namespace {

io::Task<void> RunAndNote(io::Task<void> work, std::shared_ptr<bool> ended) {
  co_await std::move(work);
  *ended = true;
}

}  // namespace

std::string ClientFlags(std::uint32_t flags) {
  std::string bytes;
  NbdWriter(&bytes).U32(flags);
  return bytes;
}

std::string OptionBytes(nbd::Option option, std::string_view payload) {
  std::string bytes;
  NbdWriter(&bytes)
      .U64(nbd::kOptionMagic)
      .U32(static_cast<std::uint32_t>(option))
      .U32(static_cast<std::uint32_t>(payload.size()))
      .Text(payload);
  return bytes;
}

std::string InfoPayload(std::string_view name, const std::vector<std::uint16_t>& infos) {
  std::string bytes;
  NbdWriter writer(&bytes);
  writer.U32(static_cast<std::uint32_t>(name.size())).Text(name);
  writer.U16(static_cast<std::uint16_t>(infos.size()));
  for (const std::uint16_t info : infos) writer.U16(info);
  return bytes;
}

std::string MetaPayload(std::string_view name, const std::vector<std::string>& queries) {
  std::string bytes;
  NbdWriter writer(&bytes);
  writer.U32(static_cast<std::uint32_t>(name.size())).Text(name);
  writer.U32(static_cast<std::uint32_t>(queries.size()));
  for (const std::string& query : queries) {
    writer.U32(static_cast<std::uint32_t>(query.size())).Text(query);
  }
  return bytes;
}

std::string RequestBytes(nbd::Command command, std::uint64_t cookie, std::uint64_t offset,
                         std::uint32_t length, std::uint16_t flags) {
  std::string bytes;
  NbdWriter(&bytes)
      .U32(nbd::kRequestMagic)
      .U16(flags)
      .U16(static_cast<std::uint16_t>(command))
      .U64(cookie)
      .U64(offset)
      .U32(length);
  return bytes;
}

std::string ReplyReader::Text(std::size_t size) {
  if (bytes_.size() - at_ < size) {
    ADD_FAILURE() << "the server sent " << bytes_.size() - at_ << " more bytes, not " << size;
    at_ = bytes_.size();
    return std::string(size, '\0');
  }
  at_ += size;
  return bytes_.substr(at_ - size, size);
}

std::uint64_t ReplyReader::U64() {
  std::uint64_t value = 0;
  for (const char byte : Text(8)) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}
std::uint32_t ReplyReader::U32() {
  std::uint32_t value = 0;
  for (const char byte : Text(4)) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}
std::uint16_t ReplyReader::U16() {
  const std::string bytes = Text(2);
  return static_cast<std::uint16_t>(static_cast<unsigned char>(bytes[0]) << 8 |
                                    static_cast<unsigned char>(bytes[1]));
}

OptionReplyMessage ReplyReader::OptionReply() {
  EXPECT_EQ(U64(), nbd::kOptionReplyMagic);
  OptionReplyMessage message;
  message.option = U32();
  message.type = static_cast<nbd::OptionReply>(U32());
  message.data = Text(U32());
  return message;
}

ReplyMessage ReplyReader::Reply(std::size_t data_bytes) {
  ReplyMessage message;
  const std::uint32_t magic = U32();
  if (magic == nbd::kSimpleReplyMagic) {
    message.error = U32();
    message.cookie = U64();
    if (message.error == 0) message.data = Text(data_bytes);
    return message;
  }
  EXPECT_EQ(magic, nbd::kStructuredReplyMagic);
  message.structured = true;
  message.done = (U16() & nbd::kChunkDone) != 0;
  message.chunk = static_cast<nbd::Chunk>(U16());
  message.cookie = U64();
  std::uint32_t length = U32();
  if (message.chunk == nbd::Chunk::kOffsetData) {
    message.offset = U64();
    length -= 8;
  } else if (message.chunk == nbd::Chunk::kError || message.chunk == nbd::Chunk::kErrorOffset) {
    message.error = U32();
    Text(U16());
    if (message.chunk == nbd::Chunk::kErrorOffset) message.offset = U64();
    return message;
  }
  message.data = Text(length);
  return message;
}

NbdConversation::NbdConversation(const NbdOptions& options, std::uint64_t device_bytes,
                                 std::size_t arena_bytes)
    : reactor_(arena_bytes), device_(device_bytes), server_(&reactor_, &directory_, options) {
  directory_.Add("vol", &device_);
  Connect();
}

NbdConversation::~NbdConversation() {
  device_.Release();
  const std::shared_ptr<bool> server_closed = Start(server_.Close());
  EXPECT_TRUE(*server_closed);
  io::Gate closer;
  closer.Spawn(background_.Close());
  EXPECT_EQ(closer.running(), 0u);
  EXPECT_EQ(device_.running(), 0u);
  EXPECT_EQ(counters().connections, 0u);
  EXPECT_EQ(reactor_.buffers().free_bytes(), reactor_.buffers().arena().size());
}

std::shared_ptr<bool> NbdConversation::Start(io::Task<void> work) {
  auto ended = std::make_shared<bool>(false);
  background_.Spawn(RunAndNote(std::move(work), ended));
  reactor_.Settle();
  return ended;
}

MemoryPeer* NbdConversation::Connect() {
  clients_.push_back(std::make_unique<MemoryPeer>(&reactor_));
  server_.Adopt(clients_.back()->MakeStream());
  reactor_.Settle();
  return clients_.back().get();
}

void NbdConversation::Say(std::string_view bytes) {
  client().Send(bytes);
  reactor_.Settle();
}

std::string NbdConversation::Hear() {
  std::string heard = client().Receive();
  reactor_.Settle();
  return heard;
}

std::vector<OptionReplyMessage> NbdConversation::Ask(nbd::Option option, std::string_view payload) {
  Say(OptionBytes(option, payload));
  ReplyReader reader(Hear());
  std::vector<OptionReplyMessage> replies;
  while (!reader.Done()) replies.push_back(reader.OptionReply());
  for (const OptionReplyMessage& reply : replies) {
    EXPECT_EQ(reply.option, static_cast<std::uint32_t>(option));
  }
  return replies;
}

void NbdConversation::Open(bool structured, std::string_view name) {
  OpenAs(&client(), structured, name);
}

void NbdConversation::OpenAs(MemoryPeer* peer, bool structured, std::string_view name) {
  peer->Send(ClientFlags(nbd::kClientFixedNewstyle | nbd::kClientNoZeroes));
  if (structured) {
    peer->Send(OptionBytes(nbd::Option::kStructuredReply, {}));
    const std::string selection = MetaPayload(name, {"base:allocation"});
    peer->Send(OptionBytes(nbd::Option::kSetMetaContext, selection));
  }
  peer->Send(OptionBytes(nbd::Option::kGo, InfoPayload(name, {})));
  reactor_.Settle();
  ReplyReader reader(peer->Receive());
  reader.Text(18);
  OptionReplyMessage last;
  while (!reader.Done()) last = reader.OptionReply();
  EXPECT_EQ(last.option, static_cast<std::uint32_t>(nbd::Option::kGo));
  EXPECT_EQ(last.type, nbd::OptionReply::kAck);
}

std::string NbdConversation::Request(nbd::Command command, std::uint64_t offset,
                                     std::uint32_t length, std::uint16_t flags,
                                     std::string_view payload) {
  Say(RequestBytes(command, 7, offset, length, flags) + std::string(payload));
  return Hear();
}

std::uint32_t NbdConversation::ErrorOf(nbd::Command command, std::uint64_t offset,
                                       std::uint32_t length, std::uint16_t flags,
                                       std::string_view payload) {
  ReplyReader reader(Request(command, offset, length, flags, payload));
  const ReplyMessage reply = reader.Reply();
  EXPECT_EQ(reply.cookie, 7u);
  EXPECT_TRUE(reader.Done());
  return reply.error;
}

}  // namespace keelson::frontend::testing
