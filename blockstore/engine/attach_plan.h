#pragma once
// AttachPlan: the decisions of an attach (R1, R2, R3, R9, R14, R15; docs/protocol.md "Attach" and
// "Force") as a value that a test can step: it is told what the members answered and when, and says
// whom to prepare next and whether a first configuration may be written. It does no I/O and reads
// no clock.
//
// Owned by one attach of a segment's engine; one thread; copyable. Times are nanoseconds of one
// boot-time clock and never go back. The engine sends Prepare to every member of ToPrepare, tells
// the outcome, asks Decide after each and when the time it named has come, and, once it is kReady,
// has the first configuration accepted (ballot.h) before it serves.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "blockstore/engine/segment_engine.h"
#include "blockstore/pool/ids.h"
#include "blockstore/replica/configuration.h"
#include "blockstore/replica/replica_port.h"

namespace keelson::engine {

struct AttachDecision {
  enum class Kind {
    kWait,     // nothing before until_ns, unless a member answers
    kFenced,   // a higher epoch is promised: this engine never serves. `status` is ABORTED
    kRefused,  // as things stand it fails, and time alone changes nothing; a later answer may
    kReady,    // `first` is to be accepted by a majority
  };
  Kind kind = Kind::kWait;
  std::int64_t until_ns = 0;
  // Of kFenced, and of kRefused: FAILED_PRECONDITION when no member has this segment, when it has
  // two histories, or when it cannot be forced; UNAVAILABLE when a majority, an InSync member or
  // the replica to go on from is missing. It names who did not answer.
  absl::Status status;
  std::optional<replica::Configuration> first;
  // R3: every InSync member of `first` restarted. Acknowledged writes that were not flushed may be
  // gone, so a device that was served by an earlier epoch of the same attachment ends in errors.
  bool restarted = false;
};

class AttachPlan {
 public:
  // Of `options` the grace and the member wait are used.
  AttachPlan(const SegmentHint& hint, const pool::Epoch& epoch, std::int64_t now_ns,
             const SegmentOptions& options);

  // The outcome of a Prepare, or later the end of the session that it opened. `member` is one of
  // ToPrepare's.
  void OnAnswer(const replica::Member& member, const replica::PrepareAnswer& answer,
                std::int64_t now_ns);
  void OnFailure(const replica::Member& member, const absl::Status& status);

  // The members without an open session: of the hint, of every configuration seen and of their
  // predecessors. Those that failed are among them: ask again after a pause.
  std::vector<replica::Member> ToPrepare() const;

  AttachDecision Decide(std::int64_t now_ns) const;

 private:
  struct Peer {
    replica::Member member;  // with the address to use
    std::int64_t named_ns = 0;
    // Set by the first answer with a readable record of this segment: from then on the member has
    // promised the epoch, durably.
    std::optional<std::int64_t> promised_ns;
    bool votes = false;           // and that record names the member
    pool::Uuid incarnation;       // of that answer
    bool open = false;            // its session is
    bool without_record = false;  // it answered, but it has nothing of this segment to vote with
    std::optional<replica::Configuration> record;  // of the last answer that had one
    std::string problem;                           // why it has no session, or no vote
  };

  Peer* Find(const replica::Member& member);
  const Peer* Find(const replica::Member& member) const;
  void Learn(const std::vector<replica::Member>& members, std::int64_t now_ns);
  bool NamesThisSegment(const replica::Configuration& configuration) const;

  AttachDecision DecideByMajority(std::int64_t now_ns) const;
  AttachDecision DecideByForce(std::int64_t now_ns) const;
  const Peer* ForcedPeer() const;
  // Why the replica cannot be gone on from whoever answers; empty when it can.
  std::string CannotForceFrom(const Peer& peer) const;
  AttachDecision Forced(const Peer& peer) const;
  AttachDecision Refused(absl::Status status) const;
  // The last history that was seen or heard of.
  pool::Epoch LastHistory() const;
  // A sentence about a record that went on in an older history beside the last one; empty: none.
  std::string OtherHistory() const;
  std::int64_t MembersWaitEnds() const;  // for those that may still answer

  // Whether it has a vote on the highest configuration, which is of the same history.
  bool Votes(const Peer* peer) const;
  // When the votes for `members` became a majority of them; empty while they are none.
  std::optional<std::int64_t> MajorityAt(const std::vector<replica::Member>& members) const;
  bool EveryoneAnswered() const;
  // When the wait for the InSync members that may still answer ends; 0 when there are none.
  std::int64_t PatienceEnds() const;
  AttachDecision WithoutQuorum(std::int64_t now_ns, const std::string& missing) const;
  AttachDecision WithoutRecord(std::int64_t now_ns) const;
  AttachDecision Ready() const;
  std::string Silent() const;  // a sentence about those that did not answer or do not vote

  // The members of the highest configuration that may serve as a source: by R3 those that did not
  // restart, if one answered, else those that did.
  bool IsInSyncVoter(const replica::Member& member) const;
  bool Restarted(const replica::Member& member) const;
  bool AnyInSyncKeptItsMemory() const;
  bool IsSource(const replica::Member& member) const;

  pool::VolumeId volume_;
  std::uint32_t segment_;
  pool::ReplicaId force_from_;
  pool::Epoch epoch_;
  std::int64_t grace_ns_;
  std::int64_t member_wait_ns_;
  std::vector<Peer> peers_;
  std::optional<replica::Configuration> highest_;
  absl::Status fenced_;
};

}  // namespace keelson::engine
