#include "csi/call.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <string>

#include "absl/strings/str_cat.h"
#include "csi/checks.h"
#include "csi/redact.h"
#include "csi/status.h"
#include "proto/rpc/server.h"

namespace keelson::csi {
namespace {

constexpr std::chrono::seconds kSlowCall(10);

}  // namespace

grpc::Status Call(const grpc::ServerContext& context, std::string_view method,
                  const google::protobuf::Message& request,
                  absl::FunctionRef<absl::Status()> handler) {
  if (spdlog::should_log(spdlog::level::debug)) {
    spdlog::debug("event=request method={} {}", method, RedactedText(request));
  }
  const auto begin = std::chrono::steady_clock::now();
  const grpc::Status status = rpc::HandleCall(context, method, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckSizes(request));
    absl::Status result = handler();
    if (!result.ok() && result.message().empty()) {
      return absl::Status(result.code(), absl::StrCat(std::string(method), " failed"));
    }
    return result;
  });
  const auto took = std::chrono::steady_clock::now() - begin;
  if (took > kSlowCall) {
    spdlog::warn("event=slow-call method={} seconds={}", method,
                 std::chrono::duration_cast<std::chrono::seconds>(took).count());
  }
  return status;
}

}  // namespace keelson::csi
