#pragma once
// `keelson-blockstore tool ...`: work on a pool that no daemon has open, in this process. Each
// function prints its result to standard output, what goes wrong to standard error, and returns the
// exit code: 0 done (and the pool is sound), 1 failed or problems found. Blocking; main thread.

#include <string>

#include "blockstore/io/reactor.h"
#include "blockstore/pool/pool_directory.h"
#include "blockstore/replica/check.h"
#include "blockstore/service/bench.h"

namespace keelson::service {

int ToolCreate(const io::ReactorOptions& reactor, const pool::CreatePoolOptions& options);
int ToolCheck(const io::ReactorOptions& reactor, const std::string& directory,
              const replica::CheckOptions& options, bool json);
int ToolDump(const io::ReactorOptions& reactor, const std::string& directory);
// Ends early, and still deletes its volume, on SIGINT and SIGTERM.
int ToolBench(const io::ReactorOptions& reactor, const std::string& directory,
              const BenchOptions& options, bool json);

const char* BenchPatternName(BenchPattern pattern);
const char* BenchLayoutName(BenchLayout layout);

}  // namespace keelson::service
