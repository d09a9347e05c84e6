// GroupHarness: reads, writes, trims and flushes, and what may be said of each when it ends.

#include <algorithm>
#include <new>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/probe.h"

namespace keelson::sim {

void GroupHarness::FreeAligned::operator()(std::byte* memory) const {
  ::operator delete(memory, std::align_val_t{io::kIoAlignment});
}

std::string GroupHarness::Name(const Io& io) const {
  static constexpr const char* kNames[] = {"read", "write", "trim", "flush"};
  return absl::StrCat(kNames[static_cast<int>(io.kind)], " ", io.op, " of blocks ", io.first, "+",
                      io.count, " through epoch ", io.attachment->epoch.attachment, ".",
                      io.attachment->epoch.restart);
}

void GroupHarness::StartRandomIo(Attachment* attachment) {
  Random& random = world_.random();
  if (attachment->in_flight >= knobs_.depth_max) return;
  const std::uint64_t dice = random.Below(100);
  IoKind kind = dice < 52                   ? IoKind::kWrite
                : dice < 84                 ? IoKind::kRead
                : dice < 91 && knobs_.trims ? IoKind::kTrim
                : dice < 91                 ? IoKind::kWrite
                                            : IoKind::kFlush;
  if (kind == IoKind::kFlush && knobs_.cuts_again && chance_.Chance(0.7)) kind = IoKind::kRead;
  if (kind == IoKind::kFlush) return StartIo(kind, attachment, 0, 0);
  // Most of the work meets in few places of few regions, so that it overlaps.
  const std::uint64_t blocks = volume_.size_blocks();
  const std::uint64_t hot = random.Below(knobs_.hot_blocks);
  std::uint64_t first = (hot % 4) * (blocks / 4) + hot / 4 + (random.Coin() ? 0 : 250);
  if (random.Chance(0.1)) first = random.Below(blocks);
  // Where nothing is yet, into two extents: of a full disk one member may have room for the one.
  if (plan_.Has("full_disk") && chance_.Chance(0.15)) {
    first = chance_.Below(blocks / pool::kBlocksPerExtent) * pool::kBlocksPerExtent + 236 +
            chance_.Below(20);
  }
  first = std::min(first, blocks - 1);
  std::uint64_t count_max = random.Coin() ? 2 : knobs_.io_blocks_max;
  if (kind == IoKind::kTrim && random.Chance(0.2)) count_max = 600;
  StartIo(kind, attachment, first, std::min(random.Between(1, count_max), blocks - first));
}

void GroupHarness::StartIo(IoKind kind, Attachment* attachment, std::uint64_t first,
                           std::uint64_t count) {
  auto started = std::make_unique<Io>();
  Io* const io = started.get();
  io->kind = kind;
  io->attachment = attachment;
  io->first = first;
  io->count = count;
  io->op = next_op_++;
  io->began = watch_.Tick();
  io->began_ns = world_.now_ns();
  io->superseded = attachment->epoch < served_;
  io->client = ChooseClient(attachment);
  if (io->client != nullptr) ++io->client->in_flight;
  if (kind == IoKind::kRead || kind == IoKind::kWrite) {
    io->buffer.reset(static_cast<std::byte*>(
        ::operator new(count* kModelBlockBytes, std::align_val_t{io::kIoAlignment})));
  }
  ios_.emplace(io->op, std::move(started));
  ++attachment->in_flight;
  if (kind == IoKind::kWrite) {
    io->version = volume_.versions().New(1);
    for (std::uint64_t i = 0; i < count; ++i) {
      volume_.versions().Fill(io->version, first + i,
                              io->bytes().subspan(i * kModelBlockBytes, kModelBlockBytes));
    }
  }
  // What an engine is asked to write after a newer one serves can be in no history.
  if ((kind == IoKind::kWrite || kind == IoKind::kTrim) && !io->superseded) {
    volume_.BeginWrite(io->op, first, count, io->version, io->began);
  }
  if (verbose_) Tell(absl::StrCat(Name(*io), " begins, version ", io->version));
  RunIo(this, io);
}

io::internal::Detached GroupHarness::RunIo(GroupHarness* harness, Io* io) {
  auto turn = io->attachment->process->Yield();
  co_await turn;
  engine::SegmentEngine* const engine = io->attachment->engine.get();
  const std::uint64_t offset = io->first * kModelBlockBytes;
  absl::Status status;
  if (io->client != nullptr) {
    status = co_await RunClientIo(io, offset);
    harness->IoEnded(io, status);
    co_return;
  }
  switch (io->kind) {
    case IoKind::kRead:
      status = co_await engine->Read(offset, io->bytes());
      break;
    case IoKind::kWrite:
      status = co_await engine->Write(offset, io->bytes());
      break;
    case IoKind::kTrim:
      status = co_await engine->Trim(offset, io->count * kModelBlockBytes);
      break;
    case IoKind::kFlush:
      status = co_await engine->Flush();
      break;
  }
  harness->IoEnded(io, status);
}

io::Task<absl::Status> GroupHarness::RunClientIo(Io* io, std::uint64_t offset) {
  engine::ClientSession* const session = io->client->session.get();
  switch (io->kind) {
    case IoKind::kRead:
      return session->Read(offset, io->bytes());
    case IoKind::kWrite:
      return session->Write(offset, io->bytes(), /*fua=*/false);
    case IoKind::kTrim:
      return session->Trim(offset, io->count * kModelBlockBytes, /*fua=*/false);
    case IoKind::kFlush:
      break;
  }
  return session->Flush();
}

void GroupHarness::IoEnded(Io* io, const absl::Status& status) {
  Attachment* const attachment = io->attachment;
  --attachment->in_flight;
  ClientConnection* const client = io->client;
  if (status.ok()) CheckServed(*io);
  const std::uint64_t now = watch_.Tick();
  world_.Trace(400 + static_cast<std::uint64_t>(io->kind), io->op,
               static_cast<std::uint64_t>(status.code()));
  if (verbose_) Tell(absl::StrCat(Name(*io), " ends: ", status.ToString()));
  std::string wrong;
  if (!status.ok()) {
    JudgeIoError(*io, status);
  } else if (io->superseded) {
    wrong = io->kind == IoKind::kRead ? "reads-are-stable: it was answered without a lease"
                                      : "one-writer: it succeeded after a newer engine served";
  } else if (attachment->errors_since != 0 && attachment->errors_since < io->began &&
             io->kind != IoKind::kRead) {  // what its last copy has can still be read
    wrong = "wait-not-lie: it succeeded after the attachment had ended in errors";
  } else if (io->kind == IoKind::kRead) {
    wrong = volume_.CheckRead(io->first, io->bytes(), io->began, now);
    watch_.ReadAnswered(io->bytes().data(), io->first, io->count, attachment->epoch,
                        attachment->engine->Status().configuration, options_.lease_ns,
                        io->began_ns);
  } else if (io->kind == IoKind::kFlush) {
    volume_.Flushed(io->began);
    watch_.Flushed(attachment->epoch, io->began_ns);
  } else {
    watch_.Acknowledged(attachment->epoch, io->first, io->count, io->version, io->began);
    CheckEnoughCopies(*attachment);
    wrong = volume_.Acknowledge(io->op, io->first, io->count, now);
  }
  if (!wrong.empty()) Fail(absl::StrCat(wrong, " (", Name(*io), ")"));
  ios_.erase(io->op);
  ClientIoEnded(client);
}

// R7: of an acknowledgement that came just now.
void GroupHarness::CheckEnoughCopies(const Attachment& attachment) {
  // A later configuration, which asks for more of its more copies, may be in force already, with
  // the answers that say so on their way: what is acknowledged now is on those copies, too (R5).
  const replica::Configuration configuration = attachment.engine->Status().configuration;
  const std::uint32_t needed = configuration.version == watch_.in_force()->version
                                   ? watch_.in_force()->min_in_sync
                                   : configuration.min_in_sync;
  if (configuration.in_sync_count() >= needed) return;
  Fail(absl::StrCat("wait-not-lie: a write was acknowledged with too few copies: ",
                    replica::ToString(configuration), " while in force is ",
                    replica::ToString(*watch_.in_force())));
}

void GroupHarness::JudgeIoError(const Io& io, const absl::Status& status) {
  Attachment* const attachment = io.attachment;
  // Refused at the list: that says nothing about the engine.
  if (io.client != nullptr && io.client->told_at != 0 && absl::IsAborted(status)) return;
  const bool ends_all =
      absl::IsAborted(status) || absl::IsUnavailable(status) || io.kind == IoKind::kFlush;
  if (ends_all && attachment->errors_since == 0) attachment->errors_since = watch_.Tick();
  const bool disk_trouble = plan_.Has("disk_error") || plan_.Has("lying_flush");
  switch (status.code()) {
    case absl::StatusCode::kAborted:
      if (attachment->epoch.attachment + 1 < next_attachment_ ||
          attachment != attachments_.back().get()) {
        SIM_PROBE("group: an engine was fenced");
        return;
      }
      break;
    case absl::StatusCode::kUnavailable:
      if (struck_ || attachment->state != Attachment::State::kServing) return;
      break;
    case absl::StatusCode::kInternal:
      if (disk_trouble || plan_.Has("full_disk")) return;
      break;
    case absl::StatusCode::kDataLoss:
      if (plan_.Has("rot") || plan_.Has("lying_flush")) {
        SIM_PROBE("group: no good copy of a block was left");
        return;
      }
      break;
    case absl::StatusCode::kResourceExhausted:
      if (io.kind != IoKind::kRead && plan_.Has("full_disk")) {
        SIM_PROBE("group: a write met a full disk everywhere");
        if (io.kind == IoKind::kWrite) {
          watch_.Refused(attachment->epoch, io.first, io.count, io.version);
        }
        return;
      }
      break;
    default:
      break;
  }
  Fail(
      absl::StrCat(Name(io), " ended in ", status.ToString(), " for no reason known to the model"));
}

}  // namespace keelson::sim
