#include "proto/rpc/status_map.h"

#include <gtest/gtest.h>

namespace keelson::rpc {
namespace {

TEST(StatusMapTest, CarriesEveryCodeAndItsMessageBothWays) {
  // Both sides number the codes alike, 0 to 16; the table must not depend on it, but must agree.
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), code == 0 ? "" : "why");
    const grpc::Status sent = ToGrpcStatus(status);
    EXPECT_EQ(static_cast<int>(sent.error_code()), code);
    EXPECT_EQ(FromGrpcStatus(sent), status);
  }
}

TEST(StatusMapTest, ShowsACodeItDoesNotKnowAsUnknown) {
  const absl::Status status =
      FromGrpcStatus(grpc::Status(grpc::StatusCode::DO_NOT_USE, "from the future"));
  EXPECT_EQ(status, absl::UnknownError("from the future"));
}

}  // namespace
}  // namespace keelson::rpc
