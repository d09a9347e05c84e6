#pragma once
// The handshake of one NBD connection as a state machine without I/O: events of NbdDecoder in,
// bytes to send out. Owned by the session. TLS is not offered: the socket is a UNIX socket, or the
// network around it is trusted or wrapped.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "blockstore/engine/block_device.h"
#include "blockstore/frontend/nbd_codec.h"
#include "blockstore/frontend/nbd_export.h"

namespace keelson::frontend {

class NbdNegotiation {
 public:
  enum class Step {
    kContinue,  // send the output, go on
    kTransmit,  // send the output, then requests follow; export_name() and device() are set
    kClose,     // send the output (which may be empty), then close: as the client asked
    kRefuse,    // the same, because of what the client sent
  };

  explicit NbdNegotiation(const NbdExports* exports) : exports_(exports) {}

  Step OnClientFlags(std::uint32_t flags);
  Step OnOption(nbd::Option option, std::span<const std::byte> payload, std::string* out);
  Step OnOversizedOption(nbd::Option option, std::string* out);

  // Both as of the option that led to kTransmit.
  const std::string& export_name() const { return export_.name; }
  // The name as the client gave it, which may hold a secret.
  std::string TakeAskedName() { return std::exchange(asked_name_, {}); }
  engine::BlockDevice* device() const { return export_.device; }
  bool structured_replies() const { return structured_replies_; }
  // base:allocation was selected for this export: NBD_CMD_BLOCK_STATUS is allowed.
  bool block_status() const {
    return structured_replies_ && !meta_export_.empty() && meta_export_ == export_.name;
  }

 private:
  Step OnExportName(std::string_view name, std::string* out);
  Step OnList(bool has_payload, std::string* out);
  Step OnInfoOrGo(nbd::Option option, std::span<const std::byte> payload, std::string* out);
  Step OnStructuredReply(bool has_payload, std::string* out);
  Step OnMetaContext(nbd::Option option, std::span<const std::byte> payload, std::string* out);
  std::uint16_t TransmissionFlags(bool read_only) const;

  const NbdExports* exports_;  // the server's; outlives the session
  bool fixed_newstyle_ = false;
  bool no_zeroes_ = false;
  bool structured_replies_ = false;
  std::string meta_export_;  // the export for which base:allocation was selected; empty: none
  Export export_;
  std::string asked_name_;
};

}  // namespace keelson::frontend
