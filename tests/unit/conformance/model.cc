#include "tests/unit/conformance/model.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/unit/conformance/world.h"

namespace keelson::csi {
namespace {

using grpc::StatusCode;

constexpr std::int64_t kBlock = 4096;
constexpr std::int64_t kSmallest = std::int64_t{1} << 20;
constexpr std::int64_t kDefault = std::int64_t{10} << 30;

Answer Code(StatusCode code) {
  Answer answer;
  answer.code = code;
  return answer;
}
Answer Ok() { return Code(StatusCode::OK); }

bool IsReader(Mode::Mode mode) {
  return mode == Mode::SINGLE_NODE_READER_ONLY || mode == Mode::MULTI_NODE_READER_ONLY;
}

// The size for a capacity range, or why there is none. 0 is not given.
StatusCode SizeFor(std::int64_t required, std::int64_t limit, std::int64_t otherwise,
                   std::int64_t* size) {
  if (limit != 0 && limit < required) return StatusCode::INVALID_ARGUMENT;
  std::int64_t wanted = required != 0 ? required : otherwise;
  if (required == 0 && limit != 0) wanted = std::min(wanted, limit / kBlock * kBlock);
  *size = std::max((wanted + kBlock - 1) / kBlock * kBlock, kSmallest);
  return limit != 0 && *size > limit ? StatusCode::OUT_OF_RANGE : StatusCode::OK;
}

bool SameCapability(const Call& a, const Call& b) {
  const bool same_mount = a.block || (a.fs == b.fs && a.noexec == b.noexec);
  return a.mode == b.mode && a.block == b.block && same_mount;
}

}  // namespace

std::string Model::Apply(const Call& call, const Answer& answer) {
  const Answer must = Do(call, answer);
  const bool same =
      must.code == answer.code &&
      (answer.code != StatusCode::OK ||
       (must.id == answer.id && must.capacity == answer.capacity && must.source == answer.source &&
        must.flag == answer.flag && must.lines == answer.lines));
  if (same) return "";
  return absl::StrCat(call.Text(), "\n  came: ", answer.Text(), "\n  must: ", must.Text());
}

Answer Model::Do(const Call& call, const Answer& answer) {
  switch (call.op) {
    case Op::kCreateVolume:
      return CreateVolume(call, answer);
    case Op::kDeleteVolume:
      return DeleteVolume(call);
    case Op::kPublish:
      return Publish(call, answer);
    case Op::kUnpublish:
      if (Volume* const volume = Live(call.volume)) {
        call.node.empty() ? volume->on.clear() : static_cast<void>(volume->on.erase(call.node));
      }
      return Ok();
    case Op::kStage:
      return Stage(call);
    case Op::kUnstage:
      return Unstage(call);
    case Op::kNodePublish:
      return NodePublish(call);
    case Op::kNodeUnpublish:
      Erase(call.node, call.target);
      return Ok();
    case Op::kStats: {
      const Place* const place = At(call.node, call.target);
      const bool there = On(call) != nullptr && place != nullptr && place->volume == call.volume;
      return Code(there ? StatusCode::OK : StatusCode::NOT_FOUND);
    }
    case Op::kExpand:
      return Expand(call);
    case Op::kNodeExpand:
      return NodeExpand(call);
    case Op::kModify:
      return Modify(call);
    case Op::kValidate: {
      const Volume* const volume = Live(call.volume);
      if (volume == nullptr) return Code(StatusCode::NOT_FOUND);
      Answer must = Ok();
      must.flag = volume->made.block == call.block;
      return must;
    }
    case Op::kListVolumes:
      return ListVolumes();
    case Op::kCreateSnapshot:
      return CreateSnapshot(call, answer);
    case Op::kDeleteSnapshot:
      if (Snapshot* const snapshot = LiveSnapshot(call.snapshot)) snapshot->live = false;
      return Ok();
    case Op::kListSnapshots:
      return ListSnapshots(call);
  }
  return Ok();
}

Answer Model::CreateVolume(const Call& call, const Answer& answer) {
  Answer must = Ok();
  if (!call.snapshot.empty()) must.source = absl::StrCat("snapshot ", call.snapshot);
  if (!call.source.empty()) must.source = absl::StrCat("volume ", call.source);
  if (call.limit != 0 && call.limit < call.required) return Code(StatusCode::INVALID_ARGUMENT);
  if (const Volume* const there = LiveByName(call.name)) {
    const bool same = there->size >= call.required &&
                      (call.limit == 0 || there->size <= call.limit) &&
                      there->made.snapshot == call.snapshot && there->made.source == call.source &&
                      there->made.parameters == call.parameters && there->made.block == call.block;
    must.id = there->id;
    must.capacity = there->size;
    return same ? must : Code(StatusCode::ALREADY_EXISTS);
  }
  if (call.parameters.count("replicsa") != 0) return Code(StatusCode::INVALID_ARGUMENT);
  const bool from_source = !must.source.empty();
  Volume made;
  const StatusCode range =
      SizeFor(call.required, call.limit, from_source ? kSmallest : kDefault, &made.size);
  if (range != StatusCode::OK) return Code(range);
  if (from_source) {
    const Snapshot* const snapshot = LiveSnapshot(call.snapshot);
    const Volume* const source = Live(call.source);
    if (snapshot == nullptr && source == nullptr) return Code(StatusCode::NOT_FOUND);
    const std::int64_t least = snapshot != nullptr ? snapshot->size : source->size;
    const bool too_small =
        call.required != 0 ? made.size < least : call.limit != 0 && call.limit < least;
    if (too_small) return Code(StatusCode::OUT_OF_RANGE);
    made.size = std::max(made.size, least);
    made.fs = snapshot != nullptr ? snapshot->fs : source->fs;
    made.fs_size = snapshot != nullptr ? snapshot->fs_size : source->fs_size;
  } else if (call.parameters.count("replicas") != 0 && call.parameters.at("replicas") == "5") {
    return Code(StatusCode::RESOURCE_EXHAUSTED);
  }
  made.id = must.id = answer.id;
  must.capacity = made.size;
  if (!ids_.insert(answer.id).second) must.id = "a new one";
  made.made = call;
  if (call.parameters.count("iops") != 0) made.iops = std::stoll(call.parameters.at("iops"));
  volumes_.push_back(made);
  return must;
}

Answer Model::DeleteVolume(const Call& call) {
  Volume* const volume = Live(call.volume);
  if (volume == nullptr) return Ok();
  if (!volume->on.empty()) return Code(StatusCode::FAILED_PRECONDITION);
  volume->live = false;
  return Ok();
}

Answer Model::Publish(const Call& call, const Answer& answer) {
  Volume* const volume = Live(call.volume);
  if (volume == nullptr || call.node == "nowhere") return Code(StatusCode::NOT_FOUND);
  const auto there = volume->on.find(call.node);
  if (there == volume->on.end() && call.node == "b") {
    const auto full = std::count_if(volumes_.begin(), volumes_.end(),
                                    [](const Volume& one) { return one.on.count("b") != 0; });
    if (full >= kVolumesMaxOfB) return Code(StatusCode::RESOURCE_EXHAUSTED);
  }
  if (volume->made.block != call.block) return Code(StatusCode::INVALID_ARGUMENT);
  const bool read_only = call.readonly || IsReader(call.mode);
  if (there != volume->on.end()) {
    const Publication& before = there->second;
    const bool same = SameCapability(before.as, call) && before.read_only == read_only;
    return Code(same ? StatusCode::OK : StatusCode::ALREADY_EXISTS);
  }
  // Only modes of one node are used here.
  if (!volume->on.empty()) return Code(StatusCode::FAILED_PRECONDITION);
  volume->on[call.node] = {call, read_only, answer.context};
  return Ok();
}

Answer Model::Stage(const Call& call) {
  const Publication* const publication = On(call);
  if (publication == nullptr) return Code(StatusCode::NOT_FOUND);
  if (call.block) return Ok();
  Volume& volume = *Live(call.volume);
  const bool read_only = publication->read_only || IsReader(call.mode);
  if (const Place* const there = At(call.node, call.staging)) {
    const bool same = there->volume == call.volume && !there->block &&
                      (call.fs.empty() || there->fs == call.fs) && there->read_only == read_only &&
                      there->noexec == call.noexec;
    if (!same) return Code(StatusCode::ALREADY_EXISTS);
    if (!read_only) volume.fs_size = volume.size;
    return Ok();
  }
  for (const Place* const place : Others(call, call.staging)) {
    if (place->block) return Code(StatusCode::FAILED_PRECONDITION);
  }
  if (volume.fs.empty()) {
    if (read_only) return Code(StatusCode::FAILED_PRECONDITION);
    volume.fs = call.fs.empty() ? "ext4" : call.fs;
  }
  if (!call.fs.empty() && call.fs != volume.fs) return Code(StatusCode::FAILED_PRECONDITION);
  if (!read_only) volume.fs_size = volume.size;
  Place place;
  place.node = call.node;
  place.path = call.staging;
  place.volume = call.volume;
  place.fs = volume.fs;
  place.noexec = call.noexec;
  place.read_only = place.fs_read_only = read_only;
  places_.push_back(place);
  return Ok();
}

Answer Model::Unstage(const Call& call) {
  const Place* const there = At(call.node, call.staging);
  if (there == nullptr) return Ok();
  Call about = call;
  about.volume = there->volume;
  if (!there->block && !Others(about, call.staging).empty()) {
    return Code(StatusCode::FAILED_PRECONDITION);
  }
  Erase(call.node, call.staging);
  return Ok();
}

Answer Model::NodePublish(const Call& call) {
  const Publication* const publication = On(call);
  if (publication == nullptr) return Code(StatusCode::NOT_FOUND);
  bool read_only = call.readonly || IsReader(call.mode);
  Place made;
  if (call.block) {
    if (read_only && !publication->read_only) return Code(StatusCode::FAILED_PRECONDITION);
    read_only = false;
  } else {
    const Place* const staged = At(call.node, call.staging);
    if (staged == nullptr || staged->block || staged->volume != call.volume) {
      return Code(StatusCode::FAILED_PRECONDITION);
    }
    made = *staged;
    read_only = read_only || staged->read_only;
  }
  if (const Place* const there = At(call.node, call.target)) {
    const bool same = there->volume == call.volume && there->block == call.block &&
                      (call.block || there->read_only == read_only);
    return Code(same ? StatusCode::OK : StatusCode::ALREADY_EXISTS);
  }
  const bool alone =
      call.mode == Mode::SINGLE_NODE_SINGLE_WRITER || call.mode == Mode::SINGLE_NODE_READER_ONLY;
  const std::vector<const Place*> others = Others(call, call.block ? "" : call.staging);
  if (alone && !others.empty()) return Code(StatusCode::FAILED_PRECONDITION);
  for (const Place* const place : others) {
    if (place->block != call.block) return Code(StatusCode::FAILED_PRECONDITION);
  }
  made.node = call.node;
  made.path = call.target;
  made.volume = call.volume;
  made.target = true;
  made.block = call.block;
  made.read_only = read_only;
  places_.push_back(made);
  return Ok();
}

Answer Model::Expand(const Call& call) {
  if (call.required == 0 && call.limit == 0) return Code(StatusCode::INVALID_ARGUMENT);
  if (call.limit != 0 && call.limit < call.required) return Code(StatusCode::INVALID_ARGUMENT);
  Volume* const volume = Live(call.volume);
  if (volume == nullptr) return Code(StatusCode::NOT_FOUND);
  std::int64_t size = 0;
  const StatusCode range = SizeFor(call.required, call.limit, volume->size, &size);
  if (range != StatusCode::OK) return Code(range);
  if (call.limit != 0 && volume->size > call.limit) return Code(StatusCode::OUT_OF_RANGE);
  volume->size = std::max(volume->size, size);
  Answer must = Ok();
  must.capacity = volume->size;
  must.flag = !call.block;
  return must;
}

Answer Model::NodeExpand(const Call& call) {
  if (call.limit != 0 && call.limit < call.required) return Code(StatusCode::INVALID_ARGUMENT);
  const Publication* const publication = On(call);
  const Place* const place = At(call.node, call.target);
  if (publication == nullptr || place == nullptr || place->volume != call.volume) {
    return Code(StatusCode::NOT_FOUND);
  }
  Volume& volume = *Live(call.volume);
  if (call.required > volume.size) return Code(StatusCode::OUT_OF_RANGE);
  if (!place->block) {
    if (place->fs_read_only) return Code(StatusCode::FAILED_PRECONDITION);
    volume.fs_size = volume.size;
  }
  Answer must = Ok();
  must.capacity = volume.size;
  return must;
}

Answer Model::Modify(const Call& call) {
  Volume* const volume = Live(call.volume);
  if (volume == nullptr) return Code(StatusCode::NOT_FOUND);
  for (const auto& [key, value] : call.parameters) {
    if (key != "iops") return Code(StatusCode::INVALID_ARGUMENT);
  }
  for (const auto& [key, value] : call.parameters) volume->iops = std::stoll(value);
  return Ok();
}

Answer Model::CreateSnapshot(const Call& call, const Answer& answer) {
  Answer must = Ok();
  must.flag = true;
  must.source = call.volume;
  for (const Snapshot& snapshot : snapshots_) {
    if (!snapshot.live || snapshot.name != call.name) continue;
    must.id = snapshot.id;
    must.capacity = snapshot.size;
    return snapshot.volume == call.volume ? must : Code(StatusCode::ALREADY_EXISTS);
  }
  const Volume* const volume = Live(call.volume);
  if (volume == nullptr) return Code(StatusCode::NOT_FOUND);
  must.id = answer.id;
  must.capacity = volume->size;
  if (!ids_.insert(answer.id).second) must.id = "a new one";
  snapshots_.push_back(
      {answer.id, call.name, call.volume, volume->size, true, volume->fs, volume->fs_size});
  return must;
}

Answer Model::ListVolumes() const {
  Answer must = Ok();
  for (const Volume& volume : volumes_) {
    if (!volume.live) continue;
    std::vector<std::string> nodes;
    for (const auto& [node, publication] : volume.on) nodes.push_back(node);
    must.lines.push_back(VolumeLine(volume.id, volume.size, nodes));
  }
  std::sort(must.lines.begin(), must.lines.end());
  return must;
}

Answer Model::ListSnapshots(const Call& call) const {
  Answer must = Ok();
  for (const Snapshot& snapshot : snapshots_) {
    if (!snapshot.live || (!call.volume.empty() && snapshot.volume != call.volume)) continue;
    if (!call.snapshot.empty() && snapshot.id != call.snapshot) continue;
    must.lines.push_back(SnapshotLine(snapshot.id, snapshot.volume, snapshot.size));
  }
  std::sort(must.lines.begin(), must.lines.end());
  return must;
}

const Model::Volume* Model::FindVolume(const std::string& id) const {
  for (const Volume& volume : volumes_) {
    if (volume.id == id) return &volume;
  }
  return nullptr;
}

Model::Volume* Model::Live(const std::string& id) {
  for (Volume& volume : volumes_) {
    if (volume.live && volume.id == id) return &volume;
  }
  return nullptr;
}

Model::Volume* Model::LiveByName(const std::string& name) {
  for (Volume& volume : volumes_) {
    if (volume.live && volume.made.name == name) return &volume;
  }
  return nullptr;
}

Model::Snapshot* Model::LiveSnapshot(const std::string& id) {
  for (Snapshot& snapshot : snapshots_) {
    if (snapshot.live && snapshot.id == id) return &snapshot;
  }
  return nullptr;
}

Model::Publication* Model::On(const Call& call) {
  Volume* const volume = Live(call.volume);
  if (volume == nullptr) return nullptr;
  const auto found = volume->on.find(call.node);
  return found == volume->on.end() ? nullptr : &found->second;
}

Model::Place* Model::At(const std::string& node, const std::string& path) {
  for (Place& place : places_) {
    if (place.node == node && place.path == path) return &place;
  }
  return nullptr;
}

std::vector<const Model::Place*> Model::Others(const Call& call, const std::string& path) const {
  std::vector<const Place*> found;
  for (const Place& place : places_) {
    if (place.node == call.node && place.volume == call.volume && place.path != path) {
      found.push_back(&place);
    }
  }
  return found;
}

void Model::Erase(const std::string& node, const std::string& path) {
  std::erase_if(places_,
                [&](const Place& place) { return place.node == node && place.path == path; });
}

}  // namespace keelson::csi
