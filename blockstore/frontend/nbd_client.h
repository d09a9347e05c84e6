#pragma once
// The client's side of the NBD protocol, as far as RemoteVolume needs it: the handshake, and the
// bytes of requests and simple replies. Every length that the server names is checked. One reactor.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/frontend/nbd_codec.h"
#include "blockstore/frontend/nbd_protocol.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/task.h"

namespace keelson::frontend {

// Reads a stream in pieces of a known size, many small ones with one receive.
class NbdReader {
 public:
  // The stream outlives the reader.
  explicit NbdReader(io::Stream* stream)
      : stream_(stream), buffer_(std::make_unique_for_overwrite<std::byte[]>(kBufferBytes)) {}

  // Fills `into`. UNAVAILABLE when the stream ends before; errors of the stream.
  io::Task<absl::Status> Read(std::span<std::byte> into, std::int64_t deadline_ns);
  // Counts what has arrived, so that a watcher sees progress.
  std::uint64_t received_bytes() const { return received_bytes_; }

 private:
  static constexpr std::size_t kBufferBytes = std::size_t{16} << 10;

  io::Stream* stream_;
  std::unique_ptr<std::byte[]> buffer_;
  std::span<const std::byte> input_;
  std::uint64_t received_bytes_ = 0;
};

struct NbdExportInfo {
  std::uint64_t size_bytes = 0;
  std::uint16_t flags = 0;  // nbd::kFlag...
  std::string description;
};

// The handshake on a new connection, up to NBD_OPT_GO (then requests follow) or, with `only_ask`,
// NBD_OPT_INFO. NOT_FOUND: there is no such export. UNAVAILABLE: the server breaks the protocol or
// lacks what is needed, or the stream's errors. No message has `export_name`.
io::Task<absl::StatusOr<NbdExportInfo>> NbdHandshake(io::Stream* stream, NbdReader* reader,
                                                     std::string export_name, bool only_ask,
                                                     std::int64_t deadline_ns);

using NbdRequestBytes = std::array<std::byte, nbd::kRequestBytes>;
NbdRequestBytes EncodeRequest(const NbdRequestHeader& request);

struct NbdSimpleReply {
  nbd::Error error = nbd::Error::kNone;
  std::uint64_t cookie = 0;
};
using NbdSimpleReplyBytes = std::array<std::byte, nbd::kSimpleReplyBytes>;
// INVALID_ARGUMENT: it is none.
absl::StatusOr<NbdSimpleReply> DecodeSimpleReply(const NbdSimpleReplyBytes& bytes);

// What NbdErrorOf made an error of, as far as that can be told; `what` names the request.
absl::Status StatusOfNbdError(nbd::Error error, std::string_view what);

}  // namespace keelson::frontend
