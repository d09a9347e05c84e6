#include "tests/crash/crash_image.h"

#include <algorithm>
#include <cstring>

namespace keelson::crash {
namespace {

constexpr unsigned kAllSectors = (1u << (kBlockBytes / kSectorBytes)) - 1;
const Block kZeroBlock{};

}  // namespace

void DiskImage::Store(std::uint64_t index, const std::byte* from) {
  Block& block = own_.emplace_back();
  std::memcpy(block.data(), from, kBlockBytes);
  blocks_[index] = &block;
}

void DiskImage::StoreSectors(std::uint64_t index, const Block& from, unsigned sectors) {
  if (sectors == 0) return;
  const Block* old = blocks_[index] == nullptr ? &kZeroBlock : blocks_[index];
  Block& block = own_.emplace_back(*old);
  for (std::size_t sector = 0; sector < kBlockBytes / kSectorBytes; ++sector) {
    if ((sectors >> sector & 1) == 0) continue;
    std::memcpy(block.data() + sector * kSectorBytes, from.data() + sector * kSectorBytes,
                kSectorBytes);
  }
  blocks_[index] = &block;
}

const char* CutName(CutKind kind) {
  switch (kind) {
    case CutKind::kLost:
      return "lost";
    case CutKind::kKept:
      return "kept";
    case CutKind::kRandom:
      return "random";
    case CutKind::kKilled:
      return "killed";
  }
  return "?";
}

ImageBuilder::ImageBuilder(const CrashTrace* trace, const DiskImage& disk, const FsImage& files)
    : trace_(trace), durable_disk_(disk) {
  std::uint64_t number = kFirstOldFile;
  for (const auto& [name, content] : files) {
    files_[number] = {content, content.size()};
    durable_names_[name] = number++;
  }
  names_ = durable_names_;
}

void ImageBuilder::ApplyName(std::map<std::string, std::uint64_t>* names,
                             const Event& event) const {
  switch (event.kind) {
    case Event::Kind::kCreate:
      (*names)[event.name] = event.file;
      return;
    case Event::Kind::kRename: {
      // The event says which file moved: the name itself may be one whose creation was lost.
      (*names)[event.name2] = event.file;
      const auto from = names->find(event.name);
      if (from != names->end() && from->second == event.file) names->erase(from);
      return;
    }
    case Event::Kind::kDelete: {
      const auto found = names->find(event.name);
      if (found != names->end() && found->second == event.file) names->erase(found);
      return;
    }
    default:
      return;
  }
}

bool ImageBuilder::Advance() {
  if (position_ == trace_->events().size()) return false;
  const Event& event = trace_->events()[position_++];
  durable_changed_ = false;
  switch (event.kind) {
    case Event::Kind::kCreate:
      files_[event.file];
      [[fallthrough]];
    case Event::Kind::kRename:
    case Event::Kind::kDelete:
      ApplyName(&names_, event);
      name_changes_.push_back(&event);
      break;
    case Event::Kind::kAppend:
      files_[event.file].content += event.bytes;
      break;
    case Event::Kind::kTruncate: {
      File& file = files_[event.file];
      file.content.resize(event.offset);
      file.durable_bytes = std::min(file.durable_bytes, file.content.size());
      break;
    }
    case Event::Kind::kSyncFile: {
      File& file = files_[event.file];
      durable_changed_ = file.durable_bytes != file.content.size();
      file.durable_bytes = file.content.size();
      break;
    }
    case Event::Kind::kSyncDirectory:
      durable_changed_ = !name_changes_.empty();
      durable_names_ = names_;
      name_changes_.clear();
      break;
    case Event::Kind::kDataWrite:
    case Event::Kind::kDataDiscard:
      data_ops_[event.file] = {&event, false, {}};
      break;
    case Event::Kind::kDataFlush: {
      DataOp flush{&event, false, {}};
      for (const auto& [number, op] : data_ops_) {
        if (op.completed) flush.covers.push_back(number);
      }
      data_ops_[event.file] = std::move(flush);
      break;
    }
    case Event::Kind::kDataDone:
      CompleteData(event.file);
      break;
  }
  return true;
}

void ImageBuilder::CompleteData(std::uint64_t number) {
  const auto found = data_ops_.find(number);
  if (found->second.event->kind != Event::Kind::kDataFlush) {
    found->second.completed = true;
    return;
  }
  for (std::uint64_t covered : found->second.covers) {
    const auto op = data_ops_.find(covered);
    if (op == data_ops_.end()) continue;  // another flush was first
    ApplyData(&durable_disk_, *op->second.event);
    data_ops_.erase(op);
    durable_changed_ = true;
  }
  data_ops_.erase(found);
}

void ImageBuilder::ApplyData(DiskImage* disk, const Event& event) const {
  if (event.kind == Event::Kind::kDataDiscard) {
    for (std::uint64_t i = 0; i < event.count; ++i) disk->Zero(event.offset + i);
    return;
  }
  for (std::size_t i = 0; i < event.blocks.size(); ++i) {
    disk->Refer(event.offset + i, &event.blocks[i]);
  }
}

void ImageBuilder::ApplyTorn(DiskImage* disk, const Event& event, sim::Random* random) const {
  const std::uint64_t fate = random->Below(4);  // not at all, all of it, or torn
  if (fate == 0) return;
  if (fate == 1) {
    ApplyData(disk, event);
    return;
  }
  const bool discard = event.kind == Event::Kind::kDataDiscard;
  const std::uint64_t count = discard ? event.count : event.blocks.size();
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto sectors = static_cast<unsigned>(random->Below(kAllSectors + 1));
    disk->StoreSectors(event.offset + i, discard ? kZeroBlock : event.blocks[i], sectors);
  }
}

CrashState ImageBuilder::Cut(CutKind kind, sim::Random* random) const {
  CrashState state(durable_disk_);
  for (const auto& [number, op] : data_ops_) {
    if (op.event->kind == Event::Kind::kDataFlush || kind == CutKind::kLost) continue;
    if (kind == CutKind::kKept || (kind == CutKind::kKilled && op.completed)) {
      ApplyData(&state.disk, *op.event);
    } else {
      ApplyTorn(&state.disk, *op.event, random);
    }
  }

  std::map<std::string, std::uint64_t> names =
      kind == CutKind::kLost || kind == CutKind::kRandom ? durable_names_ : names_;
  if (kind == CutKind::kRandom) {
    const std::uint64_t kept = random->Below(name_changes_.size() + 1);
    for (std::uint64_t i = 0; i < kept; ++i) ApplyName(&names, *name_changes_[i]);
  }
  for (const auto& [name, number] : names) {
    const File& file = files_.at(number);
    std::size_t size = file.content.size();
    if (kind == CutKind::kLost) size = file.durable_bytes;
    if (kind == CutKind::kRandom) {
      const std::uint64_t fate = random->Below(3);
      if (fate == 0) size = file.durable_bytes;
      if (fate == 1) size = random->Between(file.durable_bytes, file.content.size());
    }
    state.files[name] = file.content.substr(0, size);
  }
  return state;
}

}  // namespace keelson::crash
