#pragma once
// FrameReader: the one reader of a connection of the data protocol, on either side. Headers and
// messages come through a receive buffer, many at a time; data goes from the stream straight to
// where it belongs, but for what the buffer had already. Owned by the connection; its reactor's
// thread only. At most one of its tasks runs at a time.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/task.h"
#include "blockstore/wire/frame.h"
#include "blockstore/wire/hello.h"

namespace keelson::engine {

class FrameReader {
 public:
  // Outlives the reader.
  explicit FrameReader(io::Stream* stream)
      : stream_(stream), buffer_(std::make_unique_for_overwrite<std::byte[]>(kBufferBytes)) {}

  // INVALID_ARGUMENT: not a hello. Else as Fill.
  io::Task<absl::StatusOr<wire::Hello>> ReceiveHello(std::int64_t deadline_ns);

  // The next frame among what was received; kNeedMore asks for Fill.
  wire::FrameDecoder::Event Next() { return decoder_.Next(&input_); }
  const wire::FrameHeader& header() const { return decoder_.header(); }
  std::span<const std::byte> message() const { return decoder_.message(); }
  const absl::Status& error() const { return decoder_.error(); }
  bool mid_frame() const { return decoder_.mid_frame(); }

  // Receives what is there. UNAVAILABLE: the peer has closed or reset the connection, or the stream
  // was shut down; the message says which. DEADLINE_EXCEEDED: nothing came in time.
  io::Task<absl::Status> Fill(std::int64_t deadline_ns);
  // Receives the data of the frame that Next gave last; all of it, and only once. Errors as Fill.
  io::Task<absl::Status> ReceiveData(std::span<std::byte> into, std::int64_t deadline_ns);
  io::Task<absl::Status> SkipData(std::size_t size_bytes, std::int64_t deadline_ns);

 private:
  static constexpr std::size_t kBufferBytes = std::size_t{64} << 10;

  io::Stream* stream_;
  std::unique_ptr<std::byte[]> buffer_;
  std::span<const std::byte> input_;  // received and not yet taken: a part of the buffer
  wire::HelloDecoder hello_decoder_;
  wire::FrameDecoder decoder_;
};

}  // namespace keelson::engine
