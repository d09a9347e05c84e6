#pragma once
// MemberSlot: what an engine knows of one member beside its record in the configuration: the port
// to it and whether a session is open. Legs: one call to several members at once. Owned by Segment;
// its reactor's thread only.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "blockstore/replica/configuration.h"
#include "blockstore/replica/replica_port.h"

namespace keelson::engine {

inline constexpr std::size_t kSlotsMax = 64;  // of one attachment: a bit each in a mask

struct MemberSlot {
  std::size_t index = 0;   // its bit in masks; a slot lives as long as its Segment
  replica::Member member;  // who it is; its state is the configuration's
  std::unique_ptr<replica::ReplicaPort> port;
  bool local = false;

  // Prepared in this epoch and up to date with the configuration, and no call has failed since.
  bool connected = false;
  std::uint64_t session = 0;  // how often it was connected: tells a late failure from a present one
  pool::Uuid incarnation;     // of the session
  replica::ResyncProgress progress;  // as of the session's beginning
  std::string problem;               // why it is not connected; may be empty

  // InSync in the configuration in force or in the one under way: acknowledgements wait for it.
  bool in_sync = false;
  // Syncing, and writes go to it.
  bool catching_up = false;
  // It answered with an error of its own: while InSync it is not taken back before it was Out.
  bool faulty = false;
  bool restarted = false;  // it came back as another incarnation while it was InSync
  bool mute = false;       // one of these two that could not vote in its session, either
  bool removed = false;    // not a member any more

  bool preparing = false;  // by the attach
  bool keeper_running = false;
  bool resync_running = false;
  bool heartbeat_in_flight = false;

  std::set<std::uint32_t> missing_regions;  // still to be copied
  std::string resync_problem;               // why the last try failed; empty: it did not
  std::int64_t resync_pause_ns = 0;         // before the next try, after one that failed
  std::int64_t resync_after_ns = 0;         // not before
  std::uint64_t copied_bytes = 0;           // of the present resync

  std::uint64_t bit() const { return std::uint64_t{1} << index; }
  bool takes_writes() const { return connected && (in_sync || catching_up); }
};

struct Leg {
  MemberSlot* slot = nullptr;
  std::uint64_t session = 0;
  absl::Status status;
  std::int64_t took_ns = 0;  // of a call to several members
};

class Legs {
 public:
  void Add(MemberSlot* slot) { legs_[count_++] = {slot, slot->session, absl::OkStatus(), 0}; }
  std::size_t count() const { return count_; }
  Leg* begin() { return legs_.data(); }
  Leg* end() { return legs_.data() + count_; }

 private:
  std::array<Leg, 2 * replica::kMembersMax> legs_;
  std::size_t count_ = 0;
};

}  // namespace keelson::engine
