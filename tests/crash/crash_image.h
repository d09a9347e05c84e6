#pragma once
// What is on the hardware at one moment: DiskImage (the data file) and FsImage (RocksDB's
// directory), and ImageBuilder, which walks a trace and says what a cut at the point reached may
// leave behind.
//
// The model of the hardware. Data file: a completed flush makes durable the writes that completed
// before it was submitted; of any other write, each 512-byte sector may be there or not. RocksDB's
// files: appended bytes are durable after a sync of the file, of the rest any prefix may be there.
// Creations, renames and removals are durable after a sync of the directory; of those since then,
// the first few may be there: file systems keep their order (ext4, XFS and btrfs journal it), and
// RocksDB needs it, for CURRENT must not name a MANIFEST that is not there. One thread.

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "tests/crash/crash_trace.h"
#include "tests/sim/random.h"

namespace keelson::crash {

// Blocks of a data file; most are zero or shared with the trace. Copies own only what they change.
class DiskImage {
 public:
  explicit DiskImage(std::uint64_t block_count) : blocks_(block_count, nullptr) {}
  // A copy shares the blocks of `other`, which must outlive it.
  DiskImage(const DiskImage& other) : blocks_(other.blocks_) {}
  DiskImage& operator=(const DiskImage&) = delete;

  std::uint64_t block_count() const { return blocks_.size(); }
  // nullptr: zeroes.
  const Block* Get(std::uint64_t index) const { return blocks_[index]; }
  // Refers to `block`, which must outlive this image and its copies.
  void Refer(std::uint64_t index, const Block* block) { blocks_[index] = block; }
  void Zero(std::uint64_t index) { blocks_[index] = nullptr; }
  void Store(std::uint64_t index, const std::byte* from);
  // Replaces only the sectors whose bit is set in `sectors`.
  void StoreSectors(std::uint64_t index, const Block& from, unsigned sectors);

 private:
  std::vector<const Block*> blocks_;
  std::deque<Block> own_;
};

using FsImage = std::map<std::string, std::string>;  // path -> content
// Files that a run begins with are numbered from here, in the order of their paths.
inline constexpr std::uint64_t kFirstOldFile = std::uint64_t{1} << 32;

enum class CutKind : std::uint8_t {
  kLost,    // power cut: nothing that was not made durable is there
  kKept,    // power cut: everything is there
  kRandom,  // power cut: some of it, torn
  kKilled,  // the process died: everything that completed is there, of what was in flight some
};
const char* CutName(CutKind kind);

struct CrashState {
  explicit CrashState(const DiskImage& base) : disk(base) {}
  DiskImage disk;
  FsImage files;
};

class ImageBuilder {
 public:
  // `trace`, `disk` and `files` (the state before the first event) outlive the builder.
  ImageBuilder(const CrashTrace* trace, const DiskImage& disk, const FsImage& files);

  // Applies the next event. False at the end.
  bool Advance();
  std::uint64_t position() const { return position_; }
  // What the last Advance may have changed: the durable state, or only what is not durable yet.
  bool durable_changed() const { return durable_changed_; }

  CrashState Cut(CutKind kind, sim::Random* random) const;

 private:
  struct File {
    std::string content;
    std::size_t durable_bytes = 0;
  };
  struct DataOp {
    const Event* event;
    bool completed = false;
    std::vector<std::uint64_t> covers;
  };

  void ApplyName(std::map<std::string, std::uint64_t>* names, const Event& event) const;
  void CompleteData(std::uint64_t number);
  void ApplyData(DiskImage* disk, const Event& event) const;
  void ApplyTorn(DiskImage* disk, const Event& event, sim::Random* random) const;

  const CrashTrace* trace_;
  std::uint64_t position_ = 0;
  bool durable_changed_ = false;

  DiskImage durable_disk_;
  std::map<std::uint64_t, DataOp> data_ops_;  // not durable yet, in the order of submission

  std::map<std::uint64_t, File> files_;
  std::map<std::string, std::uint64_t> durable_names_;
  std::map<std::string, std::uint64_t> names_;
  std::vector<const Event*> name_changes_;  // since the last sync of the directory
};

}  // namespace keelson::crash
