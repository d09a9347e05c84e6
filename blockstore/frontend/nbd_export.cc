#include "blockstore/frontend/nbd_export.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace keelson::frontend {

Export ExportDirectory::Describe(std::string_view asked) {
  Export found;
  found.name = asked;
  found.device = Find(asked);
  found.read_only = found.device != nullptr && found.device->read_only();
  found.description = absl::StrCat("Keelson volume ", found.name);
  return found;
}

io::Task<std::unique_ptr<engine::BlockDevice>> ExportDirectory::Open(std::string,
                                                                     absl::AnyInvocable<void()>) {
  co_return nullptr;
}

Export NbdExports::Resolve(std::string_view asked) const {
  std::vector<std::string> names;
  if (asked.empty()) {
    names = Names();
    if (names.size() != 1) return {};
    asked = names.front();
  }
  Export found = directory_->Describe(asked);
  if (IsDropping(found.name)) found.device = nullptr;
  return found;
}

std::vector<std::string> NbdExports::Names() const {
  std::vector<std::string> names = directory_->Names();
  std::erase_if(names, [this](const std::string& name) { return IsDropping(name); });
  return names;
}

void NbdExports::EndDrop(std::string_view name) {
  const auto position = std::find(dropping_.begin(), dropping_.end(), name);
  if (position != dropping_.end()) dropping_.erase(position);
}

bool NbdExports::IsDropping(std::string_view name) const {
  return std::find(dropping_.begin(), dropping_.end(), name) != dropping_.end();
}

}  // namespace keelson::frontend
