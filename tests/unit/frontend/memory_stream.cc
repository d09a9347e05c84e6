#include "tests/unit/frontend/memory_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace keelson::frontend::testing {

struct MemoryPeer::WaitAwaiter {
  MemoryPeer* peer;
  Waiting* waiting;
  std::int64_t deadline_ns;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiting->handle = handle;
    waiting->timed_out = false;
    if (deadline_ns == io::kNoDeadline) return;
    waiting->timer.when_ns = deadline_ns;
    waiting->timer.owner = waiting;
    waiting->timer.fire = [](io::TimerNode* node) {
      auto* fired = static_cast<Waiting*>(node->owner);
      fired->timed_out = true;
      std::exchange(fired->handle, nullptr).resume();
    };
    peer->reactor_->StartTimer(&waiting->timer);
  }
  // False: the deadline passed.
  bool await_resume() const noexcept { return !waiting->timed_out; }
};

MemoryPeer::WaitAwaiter MemoryPeer::WaitFor(Waiting* waiting, std::int64_t deadline_ns) {
  KEEL_CHECK(!waiting->handle, "one read and one write at a time on a Stream");
  return {this, waiting, deadline_ns};
}

void MemoryPeer::Wake(Waiting* waiting) {
  if (!waiting->handle) return;
  if (waiting->timer.armed) reactor_->CancelTimer(&waiting->timer);
  reactor_->Schedule(std::exchange(waiting->handle, nullptr));
}

class MemoryStream : public io::Stream {
 public:
  explicit MemoryStream(MemoryPeer* peer) : peer_(peer) {}
  ~MemoryStream() override { Shutdown(); }

  io::Task<absl::StatusOr<std::size_t>> ReadSome(std::span<std::byte> into,
                                                 std::int64_t deadline_ns) override {
    // Like a real stream it never completes inside the call: a long conversation is no deep stack.
    co_await peer_->reactor_->Yield();
    while (!peer_->down() && peer_->unread_bytes() == 0 && !peer_->sending_closed_) {
      const bool in_time = co_await peer_->WaitFor(&peer_->reader_, deadline_ns);
      if (!in_time) co_return absl::DeadlineExceededError("read");
    }
    if (peer_->down()) co_return absl::UnavailableError("read");
    const std::size_t taken =
        std::min({into.size(), peer_->unread_bytes(), peer_->read_bytes_max_});
    std::memcpy(into.data(), peer_->to_server_.data() + peer_->read_bytes_, taken);
    peer_->read_bytes_ += taken;
    co_return taken;
  }

  io::Task<absl::Status> WriteAll(std::span<iovec> parts, std::int64_t deadline_ns) override {
    ++peer_->write_calls_;
    co_await peer_->reactor_->Yield();
    for (const iovec& part : parts) {
      std::string_view left(static_cast<const char*>(part.iov_base), part.iov_len);
      while (!left.empty()) {
        if (peer_->down()) co_return absl::UnavailableError("write");
        const std::size_t room =
            peer_->window_bytes_ - std::min(peer_->window_bytes_, peer_->to_client_.size());
        const std::size_t sent = std::min(left.size(), room);
        peer_->to_client_.append(left.substr(0, sent));
        left.remove_prefix(sent);
        if (left.empty()) break;
        const bool in_time = co_await peer_->WaitFor(&peer_->writer_, deadline_ns);
        if (!in_time) co_return absl::DeadlineExceededError("write");
      }
    }
    co_return absl::OkStatus();
  }

  void Shutdown() override {
    peer_->shut_down_ = true;
    peer_->Wake(&peer_->reader_);
    peer_->Wake(&peer_->writer_);
  }

  std::string peer() const override { return "memory"; }

 private:
  MemoryPeer* peer_;
};

std::unique_ptr<io::Stream> MemoryPeer::MakeStream() {
  return std::make_unique<MemoryStream>(this);
}

void MemoryPeer::Send(std::string_view bytes) {
  to_server_.erase(0, std::exchange(read_bytes_, 0));
  to_server_.append(bytes);
  Wake(&reader_);
}

void MemoryPeer::CloseSending() {
  sending_closed_ = true;
  Wake(&reader_);
}

void MemoryPeer::Vanish() {
  vanished_ = true;
  Wake(&reader_);
  Wake(&writer_);
}

std::string MemoryPeer::Receive() {
  Wake(&writer_);
  return std::exchange(to_client_, {});
}

}  // namespace keelson::frontend::testing
