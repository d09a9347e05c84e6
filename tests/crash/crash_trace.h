#pragma once
// CrashTrace: everything that reached the "hardware" of one recorded run, in one order: what
// RocksDB did to its files (crash_fs.h) and what the pool did to its data file (crash_file.h), each
// operation when it was submitted and when it completed. A prefix of it is what a power cut leaves
// to reason about (crash_image.h).
//
// Any thread appends (RocksDB has its own); positions are taken and events read when nobody
// appends.

#include <array>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <mutex>
#include <string>
#include <vector>

namespace keelson::crash {

inline constexpr std::size_t kBlockBytes = 4096;
inline constexpr std::size_t kSectorBytes = 512;
using Block = std::array<std::byte, kBlockBytes>;

struct Event {
  enum class Kind : std::uint8_t {
    kCreate,         // `name` now names the new, empty file `file`
    kAppend,         // `bytes` to `file`
    kTruncate,       // `file` to `offset` bytes
    kSyncFile,       // `file` as it is now is durable
    kRename,         // `name` to `name2`
    kDelete,         // `name`
    kSyncDirectory,  // the names as they are now are durable
    kDataWrite,      // operation `file`: `blocks` submitted at block `offset`
    kDataDiscard,    // operation `file`: `count` blocks at block `offset`
    kDataFlush,      // operation `file`
    kDataDone,       // operation `file` completed
  };
  Kind kind = Kind::kCreate;
  std::uint64_t file = 0;  // a file's number, or a data operation's
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
  std::string name{};
  std::string name2{};
  std::string bytes{};
  std::vector<Block> blocks{};
};

class CrashTrace {
 public:
  void Append(Event event) {
    std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  // How many events there are: a moment in the run.
  std::uint64_t position() const {
    std::lock_guard lock(mutex_);
    return events_.size();
  }
  const std::vector<Event>& events() const { return events_; }
  std::uint64_t TakeNumber() {
    std::lock_guard lock(mutex_);
    return next_number_++;
  }

  // To and from a file, so that a failing state can be looked at again: the threads of RocksDB make
  // no two runs alike.
  void Save(std::ostream* out) const;
  bool Load(std::istream* in);

 private:
  mutable std::mutex mutex_;
  std::vector<Event> events_;
  std::uint64_t next_number_ = 1;
};

// Plain values and strings in the machine's own byte order: such a file never leaves the machine.
void SaveU64(std::ostream* out, std::uint64_t value);
std::uint64_t LoadU64(std::istream* in);
void SaveString(std::ostream* out, const std::string& text);
std::string LoadString(std::istream* in);

}  // namespace keelson::crash
