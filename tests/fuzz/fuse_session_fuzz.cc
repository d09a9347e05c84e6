// A FUSE session over a memory device, fed arbitrary messages by the kernel's side. The first byte
// chooses what happens around them; then each message is a length (two bytes) and so many bytes, of
// which a sound header may be made (the length's top bit), so that the input reaches the arguments.
// Checked: nothing crashes, the device's contract is kept (MemoryDevice checks it), answers are
// well formed (MemoryFuse checks it), and no buffer or request is left behind.

#include <spdlog/spdlog.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "blockstore/frontend/fuse_session.h"
#include "blockstore/io/check.h"
#include "blockstore/io/gate.h"
#include "tests/unit/frontend/manual_reactor.h"
#include "tests/unit/frontend/memory_device.h"
#include "tests/unit/frontend/memory_fuse.h"

namespace {

using keelson::frontend::FuseCounters;
using keelson::frontend::FuseOptions;
using keelson::frontend::FuseSession;
using keelson::frontend::testing::ManualReactor;
using keelson::frontend::testing::MemoryDevice;
using keelson::frontend::testing::MemoryFuse;

constexpr std::size_t kDeviceBytes = std::size_t{4} << 20;

keelson::io::Task<void> RunSession(FuseSession* session) { co_await session->Run(); }

// One reactor for all runs: its buffers are much memory to map for each.
ManualReactor& SharedReactor() {
  static ManualReactor reactor(std::size_t{8} << 20);
  return reactor;
}

// Queues the first message of `input`, and takes it away from there.
void SendOne(std::string_view* input, MemoryFuse* kernel) {
  std::uint16_t length = 0;
  std::memcpy(&length, input->data(), sizeof(length));
  input->remove_prefix(sizeof(length));
  const bool sound = (length & 0x8000) != 0;
  std::string message(input->substr(0, length & 0x3fff));
  input->remove_prefix(message.size());
  if (sound && message.size() >= sizeof(fuse_in_header)) {
    const auto size_bytes = static_cast<std::uint32_t>(message.size());
    std::memcpy(message.data(), &size_bytes, sizeof(size_bytes));
    message[5] = message[6] = message[7] = 0;  // of the opcode: it is one that there is, mostly
  }
  kernel->SendRaw(std::move(message));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = (spdlog::set_level(spdlog::level::off), true);
  if (size == 0 || !quiet) return 0;
  const std::uint8_t choice = data[0];
  std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  ManualReactor& reactor = SharedReactor();
  {
    MemoryDevice device(kDeviceBytes);
    device.set_read_only((choice & 0x01) != 0);
    if ((choice & 0x02) != 0) device.Hold();
    if ((choice & 0x04) != 0) device.FailAfter(2, absl::UnavailableError("as told"));
    MemoryFuse kernel(&reactor);
    FuseCounters counters;
    FuseOptions options;
    if ((choice & 0x08) != 0) options.requests_in_flight_max = 2;
    FuseSession session(&reactor, "vol", kernel.MakeChannel(), options, &device, &counters);
    if ((choice & 0x10) != 0) session.Adopt((choice & 0x20) != 0);
    keelson::io::Gate gate;
    gate.Spawn(RunSession(&session));
    while (input.size() >= sizeof(std::uint16_t)) SendOne(&input, &kernel);
    reactor.Settle();
    if ((choice & 0x40) != 0) kernel.Vanish();
    if ((choice & 0x80) != 0) session.Leave();
    device.Release();
    reactor.Settle();
    session.End();
    reactor.Settle();
    KEEL_CHECK(gate.running() == 0, "a session that was ended ends");
  }
  KEEL_CHECK(reactor.buffers().free_bytes() == reactor.buffers().arena().size(),
             "every buffer came back");
  return 0;
}
