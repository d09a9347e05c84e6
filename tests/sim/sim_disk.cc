#include "tests/sim/sim_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

constexpr std::uint64_t kBlock = io::kIoAlignment;
constexpr std::byte kZeroes[kBlock] = {};
constexpr std::uint64_t kTraceSubmit = 100, kTraceComplete = 110, kTraceFlip = 120;

bool Overlap(const io::IoOp& a, const io::IoOp& b) {
  return a.offset < b.offset + b.size_bytes && b.offset < a.offset + a.size_bytes;
}

bool Changes(io::IoOp::Kind kind) {
  return kind == io::IoOp::Kind::kWrite || kind == io::IoOp::Kind::kDiscard;
}

}  // namespace

// A process's open file on a disk. Destroyed by a living process only (world.h).
class SimFile final : public io::File {
 public:
  SimFile(SimDisk* disk, SimReactor* process, bool locked)
      : disk_(disk), process_(process), locked_(locked) {}
  ~SimFile() override {
    for (const auto& in_flight : disk_->in_flight_) {
      KEEL_CHECK(in_flight.op->file != this, "a File dies after its operations completed");
    }
    if (locked_) disk_->locked_by_ = nullptr;
  }
  void Submit(io::IoOp* op) override {
    op->file = this;
    disk_->Submit(process_, op);
  }
  std::string_view path() const override { return disk_->path(); }
  std::uint64_t size_bytes() const override { return disk_->size_bytes(); }
  std::uint32_t sector_bytes() const override { return disk_->sector_bytes_; }

 private:
  SimDisk* disk_;
  SimReactor* process_;
  bool locked_;
};

SimDisk::SimDisk(World* world, std::string path, std::uint64_t size_bytes)
    : world_(world), path_(std::move(path)), size_bytes_(size_bytes) {
  Resize(size_bytes);
}

void SimDisk::Resize(std::uint64_t size_bytes) {
  size_bytes_ = size_bytes;
  durable_.resize(size_bytes / kBlock);
  current_.resize(size_bytes / kBlock);
}

absl::StatusOr<std::unique_ptr<io::File>> SimDisk::Open(SimReactor* process,
                                                        const io::FileOptions& options) {
  if (options.lock && locked_by_ != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, " is open in another process; stop it first"));
  }
  Heal();
  for (auto it = unflushed_.begin(); it != unflushed_.end();) {
    const auto next = std::next(it);
    if (it->doomed) {
      if (world_->random().Coin()) {
        MakeDurable(it);
      } else {
        SIM_PROBE("disk: a write was lost after a failed flush");
        unflushed_.erase(it);
      }
    }
    it = next;
  }
  RebuildCurrent();
  if (options.lock) locked_by_ = process;
  return std::make_unique<SimFile>(this, process, options.lock);
}

void SimDisk::Submit(SimReactor* process, io::IoOp* op) {
  world_->Trace(kTraceSubmit + static_cast<std::uint64_t>(op->kind), op->offset, op->size_bytes);
  if (op->kind == io::IoOp::Kind::kDiscard) {
    largest_discard_bytes_ = std::max<std::uint64_t>(largest_discard_bytes_, op->size_bytes);
  }
  if (Changes(op->kind)) {
    for (const InFlight& other : in_flight_) {
      KEEL_CHECK(!Changes(other.op->kind) || !Overlap(*op, *other.op),
                 "overlapping changes of a file are never in flight together");
    }
  }
  const bool observed = op->kind == io::IoOp::Kind::kWrite || op->kind == io::IoOp::Kind::kDiscard;
  if (observed && on_change_) on_change_(*op);
  in_flight_.push_back({op, process, Validate(*op), completions_, world_->now_ns(), {}, false});
  const auto in_flight = std::prev(in_flight_.end());
  if (in_flight->result == 0) in_flight->result = DrawError(*op);
  if (in_flight->result == 0 && world_->random().Coin()) {
    // The disk acts long before the answer arrives.
    if (Changes(op->kind)) {
      in_flight->effect = TakeEffect(*op, false);
      in_flight->effect_done = true;
    } else if (op->kind == io::IoOp::Kind::kRead) {
      Read(*op);
      in_flight->effect_done = true;
    }
  }
  world_->After(process, DrawLatency(), [this, in_flight] { Complete(in_flight); });
}

int SimDisk::Validate(const io::IoOp& op) const {
  if (op.kind == io::IoOp::Kind::kFlush) return 0;
  const bool aligned = op.offset % kBlock == 0 && op.size_bytes % kBlock == 0;
  if (op.kind == io::IoOp::Kind::kDiscard || op.kind == io::IoOp::Kind::kAllocate) {
    return aligned && op.offset + op.size_bytes <= size_bytes_ ? 0 : -EINVAL;
  }
  if (!aligned || reinterpret_cast<std::uintptr_t>(op.data) % kBlock != 0) return -EINVAL;
  if (op.offset + op.size_bytes <= size_bytes_) return 0;
  return op.kind == io::IoOp::Kind::kRead ? -EIO : -ENOSPC;
}

