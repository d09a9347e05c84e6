#pragma once
// Going through a table of a MetaStore from its first entry to its last, page by page.

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "blockstore/io/task.h"
#include "blockstore/pool/meta_store.h"

namespace keelson::pool {

// Calls `visit(key, value)` for every entry whose key starts with `prefix`, in key order, and ends
// with the first error it returns, or the store's. `visit` does not wait; between pages others run.
// REQUIRES: awaited in the expression that calls it (`visit` is a reference).
io::Task<absl::Status> ForEachEntry(
    MetaStore* store, Table table, std::string prefix,
    absl::FunctionRef<absl::Status(const std::string& key, const std::string& value)> visit);

}  // namespace keelson::pool
