#include "blockstore/engine/frame_reader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "blockstore/io/status.h"

namespace keelson::engine {
namespace {

absl::Status Closed() { return absl::UnavailableError("it closed the connection"); }

}  // namespace

io::Task<absl::StatusOr<wire::Hello>> FrameReader::ReceiveHello(std::int64_t deadline_ns) {
  while (true) {
    CO_ASSIGN_OR_RETURN(std::optional<wire::Hello> hello, hello_decoder_.Next(&input_));
    if (hello.has_value()) co_return *std::move(hello);
    const absl::Status status = co_await Fill(deadline_ns);
    CO_RETURN_IF_ERROR(status);
  }
}

io::Task<absl::Status> FrameReader::Fill(std::int64_t deadline_ns) {
  const std::span<std::byte> into(buffer_.get(), kBufferBytes);
  const absl::StatusOr<std::size_t> received = co_await stream_->ReadSome(into, deadline_ns);
  if (!received.ok()) co_return received.status();
  if (*received == 0) co_return Closed();
  input_ = into.first(*received);
  co_return absl::OkStatus();
}

io::Task<absl::Status> FrameReader::ReceiveData(std::span<std::byte> into,
                                                std::int64_t deadline_ns) {
  const std::size_t buffered = std::min(into.size(), input_.size());
  std::copy_n(input_.begin(), buffered, into.begin());
  input_ = input_.subspan(buffered);
  into = into.subspan(buffered);
  while (!into.empty()) {
    const absl::StatusOr<std::size_t> received = co_await stream_->ReadSome(into, deadline_ns);
    if (!received.ok()) co_return received.status();
    if (*received == 0) co_return Closed();
    into = into.subspan(*received);
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> FrameReader::SkipData(std::size_t size_bytes, std::int64_t deadline_ns) {
  while (size_bytes > 0) {
    if (input_.empty()) {
      const absl::Status status = co_await Fill(deadline_ns);
      CO_RETURN_IF_ERROR(status);
    }
    const std::size_t skipped = std::min(size_bytes, input_.size());
    input_ = input_.subspan(skipped);
    size_bytes -= skipped;
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::engine
