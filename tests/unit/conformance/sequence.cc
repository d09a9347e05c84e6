#include "tests/unit/conformance/sequence.h"

#include <future>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace keelson::csi {
namespace {

using grpc::StatusCode;

constexpr int kTriesMax = 30;

// An engine that is there for a moment's maintenance is nothing that a caller is to see.
bool IsTryAgain(const Answer& answer) {
  return csi::IsTryAgain(answer.code) || (answer.code == StatusCode::FAILED_PRECONDITION &&
                                          absl::StrContains(answer.message, "without a block"));
}

Answer AskUntilDone(World& world, const Call& call, Answer answer) {
  for (int i = 0; i < kTriesMax && IsTryAgain(answer); ++i) {
    world.Settle(1);
    answer = AskDriver(world, call);
  }
  return answer;
}

std::string Line(const std::string& node, const std::string& path, bool block, bool read_only,
                 const std::string& fs) {
  return absl::StrCat(node, ":", path, block ? " block" : "", read_only ? " ro " : " rw ", fs);
}

}  // namespace

std::string Difference(World& world, Model model) {
  world.Settle();
  for (const Op op : {Op::kListVolumes, Op::kListSnapshots}) {
    Call list;
    list.op = op;
    if (std::string wrong = model.Apply(list, AskDriver(world, list)); !wrong.empty()) return wrong;
  }
  for (const Model::Volume& volume : model.volumes()) {
    if (!volume.live) continue;
    const auto is = [&](std::string_view what, const std::string& there, const std::string& must) {
      if (there == must) return std::string();
      return absl::StrCat(volume.id, ": its ", std::string(what), " is '", there, "' and not '",
                          must, "'");
    };
    const std::string content =
        Machine::ContentText({volume.fs, static_cast<std::uint64_t>(volume.fs_size)});
    std::string wrong = is("content", world.nodes().ContentOf(volume.id), content);
    if (wrong.empty()) {
      wrong = is("size", absl::StrCat(world.nodes().SizeOf(volume.id)), absl::StrCat(volume.size));
    }
    if (wrong.empty() && !volume.on.empty()) {
      wrong = is("limit", absl::StrCat(world.nodes().QosOf(volume.id).iops()),
                 absl::StrCat(volume.iops));
    }
    if (!wrong.empty()) return wrong;
  }
  // Of a snapshot and a formatting at once only this tells which was first.
  for (const Model::Snapshot& snapshot : model.snapshots()) {
    if (!snapshot.live) continue;
    const std::string content =
        Machine::ContentText({snapshot.fs, static_cast<std::uint64_t>(snapshot.fs_size)});
    const std::string there = world.nodes().ContentOfSnapshot(snapshot.id);
    if (there == content) continue;
    return absl::StrCat(snapshot.id, ": its content is '", there, "' and not '", content, "'");
  }
  std::multiset<std::string> must;
  std::multiset<std::string> there;
  for (const Model::Place& place : model.places()) {
    must.insert(
        Line(place.node, place.path, place.block, place.read_only, place.block ? "" : place.fs));
  }
  for (const std::string& node : kDriverNodes) {
    for (const Mounted& one : world.machine(node).mounts()) {
      there.insert(Line(node, one.path, one.block, one.read_only, one.fs_type));
    }
  }
  if (must == there) return "";
  std::string text = "mounts that are there:";
  for (const std::string& line : there) absl::StrAppend(&text, "\n  ", line);
  absl::StrAppend(&text, "\nmounts that must be there:");
  for (const std::string& line : must) absl::StrAppend(&text, "\n  ", line);
  return text;
}

