#include "blockstore/io/status.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace keelson::io {
namespace {

TEST(StatusTest, GivesEachErrnoItsCode) {
  const std::vector<std::pair<int, absl::StatusCode>> table = {
      {ENOSPC, absl::StatusCode::kResourceExhausted},
      {EDQUOT, absl::StatusCode::kResourceExhausted},
      {ENOENT, absl::StatusCode::kNotFound},
      {EEXIST, absl::StatusCode::kAlreadyExists},
      {EACCES, absl::StatusCode::kPermissionDenied},
      {EPERM, absl::StatusCode::kPermissionDenied},
      {EINVAL, absl::StatusCode::kInvalidArgument},
      {ECANCELED, absl::StatusCode::kCancelled},
      {ETIMEDOUT, absl::StatusCode::kDeadlineExceeded},
      {ETIME, absl::StatusCode::kDeadlineExceeded},
      {ECONNRESET, absl::StatusCode::kUnavailable},
      {EPIPE, absl::StatusCode::kUnavailable},
      {ECONNREFUSED, absl::StatusCode::kUnavailable},
      {ENOTCONN, absl::StatusCode::kUnavailable},
      {EIO, absl::StatusCode::kInternal},
  };
  for (const auto& [error_number, code] : table) {
    EXPECT_EQ(ErrnoStatus(error_number, "x").code(), code) << error_number;
  }
}

TEST(StatusTest, NamesTheActAndTheError) {
  const absl::Status status = ErrnoStatus(ENOSPC, "write of /pools/a/data");
  const std::string message(status.message());
  EXPECT_NE(message.find("write of /pools/a/data"), std::string::npos);
  EXPECT_NE(message.find("No space left"), std::string::npos);
}

TEST(StatusTest, GivesEachCodeTheErrnoOfItsClient) {
  EXPECT_EQ(StatusErrno(absl::OkStatus()), 0);
  EXPECT_EQ(StatusErrno(absl::DataLossError("")), EIO);
  EXPECT_EQ(StatusErrno(absl::InternalError("")), EIO);
  EXPECT_EQ(StatusErrno(absl::UnavailableError("")), EIO);
  EXPECT_EQ(StatusErrno(absl::ResourceExhaustedError("")), ENOSPC);
  EXPECT_EQ(StatusErrno(absl::InvalidArgumentError("")), EINVAL);
  EXPECT_EQ(StatusErrno(absl::OutOfRangeError("")), EINVAL);
  EXPECT_EQ(StatusErrno(absl::PermissionDeniedError("")), EPERM);
  EXPECT_EQ(StatusErrno(absl::CancelledError("")), ESHUTDOWN);
  EXPECT_EQ(StatusErrno(absl::AbortedError("")), ESHUTDOWN);
  EXPECT_EQ(StatusErrno(absl::UnimplementedError("")), EOPNOTSUPP);
}

}  // namespace
}  // namespace keelson::io
