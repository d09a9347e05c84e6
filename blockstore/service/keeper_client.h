#pragma once
// KeeperClient: the daemon's side of keelson-fuse-keeper. Starts one when something is to be kept
// and none is there, notices when it dies, and then gives everything to a new one: what is kept is
// also held here. Owned by LoopFrontend; any thread but a reactor's: the calls block, for seconds
// at most. Has a thread that watches.

#include <sys/types.h>

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/service/keeper/keeper_messages.h"

namespace keelson::service {

class KeeperClient {
 public:
  struct Kept {
    std::string note;
    Descriptor descriptor;
  };

  // `run_directory` has the socket; `program` is keelson-fuse-keeper.
  KeeperClient(const std::string& run_directory, std::string program);
  ~KeeperClient();  // the keeper goes on

  // What an earlier daemon has left with it; nothing when no keeper is there. Called first, once.
  absl::StatusOr<std::map<std::string, Kept>> Fetch();
  // Gives a duplicate of `descriptor`, in place of what it has of that name.
  absl::Status Keep(const std::string& name, const std::string& note, const Descriptor& descriptor);
  absl::Status Drop(const std::string& name);
  // Why what is kept would not outlive this process now; empty: it would.
  std::string problem() const;

 private:
  void NoteProblem(std::string problem);

  // REQUIRES, all of them: mutex_ is held.
  absl::Status Connect(bool start);
  absl::Status ConnectOrStart();
  absl::Status Ask(const KeeperMessage& message, int fd);
  absl::Status AskPatiently(const KeeperMessage& message, int fd);
  void Disconnect();
  // What has come to its end by itself is not kept any more: a keeper would let go of it at once.
  void ForgetDead();
  void ReapEnded(std::chrono::milliseconds patience);

  void Watch();
  void OnWatched();

  const std::string socket_path_;
  const std::string log_path_;
  const std::string program_;

  mutable std::mutex mutex_;
  std::map<std::string, Kept> kept_;
  Descriptor connection_;
  Descriptor watched_;  // a second connection, on which nothing is ever said
  pid_t started_ = -1;  // by this process, and not reaped
  bool stopping_ = false;

  mutable std::mutex problem_mutex_;  // its own: nobody waits for a keeper to ask for it
  std::string problem_;

  Descriptor wake_;  // an eventfd, for the thread
  std::thread thread_;
};

}  // namespace keelson::service
