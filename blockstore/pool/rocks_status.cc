#include "blockstore/pool/rocks_status.h"

#include "absl/strings/str_cat.h"

namespace keelson::pool {

absl::Status RocksStatus(const rocksdb::Status& status, std::string_view what) {
  const auto code = [&status] {
    using Code = rocksdb::Status::Code;
    switch (status.code()) {
      case Code::kOk:
        return absl::StatusCode::kOk;
      case Code::kNotFound:
        return absl::StatusCode::kNotFound;
      case Code::kCorruption:
        return absl::StatusCode::kDataLoss;
      case Code::kNotSupported:
        return absl::StatusCode::kUnimplemented;
      case Code::kInvalidArgument:
        return absl::StatusCode::kInvalidArgument;
      case Code::kIOError:
        if (status.IsNoSpace()) return absl::StatusCode::kResourceExhausted;
        if (status.IsPathNotFound()) return absl::StatusCode::kNotFound;
        return absl::StatusCode::kInternal;
      case Code::kTimedOut:
        return absl::StatusCode::kDeadlineExceeded;
      case Code::kAborted:
        if (status.IsMemoryLimit()) return absl::StatusCode::kResourceExhausted;
        return absl::StatusCode::kAborted;
      case Code::kShutdownInProgress:
      case Code::kBusy:
      case Code::kTryAgain:
      case Code::kIncomplete:
        return absl::StatusCode::kUnavailable;
      case Code::kMergeInProgress:
      case Code::kExpired:
      case Code::kCompactionTooLarge:
      case Code::kColumnFamilyDropped:
      case Code::kMaxCode:
        return absl::StatusCode::kInternal;
    }
    return absl::StatusCode::kInternal;
  }();
  if (code == absl::StatusCode::kOk) return absl::OkStatus();
  return absl::Status(code, absl::StrCat(std::string(what), ": ", status.ToString()));
}

absl::Status RocksOpenStatus(const rocksdb::Status& status, const std::string& directory) {
  const std::string text = status.ToString();
  const std::string what = absl::StrCat("metadata store ", directory);
  if (status.IsIOError() && text.find("/LOCK") != std::string::npos) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, " is open in another process (", text, "): stop that process first"));
  }
  if (status.IsInvalidArgument() && text.find("families not opened") != std::string::npos) {
    return absl::FailedPreconditionError(absl::StrCat(what,
                                                      " has tables this program does not know (",
                                                      text, "): use a newer keelson-blockstore"));
  }
  if (status.IsCorruption() || status.IsInvalidArgument() || status.IsNotFound() ||
      status.IsPathNotFound()) {
    return absl::DataLossError(absl::StrCat(
        what, " is damaged: ", text,
        ". Its data cannot be found without it: put back the directory as it was when the pool was "
        "last open, or make the pool anew and let its volumes be copied from their other "
        "replicas"));
  }
  return RocksStatus(status, absl::StrCat("opening ", what));
}

}  // namespace keelson::pool
