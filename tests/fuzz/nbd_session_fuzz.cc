// A whole NBD server over a memory device, fed arbitrary bytes by one client. The first byte
// chooses the split, whether the handshake is done already, and what the client does in the end.
// Checked: the server never crashes, the device's contract is kept (MemoryDevice checks it), no
// session or buffer is left behind when the client has gone.

#include <spdlog/spdlog.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "blockstore/frontend/nbd_codec.h"
#include "blockstore/frontend/nbd_server.h"
#include "blockstore/io/check.h"
#include "tests/unit/frontend/manual_reactor.h"
#include "tests/unit/frontend/memory_device.h"
#include "tests/unit/frontend/memory_stream.h"

namespace {

namespace nbd = keelson::frontend::nbd;
using keelson::frontend::NbdWriter;
using keelson::frontend::testing::ManualReactor;
using keelson::frontend::testing::MemoryDevice;
using keelson::frontend::testing::MemoryDirectory;
using keelson::frontend::testing::MemoryPeer;

constexpr std::size_t kDeviceBytes = std::size_t{4} << 20;

// A handshake with everything negotiated, so that the input is requests.
std::string Handshake() {
  std::string payload;
  NbdWriter(&payload).U32(0).U32(1).U32(15).Text(nbd::kAllocationContext);
  std::string bytes;
  NbdWriter(&bytes)
      .U32(nbd::kClientFixedNewstyle | nbd::kClientNoZeroes)
      .U64(nbd::kOptionMagic)
      .U32(static_cast<std::uint32_t>(nbd::Option::kStructuredReply))
      .U32(0)
      .U64(nbd::kOptionMagic)
      .U32(static_cast<std::uint32_t>(nbd::Option::kSetMetaContext))
      .U32(static_cast<std::uint32_t>(payload.size()))
      .Text(payload)
      .U64(nbd::kOptionMagic)
      .U32(static_cast<std::uint32_t>(nbd::Option::kGo))
      .U32(6)
      .Zeroes(6);
  return bytes;
}

keelson::io::Task<void> CloseServer(keelson::frontend::NbdServer* server) {
  co_await server->Close();
}

// One reactor for all runs: its buffers are much memory to map for each.
ManualReactor& SharedReactor() {
  static ManualReactor reactor(std::size_t{8} << 20);
  return reactor;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = (spdlog::set_level(spdlog::level::off), true);
  if (size == 0 || !quiet) return 0;
  const std::uint8_t choice = data[0];
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  ManualReactor& reactor = SharedReactor();
  MemoryDevice device(kDeviceBytes);
  MemoryDirectory directory;
  directory.Add("vol", &device);
  {
    MemoryPeer peer(&reactor);
    keelson::frontend::NbdServer server(&reactor, &directory, {});
    server.Adopt(peer.MakeStream());
    if ((choice & 0x80) != 0) peer.Send(Handshake());
    if ((choice & 0x40) != 0) peer.set_read_bytes_max(1 + (choice & 0x0f));
    if ((choice & 0x20) != 0) device.Hold();
    peer.Send(input);
    reactor.Settle();
    if ((choice & 0x10) != 0) {
      peer.Vanish();
    } else {
      peer.CloseSending();
    }
    reactor.Settle();
    device.Release();
    reactor.Settle();
    KEEL_CHECK(server.counters().connections == 0, "a client that left leaves no session behind");
    keelson::io::Gate gate;
    gate.Spawn(CloseServer(&server));
    reactor.Settle();
    KEEL_CHECK(gate.running() == 0, "the server closes");
  }
  KEEL_CHECK(reactor.buffers().free_bytes() == reactor.buffers().arena().size(),
             "every buffer came back");
  return 0;
}
