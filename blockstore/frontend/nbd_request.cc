#include "blockstore/frontend/nbd_request.h"

#include <cerrno>

#include "blockstore/io/check.h"
#include "blockstore/io/status.h"

namespace keelson::frontend {
namespace {

using nbd::Command;
using nbd::Error;

// The flags a command may carry. FUA may come with any; it means something for changes only.
std::uint16_t AllowedFlags(Command command, const NbdRequestRules& rules) {
  unsigned allowed = nbd::kCommandFua;
  if (command == Command::kRead && rules.structured_replies) allowed |= nbd::kCommandDf;
  if (command == Command::kWriteZeroes) allowed |= nbd::kCommandNoHole | nbd::kCommandFastZero;
  if (command == Command::kBlockStatus) allowed |= nbd::kCommandReqOne;
  return static_cast<std::uint16_t>(allowed);
}

bool ChangesData(Command command) {
  return command == Command::kWrite || command == Command::kTrim ||
         command == Command::kWriteZeroes;
}

Error CheckRange(const NbdRequestHeader& request, const NbdRequestRules& rules) {
  constexpr std::uint64_t kAlignmentMask = nbd::kBlockBytesMin - 1;
  if (request.length == 0) return Error::kInval;
  if (request.length > rules.size_bytes || request.offset > rules.size_bytes - request.length) {
    const bool grows =
        request.command == Command::kWrite || request.command == Command::kWriteZeroes;
    return grows ? Error::kNoSpc : Error::kInval;
  }
  if (((request.offset | request.length) & kAlignmentMask) != 0) return Error::kInval;
  return Error::kNone;
}

}  // namespace

NbdRequest* NbdRequestPool::Take(const NbdRequestHeader& header) {
  KEEL_CHECK(in_flight_ < count_max_, "a session takes a request only when there is room");
  NbdRequest* request = free_;
  if (request != nullptr) {
    free_ = request->next;
  } else {
    nodes_.push_back(std::make_unique<NbdRequest>());
    request = nodes_.back().get();
  }
  ++in_flight_;
  request->header = header;
  request->pieces_pending = 0;
  request->error = Error::kNone;
  request->reply_payload = {};
  request->reply_is_unfinished = false;
  request->reply_is_continued = false;
  return request;
}

void NbdRequestPool::Release(NbdRequest* request) {
  request->buffer.Reset();
  held_bytes_ -= std::exchange(request->charged_bytes, 0);
  request->next = free_;
  free_ = request;
  --in_flight_;
  changed_.Unpark();
}

void NbdRequestPool::Charge(NbdRequest* request, std::size_t size_bytes) {
  const std::size_t charge = ChargeOf(size_bytes);
  request->charged_bytes += charge;
  held_bytes_ += charge;
}

void NbdRequestPool::Uncharge(NbdRequest* request, std::size_t size_bytes) {
  const std::size_t charge = ChargeOf(size_bytes);
  request->charged_bytes -= charge;
  held_bytes_ -= charge;
  changed_.Unpark();
}

std::size_t NbdRequestPool::ChargeOf(std::size_t size_bytes) {
  std::size_t charge = 4096;
  while (charge < size_bytes) charge *= 4;
  return size_bytes == 0 ? 0 : charge;
}

Error CheckNbdRequest(const NbdRequestHeader& request, const NbdRequestRules& rules) {
  if (static_cast<std::size_t>(request.command) >= nbd::kCommandCount) return Error::kInval;
  if ((request.flags & ~AllowedFlags(request.command, rules)) != 0) return Error::kInval;
  if (ChangesData(request.command) && rules.read_only) return Error::kPerm;
  switch (request.command) {
    case Command::kDisconnect:
      return Error::kNone;
    case Command::kFlush:
      return request.offset == 0 && request.length == 0 ? Error::kNone : Error::kInval;
    case Command::kRead:
      if (request.length > nbd::kPayloadBytesMax) return Error::kInval;
      if ((request.flags & nbd::kCommandDf) != 0 && request.length > nbd::kPieceBytesMax) {
        return Error::kOverflow;
      }
      return CheckRange(request, rules);
    case Command::kWrite:
      if (request.length > nbd::kPayloadBytesMax) return Error::kInval;
      return CheckRange(request, rules);
    case Command::kWriteZeroes:
      // Freeing blocks is fast, writing zeroes into them is not: that is what FAST_ZERO asks about.
      if ((request.flags & nbd::kCommandFastZero) != 0 &&
          (request.flags & nbd::kCommandNoHole) != 0) {
        return Error::kNotSup;
      }
      return CheckRange(request, rules);
    case Command::kBlockStatus:
      return rules.block_status ? CheckRange(request, rules) : Error::kInval;
    case Command::kTrim:
    case Command::kCache:
      return CheckRange(request, rules);
  }
  return Error::kInval;
}

Error NbdErrorOf(const absl::Status& status) {
  switch (io::StatusErrno(status)) {
    case 0:
      return Error::kNone;
    case EPERM:
    case EACCES:
    case EROFS:
      return Error::kPerm;
    case ENOMEM:
      return Error::kNoMem;
    case EINVAL:
      return Error::kInval;
    case ENOSPC:
    case EDQUOT:
      return Error::kNoSpc;
    case ENOTSUP:
    case ENOSYS:
      return Error::kNotSup;
    case ESHUTDOWN:
      return Error::kShutdown;
    default:
      return Error::kIo;
  }
}

}  // namespace keelson::frontend
