#include "blockstore/io/task.h"

namespace keelson::io {
namespace {

constexpr std::size_t kClassBytes = 64;
constexpr std::size_t kPooledSizeMax = 4096;
constexpr std::size_t kClassCount = kPooledSizeMax / kClassBytes;

// Under AddressSanitizer every frame is its own heap block, so that a use after free is seen.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPooling = false;
#else
constexpr bool kPooling = true;
#endif

struct FreeFrame {
  FreeFrame* next;
};

// Outlives ThreadFrames during thread exit, when other thread-local objects may still free frames.
thread_local bool thread_frames_gone = false;

struct ThreadFrames {
  std::array<FreeFrame*, kClassCount> heads{};

  ~ThreadFrames() {
    thread_frames_gone = true;
    for (FreeFrame*& head : heads) {
      while (head != nullptr) {
        ::operator delete(std::exchange(head, head->next));
      }
    }
  }
};

thread_local ThreadFrames thread_frames;

constexpr bool Pooled(std::size_t size_bytes) { return kPooling && size_bytes <= kPooledSizeMax; }
constexpr std::size_t ClassOf(std::size_t size_bytes) { return (size_bytes - 1) / kClassBytes; }

}  // namespace

void* FramePool::Take(std::size_t size_bytes) {
  if (!Pooled(size_bytes)) return ::operator new(size_bytes);
  const std::size_t size_class = ClassOf(size_bytes);
  if (!thread_frames_gone) {
    FreeFrame*& head = thread_frames.heads[size_class];
    if (head != nullptr) return std::exchange(head, head->next);
  }
  return ::operator new((size_class + 1) * kClassBytes);
}

void FramePool::Give(void* frame, std::size_t size_bytes) noexcept {
  if (!Pooled(size_bytes) || thread_frames_gone) {
    ::operator delete(frame);
    return;
  }
  FreeFrame*& head = thread_frames.heads[ClassOf(size_bytes)];
  head = new (frame) FreeFrame{head};
}

}  // namespace keelson::io
