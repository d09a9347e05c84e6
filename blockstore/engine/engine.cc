#include "blockstore/engine/engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/local_ports.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"

namespace keelson::engine {

Engine::Engine(io::Reactor* reactor, PortFactory* ports, AttachTarget target,
               absl::AnyInvocable<pool::Uuid()> make_id, EngineOptions options)
    : reactor_(reactor),
      ports_(ports),
      name_(std::move(target.name)),
      epoch_(target.epoch),
      segment_bytes_(target.segment_bytes != 0 ? target.segment_bytes : UINT64_MAX),
      options_(options),
      make_id_(std::move(make_id)),
      limiter_(reactor) {
  limiter_.SetLimits(options.qos);
  options_.segment.read_only = options_.read_only;
  hold_timer_.owner = this;
  hold_timer_.fire = [](io::TimerNode* timer) { static_cast<Engine*>(timer->owner)->EndHold(); };
}

Engine::~Engine() { KEEL_CHECK(detached_, "an engine is detached before it is destroyed"); }

io::Task<absl::StatusOr<std::unique_ptr<Engine>>> Engine::Attach(
    io::Reactor* reactor, PortFactory* ports, AttachTarget target,
    absl::AnyInvocable<pool::Uuid()> make_id, EngineOptions options) {
  const std::vector<SegmentHint> hints = target.segments;
  std::unique_ptr<Engine> engine(
      new Engine(reactor, ports, std::move(target), std::move(make_id), options));
  absl::Status status = co_await engine->AttachSegments(hints, &engine->segments_);
  engine->unflushed_.assign(hints.size(), true);  // what an earlier engine wrote may not be flushed
  if (status.ok()) status = engine->CheckSegments();
  if (!status.ok()) {
    // The reason is in hand; how the segments end adds nothing.
    (void)co_await engine->CloseAll();
    co_return status;
  }
  KEEL_LOG_INFO("event=attached volume={} epoch={}.{} size_bytes={} read_only={}", engine->name_,
                engine->epoch_.attachment, engine->epoch_.restart, engine->size_bytes(),
                options.read_only);
  co_return std::move(engine);
}

io::Task<absl::StatusOr<std::unique_ptr<Engine>>> Engine::Attach(replica::ReplicaStore* store,
                                                                 pool::ReplicaId id,
                                                                 EngineOptions options) {
  CO_ASSIGN_OR_RETURN(AttachTarget target, LocalTarget(store, id));
  auto ports = std::make_unique<LocalPorts>(store);
  LocalPorts* raw = ports.get();
  absl::AnyInvocable<pool::Uuid()> make_id = [store] { return store->pool().MakeId(); };
  io::Reactor* reactor = &store->pool().reactor();
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      co_await Attach(reactor, raw, std::move(target), std::move(make_id), options);
  if (engine.ok()) (*engine)->local_ports_ = std::move(ports);
  co_return engine;
}

// All at once: each of them may have to wait for a member that does not answer.
io::Task<absl::Status> Engine::AttachSegments(
    std::vector<SegmentHint> hints, std::vector<std::unique_ptr<SegmentEngine>>* attached) {
  std::vector<Attaching> all(hints.size());
  io::Latch latch(hints.size());
  for (std::size_t i = 0; i < hints.size(); ++i) {
    all[i].hint = std::move(hints[i]);
    if (!gate_.Spawn(AttachSegment(&all[i], &latch))) latch.Done();
  }
  co_await latch;
  absl::Status status;
  for (Attaching& one : all) {
    if (one.segment != nullptr) {
      attached->push_back(std::move(one.segment));
    } else if (status.ok()) {
      status = one.status;
    }
  }
  co_return status;
}

io::Task<void> Engine::AttachSegment(Attaching* one, io::Latch* latch) {
  absl::StatusOr<std::unique_ptr<SegmentEngine>> segment =
      co_await SegmentEngine::Attach(reactor_, ports_, one->hint, epoch_, options_.segment);
  one->status = segment.status();
  if (segment.ok()) one->segment = *std::move(segment);
  latch->Done();
}

absl::Status Engine::CheckSegments() const {
  const replica::Configuration first = segments_.front()->Status().configuration;
  const std::uint64_t bytes = first.segment_bytes == 0 ? UINT64_MAX : first.segment_bytes;
  if (first.segment_count != segments_.size() || bytes != segment_bytes_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", name_, " has ", first.segment_count, " segments of ", first.segment_bytes,
        " bytes, and the target names ", segments_.size(), " of ",
        segment_bytes_ == UINT64_MAX ? 0 : segment_bytes_, "; attach it with all of its segments"));
  }
  for (std::size_t i = 0; i + 1 < segments_.size(); ++i) {
    if (segments_[i]->size_bytes() == segment_bytes_) continue;
    return absl::DataLossError(absl::StrCat("volume ", name_, ": segment ", i, " has ",
                                            segments_[i]->size_bytes(), " bytes instead of ",
                                            segment_bytes_));
  }
  return absl::OkStatus();
}

