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

inline void StoreBits(const pool::BlockBits& bits, std::uint64_t (*to)[4]) {
  std::memcpy(*to, bits.words().data(), sizeof(*to));
}
inline pool::BlockBits LoadBits(const std::uint64_t (&from)[4]) {
  pool::BlockBits bits;
  std::memcpy(bits.words().data(), from, sizeof(from));
  return bits;
}

inline RawExtentContent ToRaw(const replica::ExtentContent& content) {
  RawExtentContent raw{};
  StoreBits(content.data, &raw.data);
  StoreBits(content.zeroed, &raw.zeroed);
  return raw;
}
inline replica::ExtentContent FromRaw(const RawExtentContent& raw) {
  replica::ExtentContent content;
  content.data = LoadBits(raw.data);
  content.zeroed = LoadBits(raw.zeroed);
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
