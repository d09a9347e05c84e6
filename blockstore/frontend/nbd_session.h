#pragma once
// One NBD connection: handshake, then requests until the client leaves or misbehaves, or Shutdown.
// Created, run and destroyed by NbdServer on its reactor's thread.
//
// One loop reads and parses (many requests per receive), every request runs as its own coroutine in
// the session's gate, and one writer sends the replies. The loop stops reading while the connection
// has its share of requests or buffers: a client that does not read its replies costs a bounded
// amount of memory for a bounded time. A coroutine that holds a buffer never waits for another.
//
// What ends a session: the client's disconnect or end of stream, bytes that are not the protocol, a
// deadline (handshake, payload, replies), a simple reply that fails after its data began, Shutdown.
// Requests in flight are finished in every case; Run returns after them.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "blockstore/engine/block_device.h"
#include "blockstore/frontend/nbd_codec.h"
#include "blockstore/frontend/nbd_export.h"
#include "blockstore/frontend/nbd_negotiation.h"
#include "blockstore/frontend/nbd_reply_writer.h"
#include "blockstore/frontend/nbd_request.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/task.h"

namespace keelson::frontend {

class NbdSession {
 public:
  // `reactor`, `exports`, `options` and `counters` are the server's and outlive the session.
  NbdSession(io::Reactor* reactor, const NbdExports* exports, const NbdOptions* options,
             NbdCounters* counters, std::unique_ptr<io::Stream> stream);

  // Serves the connection to its end. Called once.
  io::Task<void> Run();
  // Makes Run return soon: nothing more is read or sent; requests in flight run to their end.
  void Shutdown();

  // Empty until the handshake has chosen one.
  const std::string& export_name() const { return negotiation_.export_name(); }

 private:
  // --- nbd_session.cc: the connection ---
  io::Task<bool> Handshake();
  // What requests go to from now on. False: the export has gone meanwhile.
  io::Task<bool> OpenDevice();
  io::Task<bool> SendHandshake(std::string bytes, std::int64_t deadline_ns);
  NbdNegotiation::Step OnHandshakeEvent(NbdDecoder::Event event, std::string* out);
  io::Task<void> Transmit();
  io::Task<void> ReadRequests();
  // Receives what is there into the receive buffer. False: the connection is over.
  io::Task<bool> Fill(std::int64_t deadline_ns);
  // Fills `into` from the receive buffer and then directly from the stream.
  io::Task<bool> ReceivePayload(std::span<std::byte> into);
  io::Task<bool> SkipPayload(std::uint32_t length);
  void AdaptReceiveBuffer();
  void NoteReceiveError(const absl::Status& status);
  void RefuseProtocol(const char* what);
  bool Ending() const { return stopping_ || writer_.broken(); }

  // --- nbd_commands.cc: the requests ---
  // What a request needs before it may start: the bytes of its first buffer.
  std::size_t BufferBytesOf(const NbdRequestHeader& header, nbd::Error error) const;
  void Start(NbdRequest* request);
  // The whole payload is already here: no waiting, no further coroutine. False: not started.
  bool TryStartWrite(NbdRequest* request);
  io::Task<bool> ReceiveWrite(NbdRequest* request);
  io::Task<void> RunRead(NbdRequest* request);
  io::Task<void> RunWritePiece(NbdRequest* request, io::Buffer buffer, std::uint32_t at);
  io::Task<void> RunFlush(NbdRequest* request);
  io::Task<void> RunTrim(NbdRequest* request);
  io::Task<void> RunWriteRealZeroes(NbdRequest* request);
  io::Task<void> RunBlockStatus(NbdRequest* request);
  void FinishWritePiece(NbdRequest* request);
  void FailRead(NbdRequest* request, std::uint32_t at, const absl::Status& status);
  void Reply(NbdRequest* request, const absl::Status& status);
  void ReplyError(NbdRequest* request, nbd::Error error, std::optional<std::uint64_t> offset);
  void PrepareReadReply(NbdRequest* request, std::uint32_t at, std::uint32_t size_bytes);
  static std::size_t EncodeBlockRuns(const std::vector<engine::BlockRun>& runs,
                                     std::span<std::byte> out);

  io::Reactor* reactor_;
  const NbdExports* exports_;
  const NbdOptions* options_;
  io::BufferPool* buffers_;
  NbdCounters* counters_;
  std::unique_ptr<io::Stream> stream_;
  NbdDecoder decoder_;
  NbdNegotiation negotiation_;
  NbdRequestPool requests_;
  NbdReplyWriter writer_;
  io::Gate gate_;                          // the writer and every request
  engine::BlockDevice* device_ = nullptr;  // valid until the server's DropExport of it completes
  std::unique_ptr<engine::BlockDevice> own_device_;  // or it is this connection's alone
  bool stopping_ = false;

  // Received and not yet parsed: a part of the receive buffer.
  std::span<const std::byte> input_;
  std::unique_ptr<std::byte[]> receive_buffer_;
  std::size_t receive_capacity_ = 0;
  std::size_t receive_bytes_max_ = 0;  // what the next receive may take
  bool receive_was_full_ = false;      // the last receive took all it might
  std::size_t direct_bytes_ = 0;       // payload that bypassed the buffer since then
};

}  // namespace keelson::frontend
