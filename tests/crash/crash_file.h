#pragma once
// CrashFile: a pool's data file in memory, over a DiskImage, that records what is done to it into a
// CrashTrace (or nowhere). Completes through its CrashReactor. The reactor's thread only.

#include <string>
#include <string_view>

#include "blockstore/io/file.h"
#include "tests/crash/crash_image.h"
#include "tests/crash/crash_reactor.h"
#include "tests/crash/crash_trace.h"

namespace keelson::crash {

struct CrashFileOptions {
  CrashTrace* trace = nullptr;  // not null: outlives the file
  bool lies = false;            // flushes complete and do nothing: the checker must notice
};

class CrashFile final : public io::File {
 public:
  // `base`, whose blocks it shares, and `reactor` outlive the file.
  CrashFile(CrashReactor* reactor, const DiskImage& base, CrashFileOptions options)
      : reactor_(reactor), image_(base), options_(options) {}

  void Submit(io::IoOp* op) override;
  std::string_view path() const override { return "/pool/data"; }
  std::uint64_t size_bytes() const override { return image_.block_count() * kBlockBytes; }
  std::uint32_t sector_bytes() const override { return 512; }

  // Puts what it holds now into `image`, which owns it then.
  void CopyTo(DiskImage* image) const;
  // For the reactor.
  void Complete(io::IoOp* op);

 private:
  void Record(io::IoOp* op);

  CrashReactor* reactor_;
  DiskImage image_;
  CrashFileOptions options_;
};

}  // namespace keelson::crash
