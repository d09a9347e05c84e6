#include "blockstore/frontend/nbd_reply_writer.h"

#include <span>
#include <utility>

#include "absl/status/status.h"

namespace keelson::frontend {

void NbdReplyWriter::Queue::Append(NbdRequest* request) {
  request->next = nullptr;
  if (tail == nullptr) {
    head = request;
  } else {
    tail->next = request;
  }
  tail = request;
}

NbdRequest* NbdReplyWriter::Queue::Pop() {
  NbdRequest* request = head;
  if (request == nullptr) return nullptr;
  head = request->next;
  if (head == nullptr) tail = nullptr;
  return request;
}

void NbdReplyWriter::Push(NbdRequest* request) {
  if (broken_) {
    requests_->Release(request);
    return;
  }
  (request->reply_is_continued ? continued_ : ready_).Append(request);
  work_.Unpark();
}

void NbdReplyWriter::Finish() {
  finished_ = true;
  work_.Unpark();
}

void NbdReplyWriter::Fail() {
  if (broken_) return;
  broken_ = true;
  work_.Unpark();
  requests_->Wake();
  stream_->Shutdown();
}

std::size_t NbdReplyWriter::Gather() {
  std::size_t parts = 0;
  std::size_t size_bytes = 0;
  while (parts + 2 <= parts_.size() && size_bytes < kBytesPerWrite) {
    NbdRequest* request = (unfinished_ ? continued_ : ready_).Pop();
    if (request == nullptr) break;
    batch_.Append(request);
    unfinished_ = request->reply_is_unfinished;
    if (request->reply_header_bytes > 0) {
      parts_[parts++] = {request->reply_header.data(), request->reply_header_bytes};
    }
    if (!request->reply_payload.empty()) {
      // const_cast: iovec serves both directions; a write only reads from it.
      parts_[parts++] = {const_cast<std::byte*>(request->reply_payload.data()),
                         request->reply_payload.size()};
    }
    size_bytes += request->reply_header_bytes + request->reply_payload.size();
  }
  return parts;
}

void NbdReplyWriter::Complete(Queue* queue) {
  while (NbdRequest* request = queue->Pop()) {
    if (request->sent) {
      std::exchange(request->sent, nullptr).resume();
    } else {
      requests_->Release(request);
    }
  }
}

io::Task<void> NbdReplyWriter::Run() {
  while (true) {
    if (broken_) {
      Complete(&ready_);
      Complete(&continued_);
    }
    const std::size_t parts = Gather();
    if (parts == 0) {
      if (finished_) co_return;
      co_await work_.Park();
      continue;
    }
    const std::span<iovec> to_send(parts_.data(), parts);
    const std::int64_t deadline_ns = reactor_->NowNanos() + send_timeout_ns_;
    const absl::Status status = co_await stream_->WriteAll(to_send, deadline_ns);
    if (!status.ok()) {
      stalled_ = stalled_ || absl::IsDeadlineExceeded(status);
      Fail();
    }
    Complete(&batch_);
  }
}

}  // namespace keelson::frontend
