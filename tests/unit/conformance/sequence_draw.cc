// Sequence: which call comes next.

#include "absl/strings/str_cat.h"
#include "tests/unit/conformance/sequence.h"

namespace keelson::csi {
namespace {

constexpr std::int64_t kGib = std::int64_t{1} << 30;

}  // namespace

Call Sequence::Draw() {
  Call call = any_ && Percent(10) ? last_ : any_ && Percent(8) ? Changed(last_) : DrawNew();
  // What an orchestrator was last given for it.
  call.context = {{"keelson.io/attachment", "1"}};
  const Model::Volume* const volume = model_.FindVolume(call.volume);
  if (volume != nullptr && volume->on.count(call.node) != 0) {
    call.context = volume->on.at(call.node).context;
  }
  return call;
}

Call Sequence::DrawNew() {
  // One of the last few, which mostly live.
  const auto& all = model_.volumes();
  const Model::Volume* volume = nullptr;
  if (!all.empty() && !Percent(4)) {
    const std::size_t from = all.size() > 4 ? all.size() - 4 : 0;
    volume = &all[from + Below(all.size() - from)];
  }
  if (volume == nullptr && !Percent(10)) return Draw(Op::kCreateVolume, nullptr);
  if (volume != nullptr && volume->live && Percent(55)) return Draw(NextOf(*volume), volume);
  constexpr int kOps = static_cast<int>(Op::kListSnapshots) + 1;
  return Draw(static_cast<Op>(Below(kOps)), volume);
}

// What an orchestrator would do with it.
Op Sequence::NextOf(const Model::Volume& volume) {
  if (volume.on.empty()) return Percent(70) ? Op::kPublish : Op::kCreateSnapshot;
  bool staged = false;
  bool published = false;
  for (const Model::Place& place : model_.places()) {
    if (place.volume != volume.id) continue;
    (place.target ? published : staged) = true;
  }
  if (!staged && !published && !(volume.made.block && Percent(50))) return Op::kStage;
  if (!published) return Percent(80) ? Op::kNodePublish : Op::kUnstage;
  return OneOf<Op>({Op::kNodePublish, Op::kNodeUnpublish, Op::kExpand, Op::kNodeExpand, Op::kStats,
                    Op::kCreateSnapshot, Op::kModify});
}

Call Sequence::Draw(Op op, const Model::Volume* volume) {
  Call call;
  call.op = op;
  call.volume = volume != nullptr ? volume->id
                                  : OneOf<std::string>({"ks-00000000000000000000-0-00000000",
                                                        "../../etc", "No\nSuch\nVolume"});
  const auto index = static_cast<std::size_t>(
      volume != nullptr && !Percent(3) ? volume - model_.volumes().data() : 0);
  call.node = Percent(60) ? "a" : "b";
  if (volume != nullptr && !volume->on.empty() && Percent(90))
    call.node = volume->on.begin()->first;
  if (op == Op::kPublish && Percent(3)) call.node = "nowhere";
  if (op == Op::kUnpublish && Percent(10)) call.node = "";
  // One path for a volume; what is staged at another's is told by tests of its own.
  const bool own = volume == nullptr || op == Op::kStage;
  const auto place =
      own && volume != nullptr ? static_cast<std::size_t>(volume - model_.volumes().data()) : index;
  call.staging = absl::StrCat("/pods/staging/", place, "/mount");
  call.target = absl::StrCat("/pods/", Percent(70) ? "x" : "y", "/", index, "/mount");
  if ((op == Op::kStats || op == Op::kNodeExpand) && Percent(40)) call.target = call.staging;
  call.readonly = Percent(12);
  DrawCapability(volume, &call);
  switch (op) {
    case Op::kCreateVolume:
      DrawCreation(&call);
      break;
    case Op::kExpand:
    case Op::kNodeExpand:
      call.required = static_cast<std::int64_t>(Below(5)) * kGib;
      if (Percent(30)) call.limit = static_cast<std::int64_t>(Below(6)) * kGib;
      break;
    case Op::kModify:
      call.parameters = OneOf<std::map<std::string, std::string>>(
          {{{"iops", "500"}}, {{"iops", "0"}}, {{"iops", "700"}, {"nonsense", "1"}}, {}});
      break;
    case Op::kCreateSnapshot:
      call.name = absl::StrCat("s", Below(4));
      break;
    case Op::kListSnapshots:
      if (Percent(50)) call.volume.clear();
      [[fallthrough]];
    case Op::kDeleteSnapshot:
      call.snapshot = "kss-00000000000000000000-0-00000000";
      if (!model_.snapshots().empty()) call.snapshot = OneOf(model_.snapshots()).id;
      if (op == Op::kListSnapshots && Percent(60)) call.snapshot.clear();
      [[fallthrough]];
    case Op::kListVolumes:
      call.page = static_cast<std::int32_t>(Below(4));
      break;
    default:
      break;
  }
  return call;
}

void Sequence::DrawCapability(const Model::Volume* volume, Call* call) {
  static const std::vector<Mode::Mode> kModes = {
      Mode::SINGLE_NODE_MULTI_WRITER,  Mode::SINGLE_NODE_MULTI_WRITER,
      Mode::SINGLE_NODE_MULTI_WRITER,  Mode::SINGLE_NODE_WRITER,
      Mode::SINGLE_NODE_SINGLE_WRITER, Mode::SINGLE_NODE_READER_ONLY};
  call->mode = OneOf(kModes);
  call->block = Percent(25);
  call->fs = OneOf<std::string>({"", "", "ext4", "xfs"});
  call->noexec = Percent(10);
  if (volume == nullptr) return;
  call->block = Percent(96) ? volume->made.block : !volume->made.block;
  if (!volume->fs.empty() && Percent(90)) call->fs = Percent(50) ? volume->fs : "";
  const auto on = volume->on.find(call->node);
  if (on == volume->on.end() || Percent(15)) return;
  const Model::Publication& publication = on->second;
  call->mode = publication.as.mode;
  call->noexec = publication.as.noexec;
  if (call->op == Op::kPublish) {
    call->fs = publication.as.fs;
    call->readonly = publication.as.readonly;
  }
}

void Sequence::DrawCreation(Call* call) {
  call->volume.clear();
  call->node.clear();
  call->name = absl::StrCat("v", Below(5));
  call->required = OneOf<std::int64_t>({0, kGib, kGib, 2 * kGib, 3 * kGib, kGib + 1});
  if (Percent(25)) call->limit = OneOf<std::int64_t>({kGib, 2 * kGib, kGib + 1, 4 * kGib});
  call->parameters =
      OneOf<std::map<std::string, std::string>>({{{"replicas", "1"}},
                                                 {{"replicas", "1"}},
                                                 {{"replicas", "1"}},
                                                 {{"replicas", "2"}},
                                                 {{"replicas", "3"}, {"iops", "100"}},
                                                 {{"replicas", Percent(50) ? "5" : "1"}},
                                                 {{Percent(50) ? "replicsa" : "replicas", "1"}}});
  if (!model_.snapshots().empty() && Percent(35)) {
    call->snapshot = OneOf(model_.snapshots()).id;
  } else if (!model_.volumes().empty() && Percent(25)) {
    call->source = OneOf(model_.volumes()).id;
  }
  const bool from_source = !call->snapshot.empty() || !call->source.empty();
  if (from_source && Percent(50)) call->required = 4 * kGib;
  // More copies than there are nodes are only refused where they are placed at once.
  const std::map<std::string, std::string> too_many = {{"replicas", "5"}};
  if (from_source && call->parameters == too_many) call->parameters = {{"replicas", "1"}};
}

Call Sequence::Changed(Call call) {
  switch (Below(6)) {
    case 0:
      call.required = 2 * kGib;
      break;
    case 1:
      call.mode = call.mode == Mode::SINGLE_NODE_SINGLE_WRITER ? Mode::SINGLE_NODE_READER_ONLY
                                                               : Mode::SINGLE_NODE_SINGLE_WRITER;
      break;
    case 2:
      call.readonly = !call.readonly;
      break;
    case 3:
      if (call.op == Op::kCreateVolume) call.parameters["replicas"] = "2";
      call.noexec = !call.noexec;
      break;
    case 4:
      call.block = !call.block;
      break;
    default:
      // The same name of another volume, the same volume at another path, on another node.
      if (call.op == Op::kCreateSnapshot && !model_.volumes().empty()) {
        call.volume = OneOf(model_.volumes()).id;
      }
      if (!call.target.empty()) call.target += "2";
      if (call.op == Op::kPublish) call.node = call.node == "a" ? "b" : "a";
      break;
  }
  return call;
}

}  // namespace keelson::csi
