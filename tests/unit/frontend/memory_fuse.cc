#include "tests/unit/frontend/memory_fuse.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "blockstore/io/check.h"

namespace keelson::frontend::testing {

class MemoryFuseChannel final : public FuseChannel {
 public:
  explicit MemoryFuseChannel(MemoryFuse* kernel) : kernel_(kernel) {}

  int Receive(std::span<const iovec> parts) override {
    if (!kernel_->failures_.empty()) {
      const int error = kernel_->failures_.front();
      kernel_->failures_.pop_front();
      return -error;
    }
    if (kernel_->gone_) return -ENODEV;
    if (kernel_->requests_.empty()) return -EAGAIN;
    const std::string request = std::move(kernel_->requests_.front());
    kernel_->requests_.pop_front();
    std::size_t at = 0;
    for (const iovec& part : parts) {
      const std::size_t size_bytes = std::min(part.iov_len, request.size() - at);
      std::memcpy(part.iov_base, request.data() + at, size_bytes);
      at += size_bytes;
    }
    KEEL_CHECK(at == request.size(), "there is room for every request the kernel may send");
    return static_cast<int>(at);
  }

  int Send(std::span<const iovec> parts) override {
    if (kernel_->gone_) return -ENODEV;
    std::string bytes;
    for (const iovec& part : parts) {
      bytes.append(static_cast<const char*>(part.iov_base), part.iov_len);
    }
    fuse_out_header header;
    KEEL_CHECK(bytes.size() >= sizeof(header), "an answer has a header");
    std::memcpy(&header, bytes.data(), sizeof(header));
    KEEL_CHECK(header.len == bytes.size(), "an answer is as long as it says");
    kernel_->answers_.push_back({header.unique, header.error, bytes.substr(sizeof(header))});
    return 0;
  }

  io::Task<bool> WaitReadable() override {
    while (!kernel_->cancelled_ && !kernel_->gone_ && kernel_->requests_.empty() &&
           kernel_->failures_.empty()) {
      co_await kernel_->arrived_.Park();
    }
    co_return !std::exchange(kernel_->cancelled_, false);
  }

  void Cancel() override {
    kernel_->cancelled_ = true;
    kernel_->Arrive();
  }

 private:
  MemoryFuse* kernel_;
};

std::unique_ptr<FuseChannel> MemoryFuse::MakeChannel() {
  return std::make_unique<MemoryFuseChannel>(this);
}

void MemoryFuse::SendRaw(std::string bytes) {
  requests_.push_back(std::move(bytes));
  Arrive();
}

void MemoryFuse::Send(std::uint32_t opcode, std::uint64_t unique, std::string_view arguments) {
  fuse_in_header header = {};
  header.len = static_cast<std::uint32_t>(sizeof(header) + arguments.size());
  header.opcode = opcode;
  header.unique = unique;
  header.nodeid = fuse::kRootNode;
  std::string bytes(BytesOf(header));
  bytes.append(arguments);
  SendRaw(std::move(bytes));
}

void MemoryFuse::SendInit(std::uint64_t unique, std::uint32_t minor, bool resends) {
  fuse_init_in init = {};
  init.major = fuse::kMajor;
  init.minor = minor;
  init.flags = FUSE_ASYNC_READ | FUSE_INIT_EXT;
  init.flags2 = resends ? fuse::kFlags2HasResend : 0;
  Send(FUSE_INIT, unique, BytesOf(init));
}

void MemoryFuse::SendRead(std::uint64_t unique, std::uint64_t offset, std::uint32_t size_bytes) {
  fuse_read_in read = {};
  read.offset = offset;
  read.size = size_bytes;
  Send(FUSE_READ, unique, BytesOf(read));
}

void MemoryFuse::SendWrite(std::uint64_t unique, std::uint64_t offset, std::string_view data,
                           std::uint32_t flags) {
  fuse_write_in write = {};
  write.offset = offset;
  write.size = static_cast<std::uint32_t>(data.size());
  write.flags = flags;
  std::string arguments(BytesOf(write));
  arguments.append(data);
  Send(FUSE_WRITE, unique, arguments);
}

void MemoryFuse::SendFallocate(std::uint64_t unique, std::uint32_t mode, std::uint64_t offset,
                               std::uint64_t size_bytes) {
  fuse_fallocate_in fallocate = {};
  fallocate.offset = offset;
  fallocate.length = size_bytes;
  fallocate.mode = mode;
  Send(FUSE_FALLOCATE, unique, BytesOf(fallocate));
}

const FuseAnswer* MemoryFuse::AnswerTo(std::uint64_t unique) const {
  const auto found = std::find_if(answers_.begin(), answers_.end(),
                                  [unique](const FuseAnswer& a) { return a.unique == unique; });
  return found == answers_.end() ? nullptr : &*found;
}

}  // namespace keelson::frontend::testing
