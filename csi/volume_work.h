#pragma once
// VolumeWork: runs what may hang. A device whose block store is gone can hold a thread in the
// kernel for as long as it likes, so node operations run on threads of their own: the RPC answers
// at its deadline, and the work goes on and keeps its volume until it ends; whoever repeats the
// call is told ABORTED until then, and finds the work done afterwards. Any thread.

#include <grpcpp/server_context.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"

namespace keelson::csi {

class VolumeWork {
 public:
  VolumeWork();

  // Runs `work` on another thread and waits for it until the caller's deadline (two minutes when it
  // has none) or until the caller is gone. `work` must own all that it uses, or use what lives
  // until WaitIdle has been true. ABORTED: something else is being done under this key, or too much
  // altogether. DEADLINE_EXCEEDED, CANCELLED: it goes on.
  absl::Status Run(const grpc::ServerContext& caller, const std::string& key,
                   std::function<absl::Status()> work);

  // Whether all work has ended, after waiting for it that long at most.
  bool WaitIdle(std::chrono::milliseconds patience);

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace keelson::csi
