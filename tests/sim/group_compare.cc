// GroupHarness: the copies of a volume that is detached, compared byte by byte with each other and
// with what the clients were told, in the head and in every snapshot.

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

using Content = std::vector<std::byte>;

const Content& Zeroes() {
  static const Content* const zeroes = new Content(kModelBlockBytes);
  return *zeroes;
}

}  // namespace

// Every layer from the oldest on: what one adds, removes or leaves as it was below it.
io::Task<absl::Status> GroupHarness::ReadLayers(replica::ReplicaPort* port, MemberImage* image,
                                                std::uint64_t extents) {
  std::vector<pool::SnapshotId> layers;
  for (const replica::ConfiguredSnapshot& snapshot : image->configuration.snapshots) {
    layers.push_back(snapshot.id);
  }
  layers.emplace_back();
  pool::HeaderBlock buffer(pool::kExtentBytes);
  Image view;
  for (const pool::SnapshotId& layer : layers) {
    for (std::uint64_t extent = 0; extent < extents; ++extent) {
      const auto index = static_cast<std::uint32_t>(extent);
      absl::StatusOr<replica::ExtentContent> content =
          co_await port->ReadCopy(layer, index, buffer.span(), io::kNoDeadline);
      if (absl::IsDataLoss(content.status())) image->rotten = true;
      if (absl::IsDataLoss(content.status())) continue;
      if (!content.ok()) co_return content.status();
      std::size_t position = 0;
      for (std::uint32_t i = 0; i < pool::kBlocksPerExtent; ++i) {
        const std::uint64_t block = extent * pool::kBlocksPerExtent + i;
        if (content->zeroed.Test(i)) view.erase(block);
        if (!content->data.Test(i)) continue;
        const std::span<std::byte> bytes = buffer.span().subspan(position, kModelBlockBytes);
        position += kModelBlockBytes;
        view.erase(block);
        if (std::memcmp(bytes.data(), Zeroes().data(), kModelBlockBytes) == 0) continue;
        view[block] = std::make_shared<const Content>(bytes.begin(), bytes.end());
      }
    }
    image->layers[layer] = view;
  }
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<GroupHarness::MemberImage>> GroupHarness::ReadMember(GroupNode* node,
                                                                             replica::Member member,
                                                                             pool::Epoch epoch) {
  absl::StatusOr<std::unique_ptr<replica::ReplicaPort>> opened =
      node->OpenPort(member.pool, member.replica);
  if (!opened.ok()) co_return opened.status();
  std::unique_ptr<replica::ReplicaPort> port = *std::move(opened);
  absl::StatusOr<replica::PrepareAnswer> answer = co_await port->Prepare(epoch, io::kNoDeadline);
  absl::Status status = answer.status();
  MemberImage image;
  if (status.ok() && !answer->configuration.has_value()) {
    status = absl::DataLossError("a member has no readable record");
  }
  if (status.ok()) {
    image.configuration = *answer->configuration;
    const std::uint64_t bytes = image.configuration.size_bytes;
    status = co_await ReadLayers(port.get(), &image,
                                 (bytes + pool::kExtentBytes - 1) / pool::kExtentBytes);
  }
  co_await port->Close();
  if (!status.ok()) co_return status;
  co_return image;
}

void GroupHarness::CompareCopies() {
  const replica::Configuration last = *watch_.in_force();
  pool::Epoch epoch;
  epoch.attachment = next_attachment_++;
  std::optional<MemberImage> first;
  for (const replica::Member& member : last.members) {
    if (member.witness || member.pool == lost_pool_) continue;
    GroupNode* const node = NodeOf(member.pool);
    auto read = world_.RunTask(ReadMember(node, member, epoch));
    if (!read.has_value() || !read->ok()) {
      return Fail(absl::StrCat("a copy cannot be read on ", node->name(), ": ",
                               read.has_value() ? read->status().ToString() : "hangs"));
    }
    MemberImage image = **std::move(read);
    if (image.rotten) {
      if (node == liar_) continue;  // nobody has read there yet; the next reader repairs it
      return Fail(absl::StrCat("checksum-of-its-generation: ", node->name(),
                               " reports a mismatch though nothing rotted there"));
    }
    CheckImage(member, image);
    if (Failed()) return;
    // What the disk that lied has lost, another copy may have, and no note says so.
    if (volume_.contents_unknown()) continue;
    if (!first.has_value()) {
      first = std::move(image);
      continue;
    }
    for (const auto& [layer, blocks] : first->layers) {
      const Image& other = image.layers[layer];
      const bool equal =
          blocks.size() == other.size() &&
          std::equal(blocks.begin(), blocks.end(), other.begin(), [](const auto& a, const auto& b) {
            return a.first == b.first && *a.second == *b.second;
          });
      if (equal) continue;
      return Fail(absl::StrCat("clean-is-equal: ", node->name(), " differs from another copy in ",
                               layer.is_nil() ? "the head" : "a snapshot"));
    }
  }
}

// One copy against what the clients know.
void GroupHarness::CheckImage(const replica::Member& member, const MemberImage& image) {
  const std::string who = absl::StrCat(" (copy on ", NodeOf(member.pool)->name(), ")");
  const auto head = image.layers.find(pool::SnapshotId());
  std::map<std::uint64_t, std::span<const std::byte>> shown;
  for (const auto& [block, history] : volume_.blocks()) shown[block] = Zeroes();
  for (const auto& [block, content] : head->second) shown[block] = *content;
  for (const auto& [block, bytes] : shown) {
    const std::uint64_t began = watch_.Tick();
    const std::string wrong = volume_.CheckRead(block, bytes, began, watch_.Tick());
    if (!wrong.empty()) return Fail(absl::StrCat(wrong, who));
  }
  CheckSnapshots(image);
}

void GroupHarness::CheckSnapshots(const MemberImage& image) {
  for (const replica::ConfiguredSnapshot& snapshot : image.configuration.snapshots) {
    const auto known = volume_.snapshots().find(snapshot.id);
    if (known == volume_.snapshots().end() || known->second.ended == 0 || !snapshot.complete) {
      return Fail(absl::StrCat("snapshot-is-a-cut: snapshot ", snapshot.name,
                               " is there though it was deleted, or never completed"));
    }
    const Image& blocks = image.layers.at(snapshot.id);
    std::map<std::uint64_t, std::span<const std::byte>> shown;
    for (const auto& [block, history] : known->second.blocks) shown[block] = Zeroes();
    for (const auto& [block, content] : blocks) shown[block] = *content;
    for (const auto& [block, bytes] : shown) {
      const std::string wrong = volume_.CheckSnapshot(&known->second, block, bytes);
      if (!wrong.empty()) return Fail(wrong);
    }
    SIM_PROBE("group: a snapshot was compared with what it must be");
  }
  for (const auto& [id, snapshot] : volume_.snapshots()) {
    const bool there =
        std::any_of(image.configuration.snapshots.begin(), image.configuration.snapshots.end(),
                    [&id = id](const auto& found) { return found.id == id; });
    if (snapshot.state == GroupSnapshot::State::kComplete && !snapshot.deleting && !there) {
      return Fail(absl::StrCat("snapshot-is-a-cut: snapshot ", snapshot.name, " is lost"));
    }
  }
}

}  // namespace keelson::sim
