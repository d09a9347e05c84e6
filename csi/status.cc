#include "csi/status.h"

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace keelson::csi {

absl::Status ErrnoStatus(int error_number, std::string_view what) {
  const std::string message = absl::StrCat(std::string(what), ": ", std::strerror(error_number));
  switch (error_number) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EBUSY:
    case ENOTEMPTY:
      return absl::FailedPreconditionError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace keelson::csi
