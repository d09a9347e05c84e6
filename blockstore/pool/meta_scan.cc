#include "blockstore/pool/meta_scan.h"

#include <utility>
#include <vector>

#include "blockstore/io/status.h"

namespace keelson::pool {

io::Task<absl::Status> ForEachEntry(
    MetaStore* store, Table table, std::string prefix,
    absl::FunctionRef<absl::Status(const std::string& key, const std::string& value)> visit) {
  constexpr std::size_t kPageEntries = 4096;
  std::string after;
  while (true) {
    absl::StatusOr<std::vector<MetaEntry>> page =
        co_await store->Scan(table, prefix, after, kPageEntries);
    if (!page.ok()) co_return page.status();
    for (const auto& [key, value] : *page) CO_RETURN_IF_ERROR(visit(key, value));
    if (page->size() < kPageEntries) co_return absl::OkStatus();
    after = page->back().first;
  }
}

}  // namespace keelson::pool