std::uint64_t Engine::size_bytes() const {
  if (segments_.empty()) return 0;
  if (segments_.size() == 1) return segments_[0]->size_bytes();
  return (segments_.size() - 1) * segment_bytes_ + segments_.back()->size_bytes();
}

absl::Status Engine::health() const {
  for (const auto& segment : segments_) {
    if (!segment->health().ok()) return segment->health();
  }
  return absl::OkStatus();
}

pool::Epoch Engine::lost() const {
  pool::Epoch lost;
  for (const auto& segment : segments_) {
    const replica::Configuration configuration = segment->Status().configuration;
    lost = std::max({lost, configuration.lost, configuration.forced});
  }
  return lost;
}

absl::Status Engine::Detaching() const {
  return absl::UnavailableError(absl::StrCat("volume ", name_, " is being detached"));
}

absl::Status Engine::CheckRange(std::uint64_t offset, std::uint64_t size_bytes, bool writes) const {
  if (detaching_) return Detaching();
  if (offset % kBlockSize != 0 || size_bytes % kBlockSize != 0 || size_bytes == 0) {
    return absl::InvalidArgumentError(absl::StrCat("volume ", name_, ": a request of ", size_bytes,
                                                   " bytes at ", offset,
                                                   " is not made of whole 4096-byte blocks"));
  }
  const std::uint64_t end = this->size_bytes();
  if (offset > end || size_bytes > end - offset) {
    return absl::OutOfRangeError(absl::StrCat("volume ", name_, ": a request of ", size_bytes,
                                              " bytes at ", offset, " ends past its ", end,
                                              " bytes"));
  }
  if (writes && options_.read_only) {
    return absl::PermissionDeniedError(absl::StrCat("volume ", name_, " is attached read-only"));
  }
  return absl::OkStatus();
}

Engine::Part Engine::PartAt(std::uint64_t offset, std::uint64_t size_bytes) const {
  Part part;
  part.segment = static_cast<std::size_t>(offset / segment_bytes_);
  part.offset = offset % segment_bytes_;
  part.size_bytes = std::min(size_bytes, segment_bytes_ - part.offset);
  return part;
}

absl::Status Engine::Count(absl::Status status) {
  if (!status.ok()) [[unlikely]]
    ++counters_.errors;
  return status;
}

io::Task<absl::Status> Engine::Read(std::uint64_t offset, std::span<std::byte> into) {
  absl::Status status = CheckRange(offset, into.size(), /*writes=*/false);
  if (!status.ok()) co_return Count(std::move(status));
  InFlight in_flight(this);
  if (limiter_.limited()) co_await limiter_.Admit(into.size());
  ++counters_.reads;
  counters_.read_bytes += into.size();
  while (!into.empty() && status.ok()) {
    const Part part = PartAt(offset, into.size());
    status = co_await segments_[part.segment]->Read(part.offset, into.first(part.size_bytes));
    offset += part.size_bytes;
    into = into.subspan(part.size_bytes);
  }
  co_return Count(std::move(status));
}

