#pragma once
// Rebuilds: whose turn it is to get a new copy. A copy that is filled loads disks and network that
// others use, so only so many are filled at once in the cluster, and those first that have the
// fewest copies left. Copies that come back after an absence are not counted: they are brought up
// to date by their engines, which bound that by themselves.
//
// Nothing is kept across a restart: who wants one asks again and again, and who does not ask any
// more is forgotten. Any thread.

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace keelson::provisioner {

class Rebuilds {
 public:
  explicit Rebuilds(std::size_t max) : max_(max) {}

  // Wants a copy filled; to be asked again and again. `copies`: what is left of good ones. True: it
  // is its turn, and stays so until Done, or until nothing is heard of it for kForgottenNanos.
  // Never at the first time, so that whoever has fewer copies can be heard of.
  bool MayRun(const std::string& key, int copies, std::int64_t now_ns);
  // The copy is being filled. No effect when it is not this one's turn.
  void Renew(const std::string& key, std::int64_t now_ns);
  // It wants none any more. No effect when it wanted none.
  void Done(const std::string& key);
  std::size_t running() const;

  static constexpr std::int64_t kForgottenNanos = 120'000'000'000;
  static constexpr std::int64_t kHearNanos = 1'000'000'000;

 private:
  struct Wish {
    bool runs = false;
    int copies = 0;
    std::int64_t since_ns = 0;
    std::int64_t asked_ns = 0;
  };

  const std::size_t max_;
  mutable std::mutex mutex_;
  std::map<std::string, Wish> wishes_;
};

}  // namespace keelson::provisioner
