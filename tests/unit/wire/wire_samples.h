#pragma once
// What the tests of the data protocol send: ids, generations, configurations, and frames as bytes.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "blockstore/replica/configuration.h"
#include "blockstore/wire/frame.h"

namespace keelson::wire::testing {

inline std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline pool::Uuid Id(std::uint8_t fill) {
  pool::Uuid uuid;
  uuid.bytes.fill(fill);
  return uuid;
}

inline pool::Epoch SomeEpoch() {
  return {.attachment = 7, .restart = 3, .engine = pool::EngineId(Id(9))};
}
inline pool::Generation SomeGeneration(std::uint64_t counter = 41) {
  return {SomeEpoch(), counter};
}

inline replica::Configuration SomeConfiguration() {
  replica::Configuration configuration;
  configuration.volume = pool::VolumeId(Id(1));
  configuration.volume_name = "pvc-1";
  configuration.version = {SomeEpoch(), 5};
  for (std::uint8_t i = 0; i < 3; ++i) {
    replica::Member member;
    member.pool = pool::PoolId(Id(static_cast<std::uint8_t>(10 + i)));
    member.replica = pool::ReplicaId(Id(static_cast<std::uint8_t>(20 + i)));
    member.incarnation = Id(static_cast<std::uint8_t>(30 + i));
    member.address = "10.0.0.1:4711";
    member.state = replica::MemberState::kInSync;
    configuration.members.push_back(member);
  }
  configuration.size_bytes = std::uint64_t{64} << 20;
  configuration.clean = SomeGeneration(4);
  return configuration;
}

inline FrameHead SomeHead(FrameType type, std::uint64_t request_id = 77) {
  FrameHead head;
  head.type = type;
  head.request_id = request_id;
  head.epoch = SomeEpoch();
  head.incarnation = Id(30);
  return head;
}

// The frame as it lies on the wire.
inline std::string Flat(const EncodedFrame& frame) {
  std::string bytes(reinterpret_cast<const char*>(frame.head.data()), frame.head_bytes);
  bytes += frame.body;
  bytes.append(reinterpret_cast<const char*>(frame.data.data()), frame.data.size());
  return bytes;
}

}  // namespace keelson::wire::testing