io::Task<absl::Status> Engine::Write(std::uint64_t offset, std::span<const std::byte> from,
                                     bool fua) {
  absl::Status status = CheckRange(offset, from.size(), /*writes=*/true);
  if (!status.ok()) co_return Count(std::move(status));
  InFlight in_flight(this);
  if (limiter_.limited()) co_await limiter_.Admit(from.size());
  ++counters_.writes;
  counters_.written_bytes += from.size();
  while (!from.empty() && status.ok()) {
    const Part part = PartAt(offset, from.size());
    unflushed_[part.segment] = true;
    status = co_await segments_[part.segment]->Write(part.offset, from.first(part.size_bytes));
    // Again: a flush that began meanwhile does not cover it.
    unflushed_[part.segment] = true;
    if (status.ok() && fua) status = co_await segments_[part.segment]->Flush();
    offset += part.size_bytes;
    from = from.subspan(part.size_bytes);
  }
  co_return Count(std::move(status));
}

io::Task<absl::Status> Engine::Trim(std::uint64_t offset, std::uint64_t size_bytes, bool fua) {
  absl::Status status = CheckRange(offset, size_bytes, /*writes=*/true);
  if (!status.ok()) co_return Count(std::move(status));
  InFlight in_flight(this);
  if (limiter_.limited()) co_await limiter_.Admit(size_bytes);
  ++counters_.trims;
  counters_.trimmed_bytes += size_bytes;
  while (size_bytes > 0 && status.ok()) {
    const Part part = PartAt(offset, size_bytes);
    unflushed_[part.segment] = true;
    status = co_await segments_[part.segment]->Trim(part.offset, part.size_bytes);
    unflushed_[part.segment] = true;
    if (status.ok() && fua) status = co_await segments_[part.segment]->Flush();
    offset += part.size_bytes;
    size_bytes -= part.size_bytes;
  }
  co_return Count(std::move(status));
}

io::Task<absl::Status> Engine::Flush() {
  if (detaching_) co_return Count(Detaching());
  InFlight in_flight(this);
  if (limiter_.limited()) co_await limiter_.Admit(0);
  ++counters_.flushes;
  absl::Status status;
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    // A segment that nobody wrote to since its last flush has nothing to add (R8); with one segment
    // the member knows that better.
    if (segments_.size() > 1 && !unflushed_[i]) continue;
    unflushed_[i] = false;
    absl::Status flushed = co_await segments_[i]->Flush();
    if (!flushed.ok()) {
      unflushed_[i] = true;
      if (status.ok()) status = std::move(flushed);
    }
  }
  co_return Count(std::move(status));
}

io::Task<absl::StatusOr<std::vector<BlockRun>>> Engine::Status(std::uint64_t offset,
                                                               std::uint64_t size_bytes,
                                                               std::size_t runs_max) {
  CO_RETURN_IF_ERROR(CheckRange(offset, size_bytes, /*writes=*/false));
  InFlight in_flight(this);
  std::vector<BlockRun> runs;
  while (size_bytes > 0 && runs.size() < runs_max) {
    const Part part = PartAt(offset, size_bytes);
    absl::StatusOr<std::vector<replica::DataRun>> found =
        co_await segments_[part.segment]->Map(part.offset, part.size_bytes, runs_max - runs.size());
    if (!found.ok()) co_return found.status();
    std::uint64_t covered = 0;
    for (const replica::DataRun& run : *found) {
      runs.push_back({run.size_bytes, run.hole});
      covered += run.size_bytes;
    }
    if (covered < part.size_bytes) break;  // as many runs as were asked for
    offset += covered;
    size_bytes -= covered;
  }
  co_return runs;
}

