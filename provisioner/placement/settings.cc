#include "provisioner/placement/settings.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace keelson::provisioner::placement {
namespace {

constexpr std::uint32_t kReplicasMax = 5;

// Settings while they are read.
struct Draft {
  control::v1::Settings settings{};
  bool min_in_sync_named = false;
};

// Digits alone, no sign, no space; nothing: not a number, or too large a one.
std::optional<std::uint64_t> ParseNumber(std::string_view text) {
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  std::uint64_t number = 0;
  if (!digits || !absl::SimpleAtoi(std::string(text), &number)) return std::nullopt;
  return number;
}

// A quantity as Kubernetes writes it: 100Mi is 100 x 2^20, 100M is 100 x 10^6.
std::optional<std::uint64_t> ParseQuantity(std::string_view text) {
  struct Unit {
    std::string_view suffix;
    std::uint64_t factor;
  };
  constexpr std::array kUnits = {Unit{"Ki", 1ULL << 10},   Unit{"Mi", 1ULL << 20},
                                 Unit{"Gi", 1ULL << 30},   Unit{"Ti", 1ULL << 40},
                                 Unit{"k", 1'000},         Unit{"M", 1'000'000},
                                 Unit{"G", 1'000'000'000}, Unit{"T", 1'000'000'000'000}};
  std::uint64_t factor = 1;
  for (const Unit& unit : kUnits) {
    if (!text.ends_with(unit.suffix)) continue;
    factor = unit.factor;
    text.remove_suffix(unit.suffix.size());
    break;
  }
  const std::optional<std::uint64_t> number = ParseNumber(text);
  constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
  if (!number || *number > kMax / factor) return std::nullopt;
  return *number * factor;
}

bool IsOneOf(std::string_view value, std::initializer_list<std::string_view> allowed) {
  return std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

// 1 to kReplicasMax, or 0.
std::uint32_t ParseCount(std::string_view value) {
  const std::optional<std::uint64_t> count = ParseNumber(value);
  return count && *count <= kReplicasMax ? static_cast<std::uint32_t>(*count) : 0;
}

struct Parameter {
  std::string_view name;
  bool changes_later;
  std::string_view allowed;
  bool (*set)(std::string_view value, Draft* draft);  // false: not allowed
};

constexpr std::array kParameters = {
    Parameter{"replicas", true, "1 to 5",
              [](std::string_view value, Draft* draft) {
                draft->settings.set_replicas(ParseCount(value));
                return draft->settings.replicas() != 0;
              }},
    Parameter{"minInSync", true, "1 to the number of replicas",
              [](std::string_view value, Draft* draft) {
                draft->settings.set_min_in_sync(ParseCount(value));
                draft->min_in_sync_named = true;
                return draft->settings.min_in_sync() != 0;
              }},
    Parameter{"dataLocality", false, "disabled, bestEffort or strictLocal",
              [](std::string_view value, Draft* draft) {
                draft->settings.set_data_locality(std::string(value));
                return IsOneOf(value, {"disabled", "bestEffort", "strictLocal"});
              }},
    Parameter{"zoneSpread", false, "true or false",
              [](std::string_view value, Draft* draft) {
                draft->settings.set_zone_spread(value == "true");
                return IsOneOf(value, {"true", "false"});
              }},
    Parameter{"frontend", false, "auto, loop or nbd",
              [](std::string_view value, Draft* draft) {
                draft->settings.set_frontend(std::string(value));
                return IsOneOf(value, {"auto", "loop", "nbd"});
              }},
    Parameter{"encrypted", false, "false: there is no encryption of volumes yet",
              [](std::string_view value, Draft* /*draft*/) { return value == "false"; }},
    Parameter{"thin", false, "true: every volume takes only the space that was written",
              [](std::string_view value, Draft* /*draft*/) { return value == "true"; }},
    Parameter{"iops", true, "a number of requests per second, or 0 for no limit",
              [](std::string_view value, Draft* draft) {
                const std::optional<std::uint64_t> iops = ParseNumber(value);
                draft->settings.set_iops(iops.value_or(0));
                return iops.has_value();
              }},
    Parameter{"bandwidth", true, "bytes per second, such as 100Mi or 250M, or 0 for no limit",
              [](std::string_view value, Draft* draft) {
                const std::optional<std::uint64_t> bytes = ParseQuantity(value);
                draft->settings.set_bandwidth_bytes_per_second(bytes.value_or(0));
                return bytes.has_value();
              }}};

// What a caller wrote, fit for a message.
std::string Shown(std::string_view text) {
  constexpr std::size_t kShownBytes = 64;
  return absl::StrCat("'", absl::CHexEscape(std::string(text.substr(0, kShownBytes))),
                      text.size() > kShownBytes ? "...'" : "'");
}

// How many letters are to be put in, taken out or changed, whatever their case.
std::size_t Distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const bool same = absl::ascii_tolower(static_cast<unsigned char>(a[i])) ==
                        absl::ascii_tolower(static_cast<unsigned char>(b[j]));
      const std::size_t changed = diagonal + (same ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

absl::Status UnknownParameter(std::string_view key) {
  std::string known;
  const Parameter* nearest = nullptr;
  constexpr std::size_t kNearMax = 4;  // letters; further away it is another word
  std::size_t nearest_distance = kNearMax + 1;
  for (const Parameter& parameter : kParameters) {
    absl::StrAppend(&known, known.empty() ? "" : ", ", std::string(parameter.name));
    const std::size_t distance = Distance(key.substr(0, 64), parameter.name);
    if (distance >= std::min(nearest_distance, parameter.name.size())) continue;
    nearest_distance = distance;
    nearest = &parameter;
  }
  const std::string meant =
      nearest == nullptr ? "" : absl::StrCat(" (is '", std::string(nearest->name), "' meant?)");
  return absl::InvalidArgumentError(
      absl::StrCat("there is no parameter ", Shown(key), meant, "; known are ", known));
}

bool IsOfKubernetes(std::string_view key) {
  return key.starts_with("csi.storage.k8s.io/") || key.starts_with("storage.kubernetes.io/");
}

absl::Status SetOne(std::string_view key, std::string_view value, bool later, Draft* draft) {
  if (IsOfKubernetes(key)) return absl::OkStatus();
  for (const Parameter& parameter : kParameters) {
    if (parameter.name != key) continue;
    if (later && !parameter.changes_later) {
      return absl::InvalidArgumentError(
          absl::StrCat("parameter '", std::string(key), "' (", Shown(value),
                       ") cannot be changed later, so it belongs into a StorageClass, not into a "
                       "VolumeAttributesClass; replicas, minInSync, iops and bandwidth can"));
    }
    if (parameter.set(value, draft)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("parameter '", std::string(key), "' is ",
                                                   Shown(value), "; allowed is ",
                                                   std::string(parameter.allowed)));
  }
  return UnknownParameter(key);
}

// In the order of their names, so that of several errors always the same one is told.
absl::Status SetAll(const Parameters& parameters, bool later, Draft* draft) {
  std::vector<std::pair<std::string_view, std::string_view>> sorted;
  for (const auto& [key, value] : parameters) sorted.emplace_back(key, value);
  std::sort(sorted.begin(), sorted.end());
  for (const auto& [key, value] : sorted) {
    if (absl::Status set = SetOne(key, value, later, draft); !set.ok()) return set;
  }
  return absl::OkStatus();
}

absl::Status CheckTogether(const control::v1::Settings& settings) {
  if (settings.data_locality() == "strictLocal" && settings.replicas() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("parameter 'dataLocality' is 'strictLocal', which keeps the only copy on the "
                     "node of its user, and 'replicas' is ",
                     settings.replicas(), "; allowed is 1 with it, or 'bestEffort'"));
  }
  if (settings.min_in_sync() > settings.replicas()) {
    return absl::InvalidArgumentError(
        absl::StrCat("parameter 'minInSync' is ", settings.min_in_sync(), " and 'replicas' is ",
                     settings.replicas(), "; allowed is 1 to ", settings.replicas()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<control::v1::Settings> ParseSettings(const Parameters& parameters,
                                                    const Parameters& mutable_parameters) {
  Draft draft;
  control::v1::Settings& settings = draft.settings;
  settings.set_replicas(3);
  settings.set_data_locality("disabled");
  settings.set_frontend("auto");
  if (absl::Status set = SetAll(parameters, false, &draft); !set.ok()) return set;
  if (absl::Status set = SetAll(mutable_parameters, true, &draft); !set.ok()) return set;
  if (!draft.min_in_sync_named) settings.set_min_in_sync(settings.replicas() >= 3 ? 2 : 1);
  if (absl::Status together = CheckTogether(settings); !together.ok()) return together;
  return std::move(settings);
}

absl::StatusOr<control::v1::Settings> ChangeSettings(const control::v1::Settings& present,
                                                     const Parameters& mutable_parameters) {
  Draft draft{.settings = present};
  control::v1::Settings& settings = draft.settings;
  if (absl::Status set = SetAll(mutable_parameters, true, &draft); !set.ok()) return set;
  const auto by_default = [](std::uint32_t replicas) { return replicas >= 3 ? 2U : 1U; };
  if (!draft.min_in_sync_named && present.min_in_sync() == by_default(present.replicas())) {
    settings.set_min_in_sync(by_default(settings.replicas()));
  } else if (!draft.min_in_sync_named && settings.replicas() < present.replicas()) {
    const std::uint32_t may_miss_one = std::max(settings.replicas(), 2U) - 1;
    settings.set_min_in_sync(std::min(present.min_in_sync(), may_miss_one));
  }
  if (absl::Status together = CheckTogether(settings); !together.ok()) return together;
  return std::move(settings);
}

}  // namespace keelson::provisioner::placement
