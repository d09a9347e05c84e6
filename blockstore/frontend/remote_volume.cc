#include "blockstore/frontend/remote_volume.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/status.h"

namespace keelson::frontend {
namespace {

using nbd::Command;

// What one request carries, and what one request zeroes.
constexpr std::uint64_t kDataBytesMax = nbd::kPieceBytesMax;
constexpr std::uint64_t kZeroBytesMax = std::uint64_t{1} << 30;

}  // namespace

struct RemoteVolume::Done {
  RemoteRequest* request;
  bool await_ready() const noexcept { return request->done; }
  void await_suspend(std::coroutine_handle<> handle) noexcept { request->waiter = handle; }
  void await_resume() const noexcept {}
};

void RemoteVolume::Queue::Append(RemoteRequest* request) {
  request->next = nullptr;
  (tail == nullptr ? head : tail->next) = request;
  tail = request;
}

RemoteRequest* RemoteVolume::Queue::Pop() {
  RemoteRequest* const request = head;
  if (request == nullptr) return nullptr;
  head = request->next;
  if (head == nullptr) tail = nullptr;
  return request;
}

RemoteVolume::RemoteVolume(io::Reactor* reactor, std::string name, RemoteTarget target,
                           const RemoteVolumeOptions& options)
    : reactor_(reactor),
      name_(std::move(name)),
      options_(options),
      target_(std::move(target)),
      work_(reactor),
      wake_(reactor) {
  for (std::size_t i = kSlots; i > 0; --i) free_slots_.push_back(static_cast<std::uint8_t>(i - 1));
  ping_timer_.owner = pause_timer_.owner = this;
  ping_timer_.fire = [](io::TimerNode* timer) {
    static_cast<RemoteVolume*>(timer->owner)->OnPingTimer();
  };
  pause_timer_.fire = [](io::TimerNode* timer) {
    static_cast<RemoteVolume*>(timer->owner)->wake_.Unpark();
  };
}

RemoteVolume::~RemoteVolume() {
  KEEL_CHECK(!running_ && in_flight_ == 0, "a remote volume is closed before it is destroyed");
}

void RemoteVolume::Start() {
  running_ = true;
  outage_since_ns_ = reactor_->NowNanos();
  gate_.Spawn(Run());
}

void RemoteVolume::Repoint(RemoteTarget target) {
  target_ = std::move(target);
  ++target_changes_;
  problem_ = "it is being pointed to another engine";
  outage_since_ns_ = reactor_->NowNanos();
  failing_ = absl::OkStatus();
  EndConnection();
  wake_.Unpark();
}

void RemoteVolume::End(const absl::Status& why) {
  if (ended_.ok()) ended_ = why;
  EndConnection();
  wake_.Unpark();
}

io::Task<void> RemoteVolume::Close() {
  closing_ = true;
  End(absl::UnavailableError(absl::StrCat("volume ", name_, " is being detached")));
  co_await gate_.Close();
}

absl::Status RemoteVolume::health() const { return ended_.ok() ? failing_ : ended_; }

// --- Calls ---

absl::Status RemoteVolume::CheckRange(std::uint64_t offset, std::uint64_t size_bytes,
                                      bool writes) const {
  if (offset % engine::kBlockSize != 0 || size_bytes % engine::kBlockSize != 0 || size_bytes == 0) {
    return absl::InvalidArgumentError(absl::StrCat("volume ", name_, ": a request of ", size_bytes,
                                                   " bytes at ", offset,
                                                   " is not made of whole 4096-byte blocks"));
  }
  if (offset > size_bytes_ || size_bytes > size_bytes_ - offset) {
    return absl::OutOfRangeError(absl::StrCat("volume ", name_, ": a request of ", size_bytes,
                                              " bytes at ", offset, " ends past its ", size_bytes_,
                                              " bytes"));
  }
  if (writes && read_only_) {
    return absl::PermissionDeniedError(absl::StrCat("volume ", name_, " is read-only here"));
  }
  return absl::OkStatus();
}

io::Task<absl::Status> RemoteVolume::Call(Command command, std::uint16_t flags,
                                          std::uint64_t offset, std::uint32_t length,
                                          std::span<std::byte> into,
                                          std::span<const std::byte> from) {
  const absl::Status dead = health();
  if (!dead.ok()) co_return dead;
  RemoteRequest request;
  request.header = {
      .flags = flags, .command = command, .cookie = 0, .offset = offset, .length = length};
  request.into = into;
  request.from = from;
  request.covers = answered_writes_;
  request.sequence = ++last_sequence_;
  ++in_flight_;
  waiting_.Append(&request);
  Admit();
  Done done{&request};
  co_await done;
  --in_flight_;
  co_return request.status;
}

void RemoteVolume::Admit() {
  while (!free_slots_.empty()) {
    RemoteRequest* const request = waiting_.Pop();
    if (request == nullptr) return;
    const std::uint8_t slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot] = request;
    // The sequence is in it, so that an answer to an earlier user of the slot is told apart.
    request->header.cookie = request->sequence << 8 | slot;
    request->encoded = EncodeRequest(request->header);
    if (connected_) Push(request);
  }
}

