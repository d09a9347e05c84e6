#include "blockstore/service/loop_frontend.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/names.h"
#include "blockstore/service/child_process.h"
#include "blockstore/service/fuse_mount.h"
#include "blockstore/service/host_files.h"

namespace keelson::service {
namespace {

constexpr std::chrono::seconds kHelperLimit{15};
constexpr char kNoResend[] =
    "this kernel (older than Linux 6.9) does not send requests again: if the daemon is killed, "
    "those in flight hang until the device is given up with errors";

std::string DevicePath(int index) { return absl::StrCat("/dev/loop", index); }

}  // namespace

LoopFrontend::LoopFrontend(const std::string& run_directory)
    : directory_(run_directory + "/loop"),
      program_(ProgramBeside("keelson-fuse-keeper")),
      keeper_(run_directory, program_) {}

absl::Status LoopFrontend::CheckWorks() const {
  if (geteuid() != 0) {
    return absl::FailedPreconditionError("the frontend loop needs a daemon that runs as root");
  }
  for (const char* path : {"/dev/fuse", "/dev/loop-control"}) {
    if (access(path, R_OK | W_OK) == 0) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("the frontend loop needs ", path, ": ",
                     std::string(io::ErrnoStatus(errno, "access to it").message())));
  }
  if (access(program_.c_str(), X_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the frontend loop needs ", program_, " beside keelson-blockstore"));
  }
  return absl::OkStatus();
}

std::string LoopFrontend::FormatNote(const Note& note) {
  return absl::StrCat(note.loop_index, " ", note.file_device, " ", note.kernel_resends ? 1 : 0, " ",
                      note.read_only ? 1 : 0);
}

absl::StatusOr<LoopFrontend::Note> LoopFrontend::ParseNote(const std::string& text) {
  const std::vector<std::string> words = absl::StrSplit(text, ' ');
  Note note;
  if (words.size() == 4 && absl::SimpleAtoi(words[0], &note.loop_index) &&
      absl::SimpleAtoi(words[1], &note.file_device) && note.loop_index >= 0) {
    note.kernel_resends = words[2] == "1";
    note.read_only = words[3] == "1";
    return note;
  }
  return absl::DataLossError(absl::StrCat("'", text, "' is no note of a device"));
}

absl::StatusOr<std::string> LoopFrontend::RunHelper(const std::string& act,
                                                    const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {act};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return RunProgram(program_, words, kHelperLimit);
}

absl::Status LoopFrontend::Recover() {
  absl::StatusOr<std::map<std::string, KeeperClient::Kept>> found = keeper_.Fetch();
  if (!found.ok()) return found.status();
  for (auto& [name, kept] : *found) {
    const absl::Status status = ParseNote(kept.note).status();
    if (!status.ok() || !replica::CheckName("volume", name).ok()) {
      KEEL_LOG_ERROR("event=kept_device_unknown volume={} error=\"{}\" remedy=\"report it\"", name,
                     std::string(status.message()));
      continue;
    }
    KEEL_LOG_INFO("event=device_found volume={} note=\"{}\"", name, kept.note);
    kept_[name] = std::move(kept);
  }
  return absl::OkStatus();
}

std::vector<std::string> LoopFrontend::DeadNames() const {
  std::vector<std::string> names = FuseFilesIn(directory_);
  std::erase_if(names, [this](const std::string& name) { return Has(name); });
  return names;
}

absl::Status LoopFrontend::RemoveDead(const std::string& name) {
  if (Has(name)) return absl::OkStatus();
  // Its connection is gone: whoever still uses it has errors. The mount stays as long as the
  // device, whose path it is found by.
  if (const absl::Status freed = RunHelper("loop-detach-dead", {PathOf(name)}).status();
      !freed.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume '", name,
        "' has an earlier device, whose connection is lost: ", std::string(freed.message())));
  }
  return UnmountFuseFile(PathOf(name));
}

