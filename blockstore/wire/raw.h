#pragma once
// Between the layouts of protocol.h and the types of the data plane. For this folder's .cc files.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "blockstore/pool/block_bits.h"
#include "blockstore/pool/ids.h"
#include "blockstore/replica/replica_port.h"
#include "blockstore/wire/protocol.h"

namespace keelson::wire {

template <typename Raw>
Raw LoadRaw(const std::byte* from) {
  static_assert(std::is_trivially_copyable_v<Raw>);
  Raw raw;
  std::memcpy(&raw, from, sizeof(raw));
  return raw;
}

template <typename Raw>
void AppendRaw(const Raw& raw, std::string* out) {
  static_assert(std::is_trivially_copyable_v<Raw>);
  out->append(reinterpret_cast<const char*>(&raw), sizeof(raw));
}

inline void StoreUuid(const pool::Uuid& uuid, std::uint8_t (*to)[16]) {
  std::memcpy(*to, uuid.bytes.data(), sizeof(*to));
}
inline pool::Uuid LoadUuid(const std::uint8_t (&from)[16]) {
  pool::Uuid uuid;
  std::memcpy(uuid.bytes.data(), from, sizeof(from));
  return uuid;
}

inline RawGeneration ToRaw(const pool::Generation& generation) {
  RawGeneration raw{};
  raw.attachment = generation.epoch.attachment;
  raw.counter = generation.counter;
  raw.restart = generation.epoch.restart;
  StoreUuid(generation.epoch.engine, &raw.engine);
  return raw;
}
inline pool::Generation FromRaw(const RawGeneration& raw) {
  pool::Generation generation;
  generation.epoch.attachment = raw.attachment;
  generation.epoch.restart = raw.restart;
  generation.epoch.engine = pool::EngineId(LoadUuid(raw.engine));
  generation.counter = raw.counter;
  return generation;
}

inline RawExtentContent ToRaw(const replica::ExtentContent& content) {
  RawExtentContent raw{};
  std::memcpy(raw.data, content.data.words().data(), sizeof(raw.data));
  std::memcpy(raw.zeroed, content.zeroed.words().data(), sizeof(raw.zeroed));
  return raw;
}
inline replica::ExtentContent FromRaw(const RawExtentContent& raw) {
  replica::ExtentContent content;
  std::memcpy(content.data.words().data(), raw.data, sizeof(raw.data));
  std::memcpy(content.zeroed.words().data(), raw.zeroed, sizeof(raw.zeroed));
  return content;
}

inline RawProgress ToRaw(const replica::ResyncProgress& progress) {
  RawProgress raw{};
  raw.generation = ToRaw(progress.generation);
  raw.position = progress.position;
  return raw;
}
inline replica::ResyncProgress FromRaw(const RawProgress& raw) {
  replica::ResyncProgress progress;
  progress.position = raw.position;
  progress.generation = FromRaw(raw.generation);
  return progress;
}

}  // namespace keelson::wire
