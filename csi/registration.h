#pragma once
// Registration: tells the provisioner of this node, at once and every half minute, so that a
// provisioner which lost its records or was away learns of it again. Owns one thread from
// construction to destruction.

#include <condition_variable>
#include <mutex>
#include <thread>

#include "csi/names.h"
#include "proto/keelson/v1/provisioner.grpc.pb.h"

namespace keelson::csi {

class Registration {
 public:
  // `provisioner` outlives this.
  Registration(control::Provisioner::StubInterface* provisioner,
               control::RegisterNodeRequest request);
  // Ends the thread; waits for a call that is under way, some seconds at most.
  ~Registration();

 private:
  void Run();
  // One call. What changes is logged, not every repetition.
  bool Register();

  control::Provisioner::StubInterface& provisioner_;
  const control::RegisterNodeRequest request_;
  bool registered_ = false;  // touched by the thread only
  bool warned_ = false;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace keelson::csi