absl::StatusOr<LoopFrontend::Device> LoopFrontend::Attach(const std::string& name, Shard* shard,
                                                          bool read_only) {
  if (std::optional<Device> present = Find(name)) return *std::move(present);
  if (std::optional<Note> note = NoteOf(name)) {
    RETURN_IF_ERROR(Adopt(name, shard, /*with_errors=*/false));
    const std::string index = absl::StrCat(note->loop_index);
    const std::string device = absl::StrCat(note->file_device);
    // It also may have been killed between the growth of the volume and that of the device.
    const absl::Status grown = RunHelper("loop-grow", {index, device, PathOf(name)}).status();
    if (!absl::IsNotFound(grown)) {
      KEEL_LOG_INFO("event=device_resumed volume={} device={} status=\"{}\"", name,
                    DevicePath(note->loop_index), grown.ToString());
      return *Find(name);
    }
    KEEL_LOG_WARN("event=device_gone volume={} device={} action=\"making another\"", name,
                  DevicePath(note->loop_index));
    RETURN_IF_ERROR(Forget(name));
  }
  return Create(name, shard, read_only);
}

absl::StatusOr<LoopFrontend::Device> LoopFrontend::Create(const std::string& name, Shard* shard,
                                                          bool read_only) {
  RETURN_IF_ERROR(MakeDirectory(directory_));
  const std::string path = PathOf(name);
  RETURN_IF_ERROR(RemoveDead(name));
  ASSIGN_OR_RETURN(Descriptor connection, MountFuseFile(path, name, read_only));
  absl::StatusOr<Note> note = MakeDevice(name, shard, connection, read_only);
  if (!note.ok()) {
    shard->thread().Run([shard, &name] { return shard->fuse().End(name); });
    connection.Reset();
    // The error that counts is the one that led here.
    (void)RunHelper("loop-detach-dead", {path});
    (void)UnmountFuseFile(path);
    return note.status();
  }
  Shown shown = {*note, std::move(connection), shard, false};
  const Device device = Describe(name, shown);
  if (!note->kernel_resends) {
    KEEL_LOG_WARN("event=device_without_resend volume={} device={} consequence=\"{}\"", name,
                  device.path, kNoResend);
  }
  KEEL_LOG_INFO("event=device_attached volume={} device={}", name, device.path);
  std::lock_guard lock(mutex_);
  shown_[name] = std::move(shown);
  return device;
}

absl::StatusOr<LoopFrontend::Note> LoopFrontend::MakeDevice(const std::string& name, Shard* shard,
                                                            const Descriptor& connection,
                                                            bool read_only) {
  RETURN_IF_ERROR(Serve(name, shard, connection, /*with_errors=*/false, std::nullopt));
  ASSIGN_OR_RETURN(const std::string made,
                   RunHelper("loop-attach", {PathOf(name), read_only ? "ro" : "rw"}));
  const std::vector<std::string> words = absl::StrSplit(made, ' ');
  Note note;
  if (words.size() != 2 || !absl::SimpleAtoi(words[0], &note.loop_index) ||
      !absl::SimpleAtoi(words[1], &note.file_device)) {
    return absl::InternalError(
        absl::StrCat(program_, " says '", made, "'; it must be of the daemon's version"));
  }
  const std::optional<FuseFrontend::State> state =
      shard->thread().Run([shard, &name] { return shard->fuse().Find(name); });
  note.kernel_resends = state && state->kernel_resends;
  note.read_only = read_only;
  RETURN_IF_ERROR(keeper_.Keep(name, FormatNote(note), connection));
  return note;
}

absl::Status LoopFrontend::Serve(const std::string& name, Shard* shard,
                                 const Descriptor& connection, bool with_errors,
                                 std::optional<bool> adopted) {
  ASSIGN_OR_RETURN(Descriptor own, connection.Duplicate());
  const int fd = own.Release();
  return shard->thread().Run([shard, &name, fd, with_errors, adopted]() -> absl::Status {
    engine::BlockDevice* device = with_errors ? nullptr : shard->frontend().Attached(name);
    if (device == nullptr && !with_errors) {
      close(fd);
      return absl::UnavailableError(absl::StrCat("volume '", name, "' is not attached any more"));
    }
    return shard->fuse().Open(name, fd, device, adopted);
  });
}

absl::Status LoopFrontend::Adopt(const std::string& name, Shard* shard, bool with_errors) {
  Shown shown;
  {
    std::lock_guard lock(mutex_);
    const auto found = kept_.find(name);
    if (found == kept_.end()) return absl::OkStatus();
    ASSIGN_OR_RETURN(shown.note, ParseNote(found->second.note));
    ASSIGN_OR_RETURN(shown.connection, found->second.descriptor.Duplicate());
  }
  shown.shard = shard;
  shown.failed = with_errors;
  RETURN_IF_ERROR(Serve(name, shard, shown.connection, with_errors, shown.note.kernel_resends));
  std::lock_guard lock(mutex_);
  kept_.erase(name);
  shown_[name] = std::move(shown);
  return absl::OkStatus();
}

