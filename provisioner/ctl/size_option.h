#pragma once
// What lets an option of an integer take "4k" and "1.5g". Any thread.

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "proto/rpc/size_text.h"

namespace keelson::ctl {

inline const CLI::Validator kSize(
    [](std::string& text) {
      const absl::StatusOr<std::uint64_t> size_bytes = rpc::ParseSize(text);
      if (!size_bytes.ok()) return std::string(size_bytes.status().message());
      text = absl::StrCat(*size_bytes);
      return std::string();
    },
    "SIZE");

}  // namespace keelson::ctl