io::Task<absl::Status> Engine::SetMinInSync(std::uint32_t copies) {
  InFlight in_flight(this);
  for (const auto& segment : segments_) {
    CO_RETURN_IF_ERROR(co_await segment->SetMinInSync(copies));
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Engine::AddSegments(std::vector<SegmentHint> hints) {
  InFlight in_flight(this);
  // A snapshot is of all segments or of none.
  io::AsyncMutex::Guard guard = co_await snapshots_.Lock();
  if (hold_) {
    co_return absl::UnavailableError(absl::StrCat(
        "volume ", name_, ": writes are held for a snapshot; add segments when it has ended"));
  }
  if (segment_bytes_ == UINT64_MAX || segments_.back()->size_bytes() != segment_bytes_) {
    co_return absl::FailedPreconditionError(absl::StrCat(
        "volume ", name_,
        segment_bytes_ == UINT64_MAX ? " was made to have one segment only"
                                     : " has room in its last segment; grow that one first"));
  }
  const std::size_t before = segments_.size();
  std::erase_if(hints, [before](const SegmentHint& hint) { return hint.segment < before; });
  for (std::size_t i = 0; i < hints.size(); ++i) {
    if (hints[i].segment == before + i) continue;
    co_return absl::InvalidArgumentError(absl::StrCat(
        "volume ", name_, ": segment ", hints[i].segment, " does not follow the last one"));
  }
  std::vector<std::unique_ptr<SegmentEngine>> added;
  absl::Status status = co_await AttachSegments(std::move(hints), &added);
  const auto count = static_cast<std::uint32_t>(segments_.size() + added.size());
  if (status.ok() && !added.empty()) status = co_await segments_[0]->SetSegmentCount(count);
  for (auto& segment : added) {
    if (!status.ok()) {
      // Why it failed is known; how the new segments end adds nothing.
      (void)co_await segment->Close();
      continue;
    }
    segments_.push_back(std::move(segment));
    unflushed_.push_back(false);
  }
  co_return status;
}

io::Task<absl::Status> Engine::Grow(std::uint64_t size_bytes) {
  InFlight in_flight(this);
  const std::uint64_t before = (segments_.size() - 1) * segment_bytes_;
  const std::uint64_t start = segments_.size() > 1 ? before : 0;
  if (size_bytes < this->size_bytes()) {
    co_return absl::OutOfRangeError(absl::StrCat("volume ", name_, " has ", this->size_bytes(),
                                                 " bytes and cannot shrink to ", size_bytes));
  }
  if (size_bytes - start > segment_bytes_) {
    co_return absl::OutOfRangeError(absl::StrCat(
        "volume ", name_, " has segments of ", segment_bytes_, " bytes: it grows to at most ",
        start + segment_bytes_, " bytes without a further segment"));
  }
  co_return co_await segments_.back()->Grow(size_bytes - start);
}

absl::Status Engine::StartScrub(ScrubOptions options) {
  if (detaching_) return Detaching();
  if (options.bytes_per_second > 0) {
    options.bytes_per_second =
        std::max<std::uint64_t>(1, options.bytes_per_second / segments_.size());
  }
  for (const auto& segment : segments_) RETURN_IF_ERROR(segment->StartScrub(options));
  return absl::OkStatus();
}

bool Engine::scrubbing() const {
  return std::any_of(segments_.begin(), segments_.end(), [](const auto& segment) {
    const std::optional<ScrubStatus> scrub = segment->Status().scrub;
    return scrub.has_value() && scrub->running;
  });
}

io::Task<absl::Status> Engine::RollGeneration() {
  InFlight in_flight(this);
  absl::Status status;
  for (const auto& segment : segments_) {
    absl::Status rolled = co_await segment->RollGeneration();
    if (status.ok()) status = std::move(rolled);
  }
  co_return status;
}

io::Task<absl::Status> Engine::CloseAll() {
  // At once, as the attach.
  std::vector<absl::Status> closed(segments_.size());
  io::Latch latch(segments_.size());
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    if (!gate_.Spawn(CloseSegment(segments_[i].get(), &closed[i], &latch))) latch.Done();
  }
  co_await latch;
  co_await gate_.Close();
  detaching_ = true;
  detached_ = true;
  for (const absl::Status& one : closed) CO_RETURN_IF_ERROR(one);
  co_return absl::OkStatus();
}

io::Task<void> Engine::CloseSegment(SegmentEngine* segment, absl::Status* status,
                                    io::Latch* latch) {
  *status = co_await segment->Close();
  latch->Done();
}

void Engine::LetGo() {
  limiter_.SetLimits({});
  EndHold();
}

io::Task<absl::Status> Engine::Detach() {
  detaching_ = true;
  LetGo();
  // Each segment waits for its requests, for as long as it is worth.
  absl::Status status = co_await CloseAll();
  while (requests_in_flight_ > 0) co_await drained_.Wait();
  KEEL_LOG_INFO("event=detached volume={} epoch={}.{} status=\"{}\"", name_, epoch_.attachment,
                epoch_.restart, status.ToString());
  co_return status;
}

}  // namespace keelson::engine