std::string DeleteAll(World& world, Model* model) {
  std::vector<Call> calls;
  for (const bool targets : {true, false}) {
    for (const Model::Place& place : model->places()) {
      if (place.target != targets) continue;
      Call call;
      call.op = targets ? Op::kNodeUnpublish : Op::kUnstage;
      call.node = place.node;
      call.volume = place.volume;
      (targets ? call.target : call.staging) = place.path;
      calls.push_back(call);
    }
  }
  for (const Op op : {Op::kUnpublish, Op::kDeleteVolume}) {
    for (const Model::Volume& volume : model->volumes()) {
      Call call;
      call.op = op;
      call.volume = volume.id;
      if (volume.live) calls.push_back(call);
    }
  }
  for (const Model::Snapshot& snapshot : model->snapshots()) {
    Call call;
    call.op = Op::kDeleteSnapshot;
    call.snapshot = snapshot.id;
    if (snapshot.live) calls.push_back(call);
  }
  for (const Call& call : calls) {
    if (std::string wrong = RunUntilDone(world, call, model); !wrong.empty()) return wrong;
  }
  world.Settle(1);
  std::string left = world.Leftovers();
  if (!left.empty()) {
    world.store().DrainWatchers();
    world.Settle(120);
    left = world.Leftovers();
  }
  return left.empty() ? "" : absl::StrCat("left over after everything was deleted: ", left);
}

std::string RunUntilDone(World& world, const Call& call, Model* model) {
  return model->Apply(call, AskUntilDone(world, call, AskDriver(world, call)));
}

std::string RunAndDie(World& world, const Call& call, std::uint64_t event, Model* model,
                      bool* reached) {
  world.fuse().Set(event);
  Answer answer = AskDriver(world, call);
  const std::string fatal = world.fuse().fatal();
  *reached = !fatal.empty();
  if (*reached) {
    world.Restart();
    answer = AskUntilDone(world, call, AskDriver(world, call));
  } else {
    world.fuse().Replace();
  }
  std::string wrong = model->Apply(call, answer);
  if (wrong.empty()) wrong = Difference(world, *model);
  return wrong.empty() || !*reached ? wrong
                                    : absl::StrCat("after an end before ", fatal, ": ", wrong);
}

std::string Sequence::Run() {
  const std::uint64_t steps = 10 + Below(21);
  for (std::uint64_t i = 0; i < steps; ++i) {
    if (std::string wrong = Step(Draw()); !wrong.empty()) return wrong;
  }
  std::string wrong = Difference(world_, model_);
  return wrong.empty() ? DeleteAll(world_, &model_) : wrong;
}

std::string Sequence::Step(const Call& call) {
  const bool list = call.op == Op::kListVolumes || call.op == Op::kListSnapshots;
  last_ = call;
  any_ = true;
  std::string wrong;
  if (!list && Percent(12)) {
    // The very same, the same with other content, or another call about the same volume.
    Call other = Percent(30) ? call : Percent(40) ? Changed(call) : Draw();
    const bool other_list = other.op == Op::kListVolumes || other.op == Op::kListSnapshots;
    if (other_list) other = call;
    absl::StrAppend(&history_, call.Text(), "\n  at once with ", other.Text(), "\n");
    return RunTwo(call, other);
  }
  if (!list && Percent(10)) {
    const std::uint64_t event = 1 + Below(20);
    absl::StrAppend(&history_, call.Text(), "\n  ended before its event ", event, "\n");
    bool reached = false;
    return RunAndDie(world_, call, event, &model_, &reached);
  }
  absl::StrAppend(&history_, call.Text(), "\n");
  wrong = model_.Apply(call, AskDriver(world_, call));
  world_.Settle();
  return wrong;
}

std::string Sequence::RunTwo(const Call& one, const Call& two) {
  auto running = std::async(std::launch::async, [&] { return AskDriver(world_, one); });
  Answer answer_two = AskDriver(world_, two);
  Answer answer_one = running.get();
  answer_one = AskUntilDone(world_, one, answer_one);
  answer_two = AskUntilDone(world_, two, answer_two);
  world_.Settle();
  // One of the orders explains the answers and what is there now.
  std::string wrong;
  for (const bool swapped : {false, true}) {
    Model model = model_;
    std::string first = swapped ? model.Apply(two, answer_two) : model.Apply(one, answer_one);
    std::string second = swapped ? model.Apply(one, answer_one) : model.Apply(two, answer_two);
    std::string state = first.empty() && second.empty() ? Difference(world_, model) : "";
    if (first.empty() && second.empty() && state.empty()) {
      model_ = std::move(model);
      return "";
    }
    absl::StrAppend(&wrong, swapped ? "the other first:\n" : "this first:\n", first, "\n", second,
                    "\n", state, "\n");
  }
  return wrong;
}

}  // namespace keelson::csi