int SimDisk::DrawError(const io::IoOp& op) {
  Random& random = world_->random();
  const auto draw = [&](double probability, int* sticky) {
    if (*sticky != 0) return *sticky;
    if (!random.Chance(probability)) return 0;
    if (faults_.sticky_errors) *sticky = -EIO;
    return -EIO;
  };
  switch (op.kind) {
    case io::IoOp::Kind::kRead:
      return draw(faults_.read_error, &sticky_read_);
    case io::IoOp::Kind::kFlush:
      return draw(faults_.flush_error, &sticky_flush_);
    case io::IoOp::Kind::kWrite:
    case io::IoOp::Kind::kAllocate:
      if (random.Chance(faults_.write_full) || ExceedsBacking(op)) return -ENOSPC;
      return draw(faults_.write_error, &sticky_write_);
    case io::IoOp::Kind::kDiscard:
      return draw(faults_.write_error, &sticky_write_);
  }
  return 0;
}

std::uint64_t SimDisk::backed_count() const {
  std::uint64_t backed = 0;
  for (const BlockPtr& block : current_) backed += block == nullptr ? 0 : 1;
  return backed;
}

bool SimDisk::ExceedsBacking(const io::IoOp& op) const {
  if (faults_.backing_blocks_max == UINT64_MAX) return false;
  std::uint64_t added = 0;
  for (std::uint64_t i = 0; i < op.size_bytes / kBlock; ++i) {
    added += current_[op.offset / kBlock + i] == nullptr ? 1 : 0;
  }
  // What has a place can always be overwritten.
  return added > 0 && backed_count() + added > faults_.backing_blocks_max;
}

std::int64_t SimDisk::DrawLatency() {
  Random& random = world_->random();
  const auto most = static_cast<std::uint64_t>(faults_.latency_ns_max);
  auto latency = static_cast<std::int64_t>(1 + random.Below(random.Coin() ? most : most / 8 + 1));
  if (random.Chance(faults_.stall)) {
    SIM_PROBE("disk: an operation stalled");
    latency += faults_.stall_ns;
  }
  return latency;
}

void SimDisk::Complete(std::list<InFlight>::iterator in_flight) {
  io::IoOp* const op = in_flight->op;
  world_->Trace(kTraceComplete, op->offset, static_cast<std::uint64_t>(-in_flight->result));
  ++completions_;
  if (op->kind == io::IoOp::Kind::kFlush) {
    CompleteFlush(*in_flight);
  } else if (op->kind == io::IoOp::Kind::kRead) {
    if (in_flight->result == 0 && !in_flight->effect_done) Read(*op);
  } else if (op->kind == io::IoOp::Kind::kAllocate) {
    if (in_flight->result == 0) Allocate(*op);
  } else {
    Random& random = world_->random();
    const bool failed = in_flight->result != 0;
    if (!failed && !in_flight->effect_done) in_flight->effect = TakeEffect(*op, false);
    if (!failed) in_flight->effect->completed_at = completions_;
    if (in_flight->result == -EIO && random.Coin()) {
      TakeEffect(*op, random.Coin())->completed_at = completions_;
    }
  }
  op->result = in_flight->result;
  in_flight_.erase(in_flight);
  op->done(op);
}

void SimDisk::CompleteFlush(const InFlight& in_flight) {
  if (in_flight.result == 0) flushed_at_ns_ = std::max(flushed_at_ns_, in_flight.submitted_ns);
  if (in_flight.result == 0 && faults_.lying_flush) return;
  if (in_flight.result != 0) ++flush_failures_;
  for (auto it = unflushed_.begin(); it != unflushed_.end();) {
    const bool covered = it->completed_at != 0 && it->completed_at <= in_flight.flush_covers;
    if (!covered || it->doomed) {
      ++it;
    } else if (in_flight.result != 0) {
      it->doomed = faults_.lose_after_failed_flush;
      ++it;
    } else {
      const auto flushed = it++;
      MakeDurable(flushed);
    }
  }
}

void SimDisk::MakeDurable(std::list<Unflushed>::iterator unflushed) {
  for (auto& [block, content] : unflushed->blocks) {
    // What an earlier write left there can never come back.
    for (auto earlier = unflushed_.begin(); earlier != unflushed; ++earlier) {
      std::erase_if(earlier->blocks, [b = block](const auto& entry) { return entry.first == b; });
    }
    durable_[block] = std::move(content);
  }
  unflushed_.erase(unflushed);
}

std::span<const std::byte> SimDisk::Bytes(const BlockPtr& block) {
  return block == nullptr ? std::span(kZeroes) : std::span(block->bytes);
}

std::span<const std::byte> SimDisk::Current(std::uint64_t block) const {
  return Bytes(current_[block]);
}

std::span<const std::byte> SimDisk::Durable(std::uint64_t block) const {
  return Bytes(durable_[block]);
}

