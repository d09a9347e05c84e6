#include "tests/crash/crash_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

namespace keelson::crash {

void CrashFile::Submit(io::IoOp* op) {
  op->file = this;
  op->moved_bytes = 0;
  if (options_.trace != nullptr) Record(op);
  reactor_->QueueIo(op);
}

void CrashFile::Record(io::IoOp* op) {
  Event event;
  switch (op->kind) {
    case io::IoOp::Kind::kRead:
    case io::IoOp::Kind::kAllocate:  // changes no byte
      return;
    case io::IoOp::Kind::kWrite:
      event.kind = Event::Kind::kDataWrite;
      event.blocks.resize(op->size_bytes / kBlockBytes);
      std::memcpy(event.blocks.data(), op->data, op->size_bytes);
      break;
    case io::IoOp::Kind::kDiscard:
      event.kind = Event::Kind::kDataDiscard;
      event.count = op->size_bytes / kBlockBytes;
      break;
    case io::IoOp::Kind::kFlush:
      if (options_.lies) return;
      event.kind = Event::Kind::kDataFlush;
      break;
  }
  event.offset = op->offset / kBlockBytes;
  event.file = options_.trace->TakeNumber();
  op->moved_bytes = static_cast<std::uint32_t>(event.file);  // the backend's field: our number
  options_.trace->Append(std::move(event));
}

void CrashFile::Complete(io::IoOp* op) {
  const std::uint64_t first = op->offset / kBlockBytes;
  const std::uint64_t count = op->size_bytes / kBlockBytes;
  op->result = first + count > image_.block_count() ? -EIO : 0;
  for (std::uint64_t i = 0; op->result == 0 && i < count; ++i) {
    std::byte* data = op->data == nullptr ? nullptr : op->data + i * kBlockBytes;
    if (op->kind == io::IoOp::Kind::kWrite) {
      image_.Store(first + i, data);
    } else if (op->kind == io::IoOp::Kind::kDiscard) {
      image_.Zero(first + i);
    } else if (op->kind == io::IoOp::Kind::kAllocate) {
      continue;
    } else if (const Block* block = image_.Get(first + i); block != nullptr) {
      std::memcpy(data, block->data(), kBlockBytes);
    } else {
      std::memset(data, 0, kBlockBytes);
    }
  }
  if (op->moved_bytes != 0) {
    options_.trace->Append({.kind = Event::Kind::kDataDone, .file = op->moved_bytes});
  }
  op->done(op);
}

void CrashFile::CopyTo(DiskImage* image) const {
  for (std::uint64_t i = 0; i < image_.block_count(); ++i) {
    if (image_.Get(i) != nullptr) image->Store(i, image_.Get(i)->data());
  }
}

}  // namespace keelson::crash
