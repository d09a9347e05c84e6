#pragma once
// Keys of records and ids of objects (docs/provisioner.md). A key is made of the hash of a name, an
// id is a key and digits drawn when the record is made; nothing of a caller's text is in them.
// Pure but for RandomHex; any thread.

#include <cstdint>
#include <string>
#include <string_view>

namespace keelson::provisioner {

inline constexpr std::string_view kVolumePrefix = "ks";
inline constexpr std::string_view kSnapshotPrefix = "kss";
inline constexpr std::string_view kGroupPrefix = "ksg";

// `digits` lower-case hexadecimal digits from the kernel.
std::string RandomHex(std::size_t digits);

// "ks-0123456789abcdef0123-0". `number` tells records of one name apart, of which at most one is
// alive.
std::string KeyOfName(std::string_view prefix, std::string_view name, std::uint32_t number);

// A new id for a record.
std::string NewId(const std::string& key);

// The key in an id of that kind; empty: it is none of ours.
std::string KeyOfId(std::string_view prefix, std::string_view id);

}  // namespace keelson::provisioner
