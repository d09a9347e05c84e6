#pragma once
// NbdConversation: a server over a MemoryDevice on a ManualReactor with one client that speaks
// bytes, and helpers that compose requests and take replies apart. For the NBD tests.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "blockstore/frontend/nbd_codec.h"
#include "blockstore/frontend/nbd_server.h"
#include "tests/unit/frontend/manual_reactor.h"
#include "tests/unit/frontend/memory_device.h"
#include "tests/unit/frontend/memory_stream.h"

namespace keelson::frontend::testing {

inline constexpr std::int64_t kSecond = 1'000'000'000;

struct OptionReplyMessage {
  std::uint32_t option = 0;
  nbd::OptionReply type = nbd::OptionReply::kAck;
  std::string data;
};

// A simple reply, or one chunk of a structured one.
struct ReplyMessage {
  bool structured = false;
  bool done = true;
  nbd::Chunk chunk = nbd::Chunk::kNone;
  std::uint32_t error = 0;
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;
  std::string data;
};

std::string ClientFlags(std::uint32_t flags);
std::string OptionBytes(nbd::Option option, std::string_view payload);
std::string InfoPayload(std::string_view name, const std::vector<std::uint16_t>& infos);
std::string MetaPayload(std::string_view name, const std::vector<std::string>& queries);
std::string RequestBytes(nbd::Command command, std::uint64_t cookie, std::uint64_t offset,
                         std::uint32_t length, std::uint16_t flags = 0);

// Takes messages off the front of what was received. `Done` is false while bytes are left over.
class ReplyReader {
 public:
  explicit ReplyReader(std::string bytes) : bytes_(std::move(bytes)) {}
  std::uint16_t U16();
  std::uint32_t U32();
  std::uint64_t U64();
  std::string Text(std::size_t size);
  bool Done() const { return at_ == bytes_.size(); }
  OptionReplyMessage OptionReply();
  // `data_bytes`: what follows a simple reply that is not an error.
  ReplyMessage Reply(std::size_t data_bytes = 0);

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

class NbdConversation {
 public:
  explicit NbdConversation(const NbdOptions& options = {},
                           std::uint64_t device_bytes = std::uint64_t{64} << 20,
                           std::size_t arena_bytes = std::size_t{32} << 20);
  // Closes the server; everything must then have ended.
  ~NbdConversation();

  // Another client of the same server. The first one exists already: client().
  MemoryPeer* Connect();
  MemoryPeer& client() { return *clients_.front(); }

  // Sends and lets everything happen.
  void Say(std::string_view bytes);
  std::string Hear();
  // Sends one option and returns the replies to it.
  std::vector<OptionReplyMessage> Ask(nbd::Option option, std::string_view payload = {});
  // Greeting, flags, and NBD_OPT_GO for `name`; structured replies and base:allocation if asked.
  void Open(bool structured = false, std::string_view name = "vol");
  void OpenAs(MemoryPeer* peer, bool structured, std::string_view name);
  // Sends one request (with its payload) and returns what was answered.
  std::string Request(nbd::Command command, std::uint64_t offset, std::uint32_t length,
                      std::uint16_t flags = 0, std::string_view payload = {});
  // The error of a command that has a simple reply.
  std::uint32_t ErrorOf(nbd::Command command, std::uint64_t offset, std::uint32_t length,
                        std::uint16_t flags = 0, std::string_view payload = {});

  ManualReactor& reactor() { return reactor_; }
  MemoryDevice& device() { return device_; }
  MemoryDirectory& directory() { return directory_; }
  NbdServer& server() { return server_; }
  const NbdCounters& counters() const { return server_.counters(); }
  bool closed() { return client().closed_by_server(); }

  // Starts `work` and remembers whether it has ended.
  std::shared_ptr<bool> Start(io::Task<void> work);

 private:
  ManualReactor reactor_;
  MemoryDevice device_;
  MemoryDirectory directory_;
  NbdServer server_;
  std::vector<std::unique_ptr<MemoryPeer>> clients_;
  io::Gate background_;
};

}  // namespace keelson::frontend::testing
