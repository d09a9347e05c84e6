#pragma once
// `keelson-blockstore tool bench`: drives an engine in this process with coroutines, without NBD or
// a socket, so that what the engine costs can be told from what a frontend and a client cost. Works
// in a temporary volume of an otherwise unused pool. Everything on the pool's reactor.

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "blockstore/io/reactor.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::service {

enum class BenchPattern { kRead, kWrite, kRandomRead, kRandomWrite, kRandomMixed };
enum class BenchLayout {
  kFresh,     // nothing is allocated: each write allocates (random ones hit each block once)
  kFilled,    // everything was written once
  kSnapshot,  // everything was written once, then a snapshot was taken
};

struct BenchOptions {
  std::uint64_t volume_bytes = std::uint64_t{1} << 30;
  BenchPattern pattern = BenchPattern::kRandomRead;
  BenchLayout layout = BenchLayout::kFilled;
  std::uint64_t block_bytes = 4096;  // a multiple of 4096, at most 1 MiB
  std::uint32_t depth = 32;          // coroutines, each with one request in flight
  std::int64_t runtime_ns = 10'000'000'000;
  std::uint64_t size_bytes = 0;     // ends after so many bytes; 0: by time only
  std::uint32_t flush_every = 0;    // writes; 0: never
  std::uint32_t read_percent = 70;  // of kRandomMixed
};

struct BenchResult {
  std::uint64_t operations = 0;  // reads and writes
  double seconds = 0;
  double iops = 0;
  double mbps = 0;  // 10^6 bytes per second
  double p50_us = 0;
  double p99_us = 0;
  double cpu_us_per_io = 0;  // of the whole process, its metadata threads included
  std::uint64_t flushes = 0;
  double flush_p50_us = 0;
  double flush_p99_us = 0;
};

// Bytes of buffers that the options need of the reactor.
std::uint64_t BenchBufferBytes(const BenchOptions& options);

// Makes the volume, prepares its layout, measures, and deletes the volume, also after an error or
// once
// `*stop` is true. Both pointers outlive the task. Volumes that a killed run left are deleted
// first.
io::Task<absl::StatusOr<BenchResult>> RunBench(replica::ReplicaStore* store, BenchOptions options,
                                               const std::atomic<bool>* stop);

}  // namespace keelson::service
