#pragma once
// One NBD request in flight, the pool that bounds how many (and how many buffer bytes) a connection
// may have, and the check that every request passes before anything is done for it.
// Owned by one session; its reactor's thread only. Nodes are allocated up to the bound as they are
// first needed and reused after that: the steady state allocates nothing.

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "blockstore/frontend/nbd_codec.h"
#include "blockstore/frontend/nbd_protocol.h"
#include "blockstore/io/buffer_pool.h"
#include "blockstore/io/parking.h"
#include "blockstore/io/reactor.h"

namespace keelson::frontend {

struct NbdRequest {
  NbdRequestHeader header;
  io::Buffer buffer;                 // what is read into or sent from; goes back with the request
  std::size_t charged_bytes = 0;     // against the connection's limit, for its buffers
  std::uint32_t pieces_pending = 0;  // of a write: device writes and the receipt of its payload
  nbd::Error error = nbd::Error::kNone;  // of a write: the first that failed

  // The reply, or the part of it that is ready; the reply writer's while it is queued.
  NbdReplyHeader reply_header;
  std::size_t reply_header_bytes = 0;
  std::span<const std::byte> reply_payload;
  bool reply_is_unfinished =
      false;  // more bytes of this very reply follow: nothing may come between
  bool reply_is_continued = false;  // these are such bytes
  std::coroutine_handle<> sent;     // resumed when it has left; without one the request is released
  NbdRequest* next = nullptr;
};

class NbdRequestPool {
 public:
  NbdRequestPool(io::Reactor* reactor, std::uint32_t count_max, std::size_t bytes_max)
      : count_max_(count_max), bytes_max_(bytes_max), changed_(reactor) {}

  bool HasNode() const { return in_flight_ < count_max_; }
  // One request may always hold its buffer, however low the limit.
  bool HasBytes(std::size_t size_bytes) const {
    return held_bytes_ == 0 || held_bytes_ + ChargeOf(size_bytes) <= bytes_max_;
  }
  // REQUIRES: HasNode().
  NbdRequest* Take(const NbdRequestHeader& header);
  // Frees the request's buffer and charge, too.
  void Release(NbdRequest* request);

  // Counts a buffer of `size_bytes` that `request` takes, until it gives it back or is released.
  void Charge(NbdRequest* request, std::size_t size_bytes);
  void Uncharge(NbdRequest* request, std::size_t size_bytes);

  std::uint32_t in_flight() const { return in_flight_; }
  // For the session's reader alone: something was released, or Wake was called.
  auto Changed() { return changed_.Park(); }
  void Wake() { changed_.Unpark(); }

 private:
  // A buffer occupies a whole buffer of its size class.
  static std::size_t ChargeOf(std::size_t size_bytes);

  const std::uint32_t count_max_;
  const std::size_t bytes_max_;
  std::uint32_t in_flight_ = 0;
  std::size_t held_bytes_ = 0;
  std::vector<std::unique_ptr<NbdRequest>> nodes_;
  NbdRequest* free_ = nullptr;
  io::Parking changed_;
};

// What a request is judged by.
struct NbdRequestRules {
  std::uint64_t size_bytes = 0;
  bool read_only = false;
  bool structured_replies = false;
  bool block_status = false;
};

// The error that answers `request` without anything being done, or kNone.
nbd::Error CheckNbdRequest(const NbdRequestHeader& request, const NbdRequestRules& rules);

// The protocol's error for a failed device call.
nbd::Error NbdErrorOf(const absl::Status& status);

}  // namespace keelson::frontend
