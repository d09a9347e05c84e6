#include "blockstore/io/file.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"

namespace keelson::io {
namespace {

const char* ActName(IoOp::Kind kind) {
  switch (kind) {
    case IoOp::Kind::kRead:
      return "read";
    case IoOp::Kind::kWrite:
      return "write";
    case IoOp::Kind::kFlush:
      return "flush";
    case IoOp::Kind::kDiscard:
      return "discard";
    case IoOp::Kind::kAllocate:
      return "allocation";
  }
  return "operation";
}

}  // namespace

absl::Status File::OpStatus(const IoOp& op) const {
  if (op.result == 0) return absl::OkStatus();
  const char* act = ActName(op.kind);
  if (op.kind == IoOp::Kind::kFlush) {
    return ErrnoStatus(-op.result, absl::StrCat(act, " of ", std::string(path())));
  }
  return ErrnoStatus(-op.result, absl::StrCat(act, " of ", op.size_bytes, " bytes of ",
                                              std::string(path()), " at offset ", op.offset));
}

}  // namespace keelson::io
