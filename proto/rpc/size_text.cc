#include "proto/rpc/size_text.h"

#include <array>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace keelson::rpc {
namespace {

constexpr std::string_view kUnits = "kmgtp";
constexpr std::uint64_t kSizeMax = std::numeric_limits<std::int64_t>::max();

absl::Status Refused(std::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(
      "'", std::string(text),
      "' is not a size: write a number with an optional suffix k, m, g, t or p (powers "
      "of 1024), for example 4096, 64k or 1.5t"));
}

// The power of two that `suffix` stands for; -1: not a suffix.
int ShiftOf(std::string_view suffix) {
  if (suffix.empty() || suffix == "b") return 0;
  const std::size_t unit = kUnits.find(suffix[0]);
  if (unit == std::string_view::npos) return -1;
  const std::string_view rest = suffix.substr(1);
  if (!rest.empty() && rest != "b" && rest != "ib") return -1;
  return static_cast<int>(unit + 1) * 10;
}

}  // namespace

absl::StatusOr<std::uint64_t> ParseSize(std::string_view text) {
  const std::string lower = absl::AsciiStrToLower(std::string(text));
  const std::size_t digits_end = lower.find_first_not_of("0123456789.");
  const std::string number = lower.substr(0, digits_end);
  const int shift =
      digits_end == std::string::npos ? 0 : ShiftOf(std::string_view(lower).substr(digits_end));
  const std::size_t point = number.find('.');
  const std::string whole = number.substr(0, point);
  const std::string fraction = point == std::string::npos ? "" : number.substr(point + 1);
  std::uint64_t whole_value = 0;
  // Nine decimals are more than anybody writes, and keep the arithmetic below within 64 bits.
  if (shift < 0 || !absl::SimpleAtoi(whole, &whole_value) || fraction.size() > 9 ||
      (point != std::string::npos && fraction.empty())) {
    return Refused(text);
  }
  if (whole_value > (kSizeMax >> shift)) return Refused(text);
  std::uint64_t size_bytes = whole_value << shift;
  if (!fraction.empty()) {
    std::uint64_t numerator = 0;
    std::uint64_t denominator = 1;
    if (!absl::SimpleAtoi(fraction, &numerator)) return Refused(text);
    for (std::size_t i = 0; i < fraction.size(); ++i) denominator *= 10;
    const auto scaled = static_cast<unsigned __int128>(numerator) << shift;
    if (scaled % denominator != 0) return Refused(text);
    size_bytes += static_cast<std::uint64_t>(scaled / denominator);
    if (size_bytes > kSizeMax) return Refused(text);
  }
  return size_bytes;
}

std::string HumanSize(std::uint64_t size_bytes) {
  static constexpr std::array<const char*, 7> kNames = {"B",   "KiB", "MiB", "GiB",
                                                        "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  std::uint64_t divisor = 1;
  while (unit + 1 < kNames.size() && size_bytes / divisor >= 1024) {
    divisor *= 1024;
    ++unit;
  }
  const std::uint64_t whole = size_bytes / divisor;
  const auto rest = static_cast<unsigned __int128>(size_bytes % divisor);
  const auto tenths = static_cast<std::uint64_t>(rest * 10 / divisor);  // cut, not rounded
  if (tenths == 0) return absl::StrCat(whole, " ", kNames[unit]);
  return absl::StrCat(whole, ".", tenths, " ", kNames[unit]);
}

}  // namespace keelson::rpc
