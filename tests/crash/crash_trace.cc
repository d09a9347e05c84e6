#include "tests/crash/crash_trace.h"

#include <istream>
#include <ostream>

namespace keelson::crash {

void SaveU64(std::ostream* out, std::uint64_t value) {
  out->write(reinterpret_cast<const char*>(&value), sizeof value);
}

std::uint64_t LoadU64(std::istream* in) {
  std::uint64_t value = 0;
  in->read(reinterpret_cast<char*>(&value), sizeof value);
  return in->good() ? value : 0;
}

void SaveString(std::ostream* out, const std::string& text) {
  SaveU64(out, text.size());
  out->write(text.data(), static_cast<std::streamsize>(text.size()));
}

std::string LoadString(std::istream* in) {
  std::string text(LoadU64(in), '\0');
  in->read(text.data(), static_cast<std::streamsize>(text.size()));
  return text;
}

void CrashTrace::Save(std::ostream* out) const {
  SaveU64(out, next_number_);
  SaveU64(out, events_.size());
  for (const Event& event : events_) {
    SaveU64(out, static_cast<std::uint64_t>(event.kind));
    SaveU64(out, event.file);
    SaveU64(out, event.offset);
    SaveU64(out, event.count);
    SaveString(out, event.name);
    SaveString(out, event.name2);
    SaveString(out, event.bytes);
    SaveU64(out, event.blocks.size());
    for (const Block& block : event.blocks) {
      out->write(reinterpret_cast<const char*>(block.data()), kBlockBytes);
    }
  }
}

bool CrashTrace::Load(std::istream* in) {
  next_number_ = LoadU64(in);
  events_.resize(LoadU64(in));
  for (Event& event : events_) {
    event.kind = static_cast<Event::Kind>(LoadU64(in));
    event.file = LoadU64(in);
    event.offset = LoadU64(in);
    event.count = LoadU64(in);
    event.name = LoadString(in);
    event.name2 = LoadString(in);
    event.bytes = LoadString(in);
    event.blocks.resize(LoadU64(in));
    for (Block& block : event.blocks) {
      in->read(reinterpret_cast<char*>(block.data()), kBlockBytes);
    }
  }
  return in->good();
}

}  // namespace keelson::crash
