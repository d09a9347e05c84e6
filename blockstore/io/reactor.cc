#include "blockstore/io/reactor.h"

#include "blockstore/io/aio_reactor.h"
#include "blockstore/io/log.h"
#include "blockstore/io/uring_reactor.h"

namespace keelson::io {

absl::StatusOr<std::unique_ptr<Readiness>> Reactor::WatchReadable(int /*fd*/) {
  return absl::UnimplementedError("this reactor has no descriptors");
}

absl::StatusOr<std::unique_ptr<Reactor>> MakeReactor(const ReactorOptions& options) {
  if (options.backend == Backend::kAio) return AioReactor::Make(options);
  absl::StatusOr<std::unique_ptr<Reactor>> uring = UringReactor::Make(options);
  if (options.backend == Backend::kUring) return uring;
  if (uring.ok()) {
    KEEL_LOG_INFO("event=reactor_backend backend=io_uring");
    return uring;
  }
  KEEL_LOG_INFO("event=reactor_backend backend=libaio reason=\"{}\"", uring.status().ToString());
  return AioReactor::Make(options);
}

}  // namespace keelson::io
