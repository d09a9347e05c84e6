#include "blockstore/frontend/nbd_export.h"

#include <algorithm>

namespace keelson::frontend {

NbdExports::Found NbdExports::Resolve(std::string_view name) const {
  Found found;
  if (name.empty()) {
    std::vector<std::string> names = Names();
    if (names.size() != 1) return found;
    found.name = std::move(names.front());
  } else {
    found.name = name;
  }
  if (!IsDropping(found.name)) found.device = directory_->Find(found.name);
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
