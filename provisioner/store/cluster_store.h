#pragma once
// ClusterStore: where the provisioner's records are kept. A record is bytes under (kind, key), with
// the revision of its last change. A change names the revision that its maker saw and fails when
// that is not the present one any more: there is no other lock between two threads or two
// provisioners. RocksStore keeps records in a directory, MemoryStore in a test.
//
// Owned by the program's main thread; every call may come from any thread. Calls block (RocksStore:
// until the disk has it), so they have no place on a reactor or in a watch's callback.
//
// Keys are 1 to 253 characters of [A-Za-z0-9._-]; values are up to 1 MiB and any bytes. A revision
// is never 0, is unique in the store, rises with every change (a deletion too) and is never used
// again, also after the record or the process is gone.
//
// Errors, besides those named at each call:
//   INVALID_ARGUMENT  a key, a value or a revision is not among those allowed
//   UNAVAILABLE       the store does not answer. A change that ends so may have been made or not:
//                     read again before it is repeated
//   DATA_LOSS         a record is there and cannot be read

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace keelson::provisioner {

// The numbers are on disk: they are never changed or used again.
enum class Kind : std::uint8_t { kVolume = 1, kSnapshot = 2, kGroup = 3, kNode = 4 };
inline constexpr std::array kKinds = {Kind::kVolume, Kind::kSnapshot, Kind::kGroup, Kind::kNode};

inline constexpr std::size_t kKeyBytesMax = 253;
inline constexpr std::size_t kValueBytesMax = std::size_t{1} << 20;

// "volume", "snapshot", "group", "node".
std::string_view KindName(Kind kind);

struct Record {
  std::string key;
  std::string value;
  std::uint64_t revision = 0;
};

// The records of a kind as they were at one moment.
struct Listing {
  std::vector<Record> records;  // by key
  std::uint64_t revision = 0;   // of the store's last change at that moment; 0: there was none
};

struct Change {
  Kind kind = Kind::kVolume;
  std::string key;
  bool present = false;        // false: it was deleted
  std::uint64_t revision = 0;  // of this change
};

class ClusterStore {
 public:
  // Ends the watch when it is destroyed: after that its callback does not run. The destructor waits
  // for a callback that is running, unless it is called by it. It does not outlive the store.
  class Watcher {
   public:
    virtual ~Watcher() = default;
  };

  virtual ~ClusterStore() = default;

  // NOT_FOUND: there is no such record.
  virtual absl::StatusOr<Record> Get(Kind kind, std::string_view key) = 0;

  // All or nothing: DATA_LOSS when one of them cannot be read, so that nobody takes it for absent.
  virtual absl::StatusOr<Listing> List(Kind kind) = 0;

  // Makes the record, or changes it; returns its new revision when it is durable.
  // `expected_revision`: 0, there must be no such record (ALREADY_EXISTS); otherwise the record's
  // present one (ABORTED: it was changed meanwhile; NOT_FOUND: it is gone).
  virtual absl::StatusOr<std::uint64_t> Put(Kind kind, std::string_view key, std::string_view value,
                                            std::uint64_t expected_revision) = 0;

  // Returns when it is durable. ABORTED, NOT_FOUND: as with Put.
  virtual absl::Status Delete(Kind kind, std::string_view key, std::uint64_t expected_revision) = 0;

  // Calls `callback` for every change made after this returned, in the order of their revisions and
  // at least once, after it is durable; also for changes whose maker was told UNAVAILABLE, if they
  // were made. One call at a time, on a thread of the store: it must not block, nor call the store.
  // A watcher that is more than 65,536 changes behind is told only the last one of each record.
  // Whoever needs to know all records watches first and lists then.
  virtual std::unique_ptr<Watcher> Watch(std::function<void(const Change&)> callback) = 0;
};

// What every store checks before it acts.

// INVALID_ARGUMENT, as above.
absl::Status CheckKey(Kind kind, std::string_view key);
absl::Status CheckValue(Kind kind, std::string_view key, std::string_view value);

// Whether a change of the record that now has the revision `present` (nothing: there is none) may
// be made. ALREADY_EXISTS, ABORTED, NOT_FOUND as with Put.
absl::Status CheckPut(Kind kind, std::string_view key, std::optional<std::uint64_t> present,
                      std::uint64_t expected_revision);
// INVALID_ARGUMENT: `expected_revision` is 0. ABORTED, NOT_FOUND as with Delete.
absl::Status CheckDelete(Kind kind, std::string_view key, std::optional<std::uint64_t> present,
                         std::uint64_t expected_revision);

// NOT_FOUND "no volume 'ks-1'".
absl::Status NoSuchRecord(Kind kind, std::string_view key);

}  // namespace keelson::provisioner
