#include "blockstore/engine/frame_writer.h"

#include <span>

namespace keelson::engine {

void FrameWriter::Queue::Append(OutFrame* frame) {
  frame->next = nullptr;
  (tail == nullptr ? head : tail->next) = frame;
  tail = frame;
}

OutFrame* FrameWriter::Queue::Pop() {
  OutFrame* const frame = head;
  if (frame == nullptr) return nullptr;
  head = frame->next;
  if (head == nullptr) tail = nullptr;
  return frame;
}

void FrameWriter::Push(OutFrame* frame) {
  frame->queued = true;
  ready_.Append(frame);
  if (aborted_) {
    Return(&ready_);
  } else {
    work_.Unpark();
  }
}

void FrameWriter::PushFirst(OutFrame* frame) {
  if (ready_.head == nullptr || aborted_) return Push(frame);
  frame->queued = true;
  frame->next = ready_.head;
  ready_.head = frame;
}

void FrameWriter::Finish(std::int64_t timeout_ns) {
  finished_ = true;
  timeout_ns_ = timeout_ns;
  work_.Unpark();
}

void FrameWriter::Abort() {
  aborted_ = true;
  work_.Unpark();
}

std::size_t FrameWriter::Gather() {
  std::size_t parts = 0;
  std::size_t size_bytes = 0;
  const auto add = [&](const void* data, std::size_t bytes) {
    // const_cast: iovec serves both directions; a write only reads from it.
    if (bytes > 0) parts_[parts++] = {const_cast<void*>(data), bytes};
  };
  while (parts + kPartsPerFrame <= parts_.size() && size_bytes < kBytesPerWrite) {
    OutFrame* const frame = ready_.Pop();
    if (frame == nullptr) break;
    batch_.Append(frame);
    frame->started = true;
    const wire::EncodedFrame& encoded = frame->encoded;
    add(encoded.head.data(), encoded.head_bytes);
    add(encoded.body.data(), encoded.body.size());
    add(encoded.data.data(), encoded.data.size());
    size_bytes += encoded.size_bytes();
  }
  return parts;
}

void FrameWriter::Return(Queue* queue) {
  while (OutFrame* const frame = queue->Pop()) {
    frame->queued = false;
    returned_(owner_, frame);
  }
}

std::int64_t FrameWriter::WriteDeadline() const {
  return timeout_ns_ == io::kNoDeadline ? io::kNoDeadline : reactor_->NowNanos() + timeout_ns_;
}

io::Task<absl::Status> FrameWriter::Run() {
  absl::Status status;
  while (!aborted_) {
    const std::size_t parts = Gather();
    if (parts == 0) {
      if (finished_) break;
      co_await work_.Park();
      continue;
    }
    const std::span<iovec> to_send(parts_.data(), parts);
    writing_ = true;
    status = co_await stream_->WriteAll(to_send, WriteDeadline());
    writing_ = false;
    Return(&batch_);
    if (!status.ok()) break;
  }
  aborted_ = true;
  Return(&ready_);
  co_return status;
}

}  // namespace keelson::engine
