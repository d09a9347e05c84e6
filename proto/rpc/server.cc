#include "proto/rpc/server.h"

#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/rpc/status_map.h"
#include "proto/rpc/unix_socket.h"

namespace keelson::rpc {
namespace {

constexpr int kThreadsMax = 64;
constexpr std::size_t kRequestIdBytesMax = 64;

// What a caller sent may be repeated in an error, and must not forge a line of the log.
std::string OneLine(absl::string_view text) {
  std::string line;
  for (const char c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      absl::StrAppend(&line, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    } else {
      line.push_back(c);
    }
  }
  return line;
}

// Only what cannot break a log line: the id comes from the caller.
bool IsPlain(const grpc::string_ref& text) {
  if (text.empty() || text.size() > kRequestIdBytesMax) return false;
  for (const char c : text) {
    if (c <= ' ' || c > '~') return false;
  }
  return true;
}

std::string RequestId(const grpc::ServerContext& context) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("x-request-id");
  if (found != metadata.end() && IsPlain(found->second)) {
    return std::string(found->second.data(), found->second.size());
  }
  static std::atomic<std::uint64_t> next{1};
  return absl::StrCat(next.fetch_add(1));
}

absl::Status RunGuarded(std::string_view method, absl::FunctionRef<absl::Status()> handler) {
  try {
    return handler();
  } catch (const std::exception& error) {
    return absl::InternalError(
        absl::StrCat(std::string(method), ": unexpected exception: ", error.what()));
  } catch (...) {
    return absl::InternalError(absl::StrCat(std::string(method), ": unexpected exception"));
  }
}

}  // namespace

Server::Server(std::string path, std::unique_ptr<grpc::Server> server)
    : path_(std::move(path)), server_(std::move(server)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const std::string& path,
                                                      absl::Span<grpc::Service* const> services) {
  if (absl::Status status = ClearStaleUnixSocket(path); !status.ok()) return status;
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ResourceQuota quota("keelson");
  quota.SetMaxThreads(kThreadsMax);
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(quota);
  builder.AddListeningPort(absl::StrCat("unix:", path), grpc::InsecureServerCredentials());
  for (grpc::Service* const service : services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", path, "; does its directory exist, and may this user write to it?"));
  }
  auto result = std::unique_ptr<Server>(new Server(path, std::move(server)));
  result->SetServing(false);
  // The programs run with umask 077, so the socket was never open to others; this also drops the
  // x bits, and holds for a caller with another umask.
  if (chmod(path.c_str(), S_IRUSR | S_IWUSR) != 0) {
    return absl::InternalError(absl::StrCat("chmod of ", path, ": ", std::strerror(errno)));
  }
  return result;
}

Server::~Server() { Shutdown(std::chrono::milliseconds(0)); }

void Server::SetServing(bool serving) {
  if (auto* health = server_->GetHealthCheckService()) health->SetServingStatus(serving);
}

void Server::Shutdown(std::chrono::milliseconds patience) {
  if (down_) return;
  down_ = true;
  SetServing(false);
  server_->Shutdown(std::chrono::system_clock::now() + patience);
  server_->Wait();
  unlink(path_.c_str());  // gRPC leaves it behind on some paths; a second unlink does no harm
}

grpc::Status HandleCall(const grpc::ServerContext& context, std::string_view method,
                        absl::FunctionRef<absl::Status()> handler) {
  const std::string id = RequestId(context);
  const auto begin = std::chrono::steady_clock::now();
  const absl::Status status = RunGuarded(method, handler);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  if (status.ok()) {
    spdlog::info("event=rpc request={} method={} ms={:.1f} code=OK", id, method, took.count());
  } else {
    spdlog::info("event=rpc request={} method={} ms={:.1f} code={} error=\"{}\"", id, method,
                 took.count(), absl::StatusCodeToString(status.code()), OneLine(status.message()));
  }
  return ToGrpcStatus(status);
}

}  // namespace keelson::rpc