void RemoteVolume::Complete(RemoteRequest* request) {
  KEEL_CHECK(!request->queued, "a request completes after the stream has let go of it");
  const auto slot = static_cast<std::uint8_t>(request->header.cookie);
  slots_[slot] = nullptr;
  free_slots_.push_back(slot);
  const NbdRequestHeader& header = request->header;
  if (request->status.ok() && header.command == Command::kFlush) {
    flushed_writes_ = std::max(flushed_writes_, request->covers);
  }
  const bool changes = header.command == Command::kWrite || header.command == Command::kWriteZeroes;
  if (request->status.ok() && changes && (header.flags & nbd::kCommandFua) == 0) {
    ++answered_writes_;
  }
  request->done = true;
  if (request->waiter) reactor_->Schedule(request->waiter);
  Admit();
}

// REQUIRES: no connection, so that nobody looks at a buffer.
void RemoteVolume::CompleteAll(const absl::Status& status) {
  // Those in slots, and what takes their places.
  while (in_flight_ > 0) {
    bool any = false;
    for (RemoteRequest* request : slots_) {
      if (request == nullptr) continue;
      any = true;
      request->status = status;
      Complete(request);
    }
    if (!any) return;
  }
}

// --- BlockDevice ---

io::Task<absl::Status> RemoteVolume::Read(std::uint64_t offset, std::span<std::byte> into) {
  CO_RETURN_IF_ERROR(CheckRange(offset, into.size(), /*writes=*/false));
  while (!into.empty()) {
    const std::span<std::byte> piece =
        into.first(std::min<std::size_t>(into.size(), kDataBytesMax));
    const std::span<const std::byte> nothing;
    const auto length = static_cast<std::uint32_t>(piece.size());
    CO_RETURN_IF_ERROR(co_await Call(Command::kRead, 0, offset, length, piece, nothing));
    offset += piece.size();
    into = into.subspan(piece.size());
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> RemoteVolume::Write(std::uint64_t offset, std::span<const std::byte> from,
                                           bool fua) {
  CO_RETURN_IF_ERROR(CheckRange(offset, from.size(), /*writes=*/true));
  const std::uint16_t flags = fua ? nbd::kCommandFua : std::uint16_t{0};
  while (!from.empty()) {
    const std::span<const std::byte> piece =
        from.first(std::min<std::size_t>(from.size(), kDataBytesMax));
    const std::span<std::byte> nothing;
    const auto length = static_cast<std::uint32_t>(piece.size());
    CO_RETURN_IF_ERROR(co_await Call(Command::kWrite, flags, offset, length, nothing, piece));
    offset += piece.size();
    from = from.subspan(piece.size());
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> RemoteVolume::Trim(std::uint64_t offset, std::uint64_t size_bytes,
                                          bool fua) {
  CO_RETURN_IF_ERROR(CheckRange(offset, size_bytes, /*writes=*/true));
  const std::uint16_t flags = fua ? nbd::kCommandFua : std::uint16_t{0};
  while (size_bytes > 0) {
    // Not NBD's trim, which does not promise zeroes.
    const std::uint64_t piece = std::min(size_bytes, kZeroBytesMax);
    const std::span<std::byte> into;
    const std::span<const std::byte> from;
    const auto length = static_cast<std::uint32_t>(piece);
    CO_RETURN_IF_ERROR(co_await Call(Command::kWriteZeroes, flags, offset, length, into, from));
    offset += piece;
    size_bytes -= piece;
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> RemoteVolume::Flush() {
  const std::span<std::byte> into;
  const std::span<const std::byte> from;
  co_return co_await Call(Command::kFlush, 0, 0, 0, into, from);
}

io::Task<absl::StatusOr<std::vector<engine::BlockRun>>> RemoteVolume::Status(
    std::uint64_t offset, std::uint64_t size_bytes, std::size_t) {
  CO_RETURN_IF_ERROR(CheckRange(offset, size_bytes, /*writes=*/false));
  CO_RETURN_IF_ERROR(health());
  std::vector<engine::BlockRun> runs;
  runs.push_back({size_bytes, /*hole=*/false});
  co_return runs;
}

}  // namespace keelson::frontend
