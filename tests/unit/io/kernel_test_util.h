#pragma once
// For the tests of the kernel reactors: a directory where O_DIRECT works, and the two backends.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "blockstore/io/reactor.h"
#include "tests/unit/io/reactor_suite.h"

namespace keelson::io {

// A fresh directory of this process under $TMPDIR or /var/tmp, removed at its end.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base != nullptr ? base : "/var/tmp") + "/keelson-io-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  std::string NewPath() { return path_ + "/" + std::to_string(++count_); }

  static ScratchDirectory& Get() {
    static ScratchDirectory directory;
    return directory;
  }

 private:
  std::string path_;
  int count_ = 0;
};

inline std::unique_ptr<Reactor> MakeKernelReactor(Backend backend) {
  ReactorOptions options;
  options.backend = backend;
  options.queue_depth = 64;  // small, so that tests fill it
  options.buffer_arena_bytes = std::size_t{8} << 20;
  auto reactor = MakeReactor(options);
  EXPECT_TRUE(reactor.ok()) << reactor.status();
  return reactor.ok() ? *std::move(reactor) : nullptr;
}

inline ReactorUnderTest KernelReactorUnderTest(Backend backend) {
  return {backend == Backend::kUring ? "IoUring" : "Libaio",
          [backend] { return MakeKernelReactor(backend); },
          [] { return ScratchDirectory::Get().NewPath(); }};
}

// The io_uring backend is left out, with a note in the output, where the kernel refuses it.
inline std::vector<ReactorUnderTest> KernelReactors() {
  std::vector<ReactorUnderTest> subjects = {KernelReactorUnderTest(Backend::kAio)};
  ReactorOptions options;
  options.backend = Backend::kUring;
  if (auto probe = MakeReactor(options); probe.ok()) {
    subjects.push_back(KernelReactorUnderTest(Backend::kUring));
  } else {
    std::fprintf(stderr, "io_uring is not tested: %s\n", probe.status().ToString().c_str());
  }
  return subjects;
}

}  // namespace keelson::io