absl::Status LoopFrontend::Fail(const std::string& name, Shard* shard) {
  {
    std::lock_guard lock(mutex_);
    if (kept_.count(name) == 0) return absl::OkStatus();
  }
  RETURN_IF_ERROR(Adopt(name, shard, /*with_errors=*/true));
  KEEL_LOG_WARN("event=device_failed volume={} reason=\"its attachment has ended\"", name);
  return absl::OkStatus();
}

absl::Status LoopFrontend::Detach(const std::string& name) {
  const std::optional<Note> note = NoteOf(name);
  if (!note) return absl::OkStatus();
  const absl::Status freed =
      RunHelper("loop-detach",
                {absl::StrCat(note->loop_index), absl::StrCat(note->file_device), PathOf(name)})
          .status();
  if (!freed.ok()) {
    return absl::Status(
        freed.code(),
        absl::StrCat("volume '", name, "' cannot be detached: ", std::string(freed.message())));
  }
  RETURN_IF_ERROR(Forget(name));
  KEEL_LOG_INFO("event=device_detached volume={} device={}", name, DevicePath(note->loop_index));
  return absl::OkStatus();
}

absl::Status LoopFrontend::Forget(const std::string& name) {
  Shard* shard = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (const auto found = shown_.find(name); found != shown_.end()) shard = found->second.shard;
    shown_.erase(name);
    kept_.erase(name);
  }
  // Nobody asks for anything any more, so nobody waits for an answer. The mount goes last: its end
  // is that of the connection, which would be news to whoever still had it.
  if (shard != nullptr) shard->thread().Run([shard, &name] { return shard->fuse().End(name); });
  const absl::Status dropped = keeper_.Drop(name);
  RETURN_IF_ERROR(UnmountFuseFile(PathOf(name)));
  return dropped;
}

absl::Status LoopFrontend::Grow(const std::string& name) {
  const std::optional<Note> note = NoteOf(name);
  if (!note) return absl::OkStatus();
  const absl::Status grown = RunHelper("loop-grow", {absl::StrCat(note->loop_index),
                                                     absl::StrCat(note->file_device), PathOf(name)})
                                 .status();
  if (grown.ok()) return grown;
  return absl::UnavailableError(
      absl::StrCat("volume '", name, "' has grown, but ", DevicePath(note->loop_index),
                   " has not: ", std::string(grown.message()), "; try again"));
}

std::optional<LoopFrontend::Note> LoopFrontend::NoteOf(const std::string& name) const {
  std::lock_guard lock(mutex_);
  if (const auto found = shown_.find(name); found != shown_.end()) return found->second.note;
  const auto found = kept_.find(name);
  if (found == kept_.end()) return std::nullopt;
  const absl::StatusOr<Note> note = ParseNote(found->second.note);
  return note.ok() ? std::optional<Note>(*note) : std::nullopt;
}

LoopFrontend::Device LoopFrontend::Describe(const std::string& name, const Shown& shown) const {
  Device device;
  device.path = DevicePath(shown.note.loop_index);
  const std::optional<FuseFrontend::State> state =
      shown.shard->thread().Run([shard = shown.shard, &name] { return shard->fuse().Find(name); });
  if (shown.failed) {
    device.warning = "it gives errors: its attachment has ended";
  } else if (!state || state->lost) {
    device.warning = "it gives errors: its FUSE connection was ended; detach the volume";
  } else if (std::string problem = keeper_.problem(); !problem.empty()) {
    device.warning = std::move(problem);
  } else if (!shown.note.kernel_resends) {
    device.warning = kNoResend;
  }
  return device;
}

std::optional<LoopFrontend::Device> LoopFrontend::Find(const std::string& name) const {
  Shown copy;
  {
    std::lock_guard lock(mutex_);
    const auto found = shown_.find(name);
    if (found == shown_.end()) return std::nullopt;
    copy.note = found->second.note;
    copy.shard = found->second.shard;
    copy.failed = found->second.failed;
  }
  return Describe(name, copy);
}

bool LoopFrontend::Has(const std::string& name) const {
  std::lock_guard lock(mutex_);
  return shown_.count(name) > 0 || kept_.count(name) > 0;
}

std::vector<std::string> LoopFrontend::Names() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, kept] : kept_) names.push_back(name);
  for (const auto& [name, shown] : shown_) names.push_back(name);
  return names;
}

}  // namespace keelson::service