void SimDisk::Read(const io::IoOp& op) const {
  for (std::uint64_t i = 0; i < op.size_bytes / kBlock; ++i) {
    std::memcpy(op.data + i * kBlock, Current(op.offset / kBlock + i).data(), kBlock);
  }
}

// Blocks without backing get some; what they contain stays as it is: zeroes.
void SimDisk::Allocate(const io::IoOp& op) {
  if (faults_.backing_blocks_max == UINT64_MAX) return;
  const auto zeroes = std::make_shared<const Block>();
  for (std::uint64_t i = 0; i < op.size_bytes / kBlock; ++i) {
    const std::uint64_t block = op.offset / kBlock + i;
    if (current_[block] == nullptr) current_[block] = zeroes;
    if (durable_[block] == nullptr) durable_[block] = zeroes;
  }
}

std::list<SimDisk::Unflushed>::iterator SimDisk::TakeEffect(const io::IoOp& op, bool torn) {
  Unflushed unflushed;
  const bool write = op.kind == io::IoOp::Kind::kWrite;
  // A device may ignore a discard, or a part of it.
  const double ignored = write ? 0 : 0.3;
  for (std::uint64_t i = 0; i < op.size_bytes / kBlock; ++i) {
    if (world_->random().Chance(ignored)) continue;
    const std::uint64_t block = op.offset / kBlock + i;
    BlockPtr content;
    if (write) {
      auto copy = std::make_shared<Block>();
      std::memcpy(copy->bytes, op.data + i * kBlock, kBlock);
      content = std::move(copy);
    }
    if (torn) content = Torn(current_[block], content);
    current_[block] = content;
    unflushed.blocks.emplace_back(block, std::move(content));
  }
  unflushed_.push_back(std::move(unflushed));
  return std::prev(unflushed_.end());
}

SimDisk::BlockPtr SimDisk::Torn(const BlockPtr& before, const BlockPtr& after) {
  auto mixed = std::make_shared<Block>();
  const std::uint64_t kept = world_->random().Next();
  for (std::size_t sector = 0; sector < kBlock / kSectorBytes; ++sector) {
    const std::byte* const from = Bytes((kept >> sector) & 1 ? after : before).data();
    std::memcpy(mixed->bytes + sector * kSectorBytes, from + sector * kSectorBytes, kSectorBytes);
  }
  return mixed;
}

void SimDisk::ProcessDied(SimReactor* process) {
  Random& random = world_->random();
  for (auto it = in_flight_.begin(); it != in_flight_.end();) {
    if (it->process != process) {
      ++it;
      continue;
    }
    if (it->effect_done && Changes(it->op->kind)) {
      it->effect->completed_at = ++completions_;
    } else if (it->result == 0 && Changes(it->op->kind) && random.Coin()) {
      const bool torn = random.Chance(faults_.torn);
      if (torn) SIM_PROBE("disk: a write in flight was torn by its process's death");
      TakeEffect(*it->op, torn)->completed_at = ++completions_;
    }
    it = in_flight_.erase(it);
  }
  if (locked_by_ == process) locked_by_ = nullptr;
}

void SimDisk::PowerCut() {
  for (Unflushed& unflushed : unflushed_) {
    Settle(&unflushed, unflushed.doomed ? 0.5 : faults_.survives_cut, faults_.torn);
  }
  unflushed_.clear();
  current_ = durable_;
}

void SimDisk::Settle(Unflushed* unflushed, double survives, double torn) {
  Random& random = world_->random();
  // A large write is not one sector: its blocks may fare differently.
  const bool split = random.Chance(torn);
  bool kept = random.Chance(survives);
  for (auto& [block, content] : unflushed->blocks) {
    if (split) kept = random.Chance(survives);
    if (random.Chance(torn)) {
      SIM_PROBE("disk: an un-flushed write was torn by a power cut");
      durable_[block] = Torn(durable_[block], content);
    } else if (kept) {
      SIM_PROBE("disk: an un-flushed write survived a power cut");
      durable_[block] = std::move(content);
    } else {
      SIM_PROBE("disk: an un-flushed write was lost by a power cut");
    }
  }
}

void SimDisk::Forgive() {
  for (Unflushed& unflushed : unflushed_) unflushed.doomed = false;
}

void SimDisk::RebuildCurrent() {
  current_ = durable_;
  for (const Unflushed& unflushed : unflushed_) {
    for (const auto& [block, content] : unflushed.blocks) current_[block] = content;
  }
}

void SimDisk::FlipBit(std::uint64_t block, std::uint32_t bit) {
  world_->Trace(kTraceFlip, block, bit);
  const auto flip = [bit](BlockPtr* content) {
    auto copy = std::make_shared<Block>();
    std::memcpy(copy->bytes, Bytes(*content).data(), kBlock);
    copy->bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    *content = std::move(copy);
  };
  flip(&durable_[block]);
  for (Unflushed& unflushed : unflushed_) {
    for (auto& [other, content] : unflushed.blocks) {
      if (other == block) flip(&content);
    }
  }
  flip(&current_[block]);
}

}  // namespace keelson::sim
