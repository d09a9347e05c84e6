#include "tests/unit/csi/fake_cluster.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/rpc/status_map.h"

namespace keelson::csi {
namespace {

using control::CreateVolumeRequest;
using control::GroupSnapshot;
using control::Publication;
using control::PublishVolumeRequest;
using control::PublishVolumeResponse;

constexpr std::uint64_t kDefaultBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kLargestBytes = std::uint64_t{1} << 40;
constexpr std::uint64_t kBlockBytes = 4096;
constexpr int kPageRanges = 3;
constexpr std::int64_t kCutAtNs = 1'700'000'000'000'000'000;

bool Knows(const std::string& key, std::initializer_list<const char*> keys) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

absl::Status CheckMutable(const google::protobuf::Map<std::string, std::string>& parameters) {
  for (const auto& [key, value] : parameters) {
    std::uint64_t number = 0;
    if (!Knows(key, {"iops", "bandwidth"}) || !absl::SimpleAtoi(value, &number)) {
      return absl::InvalidArgumentError(absl::StrCat("parameter '", key, "' is not known"));
    }
  }
  return absl::OkStatus();
}

// The entries of a map from `token` on, `max` of them, and the token of the next.
template <class Value, class Wanted, class Take>
absl::Status Page(const std::map<std::string, Value>& all, const std::string& token,
                  std::uint32_t max, Wanted wanted, Take take, std::string* next) {
  if (!token.empty() && all.count(token) == 0) {
    return absl::AbortedError("starting_token is not one of ours; start again without it");
  }
  std::uint32_t count = 0;
  for (auto it = token.empty() ? all.begin() : all.find(token); it != all.end(); ++it) {
    if (!wanted(it->second)) continue;
    if (max != 0 && count == max) {
      *next = it->first;
      return absl::OkStatus();
    }
    take(it->second);
    ++count;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Disks::Make(const std::string&, std::uint64_t, const std::string&) {
  return absl::OkStatus();
}
absl::Status Disks::Grow(const std::string&, std::uint64_t) { return absl::OkStatus(); }
void Disks::Delete(const std::string&) {}
absl::StatusOr<std::string> Disks::Attach(const std::string& id, bool) {
  return absl::StrCat("/dev/", id);
}
absl::Status Disks::Detach(const std::string&) { return absl::OkStatus(); }

void FakeCluster::Refuse(const std::string& method, absl::Status status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  refusals_[method] = std::move(status);
}

void FakeCluster::RefuseAfter(const std::string& method, std::size_t calls, absl::Status status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  spare_[method] = calls;
  refusals_[method] = std::move(status);
}

void FakeCluster::Change(const std::string& volume_id,
                         const std::function<void(control::Volume*)>& edit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  edit(&volumes_.at(volume_id).volume);
}

void FakeCluster::ChangeStatus(const std::string& volume_id,
                               std::function<void(store::GetVolumeStatusResponse*)> edit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  volumes_.at(volume_id).status_edit = std::move(edit);
}

std::string FakeCluster::Last(const std::string& method) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return last_[method];
}

void FakeCluster::SetBlocks(const std::string& base_id, const std::string& snapshot_id,
                            std::vector<control::BlockRange> ranges) {
  const std::lock_guard<std::mutex> lock(mutex_);
  blocks_[{base_id, snapshot_id}] = std::move(ranges);
}

std::size_t FakeCluster::CountOf(const std::string& method) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return counts_[method];
}

std::size_t FakeCluster::volume_count() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return volumes_.size();
}

absl::Status FakeCluster::Begin(const std::string& method,
                                const google::protobuf::Message& request) {
  last_[method] = request.ShortDebugString();
  ++counts_[method];
  const auto found = refusals_.find(method);
  if (found == refusals_.end()) return absl::OkStatus();
  if (spare_[method] > 0) {
    --spare_[method];
    return absl::OkStatus();
  }
  const absl::Status status = found->second;
  refusals_.erase(found);
  return status;
}

absl::StatusOr<FakeCluster::Volume*> FakeCluster::Find(const std::string& volume_id) {
  const auto found = volumes_.find(volume_id);
  if (found == volumes_.end()) {
    return absl::NotFoundError(absl::StrCat("there is no volume ", volume_id));
  }
  return &found->second;
}

absl::StatusOr<std::uint64_t> FakeCluster::SizeFor(const CreateVolumeRequest& request) {
  std::uint64_t least = 0;
  if (!request.source_snapshot_id().empty()) {
    const auto found = snapshots_.find(request.source_snapshot_id());
    if (found == snapshots_.end()) return absl::NotFoundError("there is no such snapshot");
    least = found->second.size_bytes();
  } else if (!request.source_volume_id().empty()) {
    const auto found = volumes_.find(request.source_volume_id());
    if (found == volumes_.end()) return absl::NotFoundError("there is no such source volume");
    least = found->second.volume.capacity_bytes();
  }
  std::uint64_t size = request.required_bytes();
  if (size == 0) {
    size = least != 0 ? least : kDefaultBytes;
    if (request.limit_bytes() != 0) size = std::min(size, request.limit_bytes());
  }
  if (size < least || size > kLargestBytes) return absl::OutOfRangeError("a size that cannot be");
  return size;
}

// Each method: the lock, what was injected, the body.
#define FAKE_METHOD(name, ...)                                                    \
  grpc::Status FakeCluster::name(Context*, const control::name##Request* request, \
                                 control::name##Response* response) {             \
    const std::lock_guard<std::mutex> lock(mutex_);                               \
    absl::Status status = Begin(#name, *request);                                 \
    static_cast<void>(response);                                                  \
    if (status.ok()) status = [&]() -> absl::Status { __VA_ARGS__ }();            \
    return rpc::ToGrpcStatus(status);                                             \
  }

FAKE_METHOD(CreateVolume, { return Create(*request, response->mutable_volume()); })

absl::Status FakeCluster::Create(const CreateVolumeRequest& request, control::Volume* made) {
  for (const auto& [key, value] : request.parameters()) {
    if (!Knows(key, {"replicas", "iops", "bandwidth", "frontend"})) {
      return absl::InvalidArgumentError(absl::StrCat("parameter '", key, "' is not known"));
    }
  }
  if (absl::Status status = CheckMutable(request.mutable_parameters()); !status.ok()) return status;
  CreateVolumeRequest rest = request;
  rest.clear_required_bytes();
  rest.clear_limit_bytes();
  const std::string fingerprint = rest.ShortDebugString();
  for (const auto& [id, volume] : volumes_) {
    if (volume.volume.name() != request.name()) continue;
    const std::uint64_t size = volume.volume.capacity_bytes();
    if (volume.fingerprint != fingerprint || size < request.required_bytes() ||
        (request.limit_bytes() != 0 && size > request.limit_bytes())) {
      return absl::AlreadyExistsError("the name is taken by another volume");
    }
    *made = volume.volume;
    return absl::OkStatus();
  }
  const absl::StatusOr<std::uint64_t> size = SizeFor(request);
  if (!size.ok()) return size.status();
  Volume volume;
  volume.fingerprint = fingerprint;
  volume.volume.set_id(absl::StrCat("ks-", next_++));
  volume.volume.set_name(request.name());
  volume.volume.set_capacity_bytes(*size);
  volume.volume.set_source_snapshot_id(request.source_snapshot_id());
  volume.volume.set_source_volume_id(request.source_volume_id());
  volume.volume.set_ready(true);
  if (absl::Status status =
          disks_.Make(volume.volume.id(), *size,
                      absl::StrCat(request.source_snapshot_id(), request.source_volume_id()));
      !status.ok()) {
    return status;
  }
  *made = volume.volume;
  volumes_[made->id()] = std::move(volume);
  return absl::OkStatus();
}

FAKE_METHOD(DeleteVolume, {
  const auto found = volumes_.find(request->volume_id());
  if (found == volumes_.end()) return absl::OkStatus();
  if (!found->second.volume.publications().empty()) {
    return absl::FailedPreconditionError("the volume is published");
  }
  disks_.Delete(found->first);
  volumes_.erase(found);
  return absl::OkStatus();
})

FAKE_METHOD(GetVolume, {
  const auto found = Find(request->volume_id());
  if (found.ok()) *response->mutable_volume() = (*found)->volume;
  return found.status();
})

FAKE_METHOD(ListVolumes, {
  return Page(
      volumes_, request->starting_token(), request->max_entries(),
      [](const Volume&) { return true; },
      [&](const Volume& volume) { *response->add_volumes() = volume.volume; },
      response->mutable_next_token());
})

FAKE_METHOD(ValidateVolume, { return Find(request->volume_id()).status(); })

FAKE_METHOD(PublishVolume, { return Publish(*request, response); })

absl::Status FakeCluster::Publish(const PublishVolumeRequest& request,
                                  PublishVolumeResponse* response) {
  const absl::StatusOr<Volume*> found = Find(request.volume_id());
  if (!found.ok()) return found.status();
  if (nodes_.count(request.node()) == 0) return absl::NotFoundError("there is no such node");
  Volume& volume = **found;
  const bool reader = request.capability().access_mode() == control::SINGLE_NODE_READER_ONLY ||
                      request.capability().access_mode() == control::MULTI_NODE_READER_ONLY;
  const bool read_only = request.read_only() || reader;
  if (volume.volume.publications().empty()) {
    const std::uint32_t most = nodes_[request.node()].volumes_max();
    const auto there = std::count_if(volumes_.begin(), volumes_.end(), [&](const auto& each) {
      const auto& publications = each.second.volume.publications();
      return !publications.empty() && publications[0].node() == request.node();
    });
    if (most != 0 && there >= most) return absl::ResourceExhaustedError("the node has enough");
    Publication& publication = *volume.volume.add_publications();
    publication.set_node(request.node());
    *publication.mutable_capability() = request.capability();
    publication.set_read_only(request.read_only());
    publication.set_attached(true);
    absl::StatusOr<std::string> device = disks_.Attach(request.volume_id(), read_only);
    if (!device.ok()) return device.status();
    volume.device = *device;
    ++volume.attachment;
  }
  const Publication& there = volume.volume.publications(0);
  if (there.node() != request.node()) {
    return absl::FailedPreconditionError(absl::StrCat("published on node ", there.node()));
  }
  if (there.read_only() != request.read_only() ||
      there.capability().ShortDebugString() != request.capability().ShortDebugString()) {
    return absl::AlreadyExistsError("published there otherwise");
  }
  (*response->mutable_publish_context())["keelson.io/attachment"] = absl::StrCat(volume.attachment);
  (*response->mutable_publish_context())["keelson.io/read-only"] = read_only ? "true" : "false";
  return absl::OkStatus();
}

absl::Status FakeCluster::Detach(Volume* volume, const std::string& node) {
  if (volume->volume.publications().empty()) return absl::OkStatus();
  if (!node.empty() && volume->volume.publications(0).node() != node) return absl::OkStatus();
  if (absl::Status status = disks_.Detach(volume->volume.id()); !status.ok()) return status;
  volume->volume.clear_publications();
  volume->device.clear();
  return absl::OkStatus();
}

FAKE_METHOD(UnpublishVolume, {
  const auto found = Find(request->volume_id());
  if (!found.ok()) return found.status();
  return Detach(*found, request->node());
})

FAKE_METHOD(ExpandVolume, {
  const auto found = Find(request->volume_id());
  if (!found.ok()) return found.status();
  control::Volume& volume = (*found)->volume;
  if (request->required_bytes() > kLargestBytes) return absl::OutOfRangeError("too large");
  if (request->required_bytes() > volume.capacity_bytes()) {
    if (absl::Status grown = disks_.Grow(volume.id(), request->required_bytes()); !grown.ok()) {
      return grown;
    }
    volume.set_capacity_bytes(request->required_bytes());
  }
  response->set_capacity_bytes(volume.capacity_bytes());
  return absl::OkStatus();
})

FAKE_METHOD(ModifyVolume, {
  const auto found = Find(request->volume_id());
  if (!found.ok()) return found.status();
  return CheckMutable(request->mutable_parameters());
})

FAKE_METHOD(GetCapacity, {
  response->set_available_bytes(kLargestBytes);
  response->set_largest_volume_bytes(kLargestBytes / 2);
  return absl::OkStatus();
})

absl::Status FakeCluster::Cut(const std::string& name, const std::string& source,
                              const std::string& group, control::Snapshot* cut) {
  for (const auto& [id, snapshot] : snapshots_) {
    if (snapshot.name() != name) continue;
    if (snapshot.source_volume_id() != source) {
      return absl::AlreadyExistsError("the name is taken by a snapshot of another volume");
    }
    *cut = snapshot;
    return absl::OkStatus();
  }
  const absl::StatusOr<Volume*> found = Find(source);
  if (!found.ok()) return found.status();
  cut->set_id(absl::StrCat("kss-", next_++));
  cut->set_name(name);
  cut->set_source_volume_id(source);
  cut->set_size_bytes((*found)->volume.capacity_bytes());
  cut->set_created_unix_ns(kCutAtNs);
  cut->set_ready(true);
  cut->set_group_snapshot_id(group);
  if (absl::Status status = disks_.Make(cut->id(), cut->size_bytes(), source); !status.ok()) {
    return status;
  }
  snapshots_[cut->id()] = *cut;
  return absl::OkStatus();
}

FAKE_METHOD(CreateSnapshot, {
  return Cut(request->name(), request->source_volume_id(), "", response->mutable_snapshot());
})

FAKE_METHOD(DeleteSnapshot, {
  const auto found = snapshots_.find(request->snapshot_id());
  if (found == snapshots_.end()) return absl::OkStatus();
  if (!found->second.group_snapshot_id().empty()) {
    return absl::InvalidArgumentError("the snapshot belongs to a group");
  }
  disks_.Delete(found->first);
  snapshots_.erase(found);
  return absl::OkStatus();
})

FAKE_METHOD(ListSnapshots, {
  return Page(
      snapshots_, request->starting_token(), request->max_entries(),
      [&](const control::Snapshot& snapshot) {
        return (request->snapshot_id().empty() || snapshot.id() == request->snapshot_id()) &&
               (request->source_volume_id().empty() ||
                snapshot.source_volume_id() == request->source_volume_id());
      },
      [&](const control::Snapshot& snapshot) { *response->add_snapshots() = snapshot; },
      response->mutable_next_token());
})

FAKE_METHOD(ListSnapshotBlocks, { return ListBlocks(*request, response); })

absl::Status FakeCluster::ListBlocks(const control::ListSnapshotBlocksRequest& request,
                                     control::ListSnapshotBlocksResponse* response) {
  const auto found = snapshots_.find(request.snapshot_id());
  if (found == snapshots_.end()) return absl::NotFoundError("there is no such snapshot");
  const std::uint64_t size_bytes = found->second.size_bytes();
  if (!request.base_snapshot_id().empty()) {
    const auto base = snapshots_.find(request.base_snapshot_id());
    if (base == snapshots_.end()) return absl::NotFoundError("there is no such base");
    if (base->second.source_volume_id() != found->second.source_volume_id()) {
      return absl::InvalidArgumentError("they are of two volumes");
    }
  }
  if (request.from_offset() > size_bytes) return absl::OutOfRangeError("beyond the end");
  response->set_volume_size_bytes(size_bytes);
  const std::uint64_t from = request.from_offset() / kBlockBytes * kBlockBytes;
  for (const control::BlockRange& range :
       blocks_[{request.base_snapshot_id(), request.snapshot_id()}]) {
    const std::uint64_t end = range.offset() + range.size_bytes();
    if (end <= from) continue;
    control::BlockRange* const listed = response->add_ranges();
    listed->set_offset(std::max(range.offset(), from));
    listed->set_size_bytes(end - listed->offset());
    response->set_next_offset(end);
    if (response->ranges_size() == kPageRanges) return absl::OkStatus();
  }
  response->set_next_offset(size_bytes);
  return absl::OkStatus();
}

FAKE_METHOD(CreateGroupSnapshot, {
  for (const auto& [id, group] : groups_) {
    if (group.name() != request->name()) continue;
    *response->mutable_group() = group;
    return absl::OkStatus();
  }
  GroupSnapshot group;
  group.set_id(absl::StrCat("ksg-", next_++));
  group.set_name(request->name());
  group.set_created_unix_ns(kCutAtNs);
  group.set_ready(true);
  for (const std::string& source : request->source_volume_ids()) {
    const std::string name = absl::StrCat(group.id(), "-", source);
    if (absl::Status cut = Cut(name, source, group.id(), group.add_snapshots()); !cut.ok()) {
      return cut;
    }
  }
  *response->mutable_group() = group;
  groups_[group.id()] = std::move(group);
  return absl::OkStatus();
})

namespace {

// INVALID_ARGUMENT: some are asked for, and they are not the group's.
absl::Status CheckMembers(const GroupSnapshot& group,
                          const google::protobuf::RepeatedPtrField<std::string>& ids) {
  std::set<std::string> members;
  for (const control::Snapshot& snapshot : group.snapshots()) members.insert(snapshot.id());
  if (ids.empty() || std::set<std::string>(ids.begin(), ids.end()) == members) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("snapshot_ids are not those of the group");
}

}  // namespace

FAKE_METHOD(GetGroupSnapshot, {
  const auto found = groups_.find(request->group_snapshot_id());
  if (found == groups_.end()) return absl::NotFoundError("there is no such group");
  *response->mutable_group() = found->second;
  return CheckMembers(found->second, request->snapshot_ids());
})

FAKE_METHOD(DeleteGroupSnapshot, {
  const auto found = groups_.find(request->group_snapshot_id());
  if (found == groups_.end()) return absl::OkStatus();
  if (absl::Status right = CheckMembers(found->second, request->snapshot_ids()); !right.ok()) {
    return right;
  }
  for (const control::Snapshot& snapshot : found->second.snapshots()) {
    disks_.Delete(snapshot.id());
    snapshots_.erase(snapshot.id());
  }
  groups_.erase(found);
  return absl::OkStatus();
})

FAKE_METHOD(RegisterNode, {
  control::Node& node = nodes_[request->name()];
  node.set_name(request->name());
  node.set_address(request->address());
  *node.mutable_topology() = request->topology();
  node.set_volumes_max(request->volumes_max());
  return absl::OkStatus();
})

FAKE_METHOD(ListNodes, {
  for (const auto& [name, node] : nodes_) *response->add_nodes() = node;
  return absl::OkStatus();
})

grpc::Status FakeCluster::BlockStore::GetVolumeStatus(grpc::ServerContext*,
                                                      const store::GetVolumeStatusRequest* request,
                                                      store::GetVolumeStatusResponse* response) {
  const std::lock_guard<std::mutex> lock(cluster_.mutex_);
  absl::Status status = cluster_.Begin("GetVolumeStatus", *request);
  const auto found = cluster_.volumes_.find(request->name());
  if (status.ok() && (found == cluster_.volumes_.end() || found->second.device.empty())) {
    status = absl::NotFoundError("not attached here");
  }
  if (!status.ok()) return rpc::ToGrpcStatus(status);
  const Volume& volume = found->second;
  response->set_name(request->name());
  response->set_attached(true);
  response->set_read_only(volume.volume.publications(0).read_only());
  response->set_size_bytes(volume.volume.capacity_bytes());
  response->set_attachment(volume.attachment);
  response->set_device(volume.device);
  if (volume.status_edit) volume.status_edit(response);
  return grpc::Status::OK;
}

grpc::Status FakeCluster::BlockStore::GetNode(grpc::ServerContext*,
                                              const store::GetNodeRequest* request,
                                              store::GetNodeResponse*) {
  const std::lock_guard<std::mutex> lock(cluster_.mutex_);
  return rpc::ToGrpcStatus(cluster_.Begin("GetNode", *request));
}

}  // namespace keelson::csi
