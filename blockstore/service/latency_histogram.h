#pragma once
// LatencyHistogram: durations in buckets of about 3 % width, in fixed memory. A plain value.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace keelson::service {

class LatencyHistogram {
 public:
  void Add(std::uint64_t nanoseconds) {
    ++buckets_[BucketOf(nanoseconds)];
    ++count_;
  }
  std::uint64_t count() const { return count_; }

  // Nanoseconds that `fraction` (0 to 1) of the durations do not exceed, to within a bucket's
  // width; 0 when there are none.
  std::uint64_t Percentile(double fraction) const {
    const auto rank = static_cast<std::uint64_t>(fraction * static_cast<double>(count_));
    std::uint64_t seen = 0;
    for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
      seen += buckets_[bucket];
      if (seen > rank || (seen == count_ && seen > 0)) return UpperBound(bucket);
    }
    return 0;
  }

 private:
  // Values below 2^kBits have a bucket each; above, every power of two has 2^kBits buckets.
  static constexpr unsigned kBits = 5;
  static constexpr std::size_t kPerPower = std::size_t{1} << kBits;

  static std::size_t BucketOf(std::uint64_t value) {
    if (value < kPerPower) return value;
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - 1 - kBits;
    return (shift + 1) * kPerPower + ((value >> shift) - kPerPower);
  }
  static std::uint64_t UpperBound(std::size_t bucket) {
    if (bucket < kPerPower) return bucket;
    const std::size_t shift = bucket / kPerPower - 1;
    return ((kPerPower + bucket % kPerPower + 1) << shift) - 1;
  }

  std::array<std::uint64_t, kPerPower * (64 - kBits + 1)> buckets_{};
  std::uint64_t count_ = 0;
};

}  // namespace keelson::service
