#pragma once
// ReplicaConnection: one engine's connection to a ReplicaServer: hellos, a Prepare that opens a
// port, then requests to that port until the engine leaves or misbehaves, or Shutdown. Created, run
// and destroyed by the server on its reactor's thread.
//
// One loop reads and parses; every request runs as its own coroutine in the gate; one writer sends
// the answers. The loop stops reading while the connection has its share of requests or bytes. Each
// request has at most one buffer and waits for no other while it holds it. When the connection ends
// the port is closed first, so that what is in flight ends soon, and destroyed last.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "blockstore/engine/frame_reader.h"
#include "blockstore/engine/frame_writer.h"
#include "blockstore/engine/replica_server.h"
#include "blockstore/io/buffer_pool.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/parking.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/stream.h"
#include "blockstore/replica/replica_port.h"
#include "blockstore/wire/messages.h"

namespace keelson::engine {

class ReplicaConnection {
 public:
  // All but the stream are the server's and outlive the connection.
  ReplicaConnection(io::Reactor* reactor, PortSource* source, const ReplicaServerOptions* options,
                    ReplicaServerCounters* counters, std::unique_ptr<io::Stream> stream);

  // Serves the connection to its end. Called once.
  io::Task<void> Run();
  // Makes Run return soon: nothing more is read or sent; what the port does runs to its end.
  void Shutdown();

 private:
  using Message =
      std::variant<wire::HeartbeatRequest, wire::FlushRequest, wire::AcceptRequest,
                   wire::ReadRequest, wire::WriteRequest, wire::TrimRequest, wire::MapRequest,
                   wire::EndGenerationRequest, wire::NotesRequest, wire::ReadCopyRequest,
                   wire::BeginCopyRequest, wire::WriteCopyRequest, wire::RecordProgressRequest,
                   wire::VerifyRequest>;

  // A request in flight, until its answer has left. Reused: the steady state allocates none.
  struct Request : OutFrame {
    wire::FrameHead head;
    Message message;
    io::Buffer buffer;              // what is written from, or read into and answered with
    std::size_t charged_bytes = 0;  // for the buffer
    bool active = false;
    bool cancelled = false;
    Request* next_free = nullptr;
  };

  // --- replica_connection.cc: the connection ---
  io::Task<absl::Status> Handshake();
  io::Task<absl::Status> SendHello(wire::Hello hello, std::int64_t deadline_ns);
  io::Task<void> RunWriter();
  // Until the connection is over. OK: in good order; INVALID_ARGUMENT: what the engine did wrong;
  // anything else: what became of the stream.
  io::Task<absl::Status> ReadRequests();
  io::Task<absl::Status> FillNext();
  io::Task<absl::Status> TakeFrame();
  io::Task<absl::Status> Prepare();
  io::Task<absl::Status> TakeRequest(std::size_t charge_bytes);
  io::Task<absl::Status> RefuseRequest(absl::Status why);
  void Cancel(std::uint64_t request_id);
  // OK when the frame is of the session this connection carries.
  absl::Status CheckSession(const wire::FrameHeader& header) const;
  void NoteEnd(const absl::Status& status);

  bool HasRoom(std::size_t charge_bytes) const;
  io::Task<bool> WaitForRoom(std::size_t charge_bytes);
  Request* Take(const wire::FrameHead& head, std::size_t charge_bytes);
  void Release(Request* request);
  static void OnReturned(void* owner, OutFrame* frame);

  // --- replica_requests.cc: the requests ---
  absl::Status ParseMessage();  // into parsed_
  std::size_t BufferBytes() const;
  void Start(Request* request);
  io::Task<void> ServeCall(Request* request);
  io::Task<absl::Status> Call(Request* request);
  io::Task<void> ServeRead(Request* request);
  io::Task<void> ServeReadCopy(Request* request);
  io::Task<void> ServeMap(Request* request);
  io::Task<void> ServeNotes(Request* request);
  io::Task<void> ServeVerify(Request* request);
  // The frame an answer begins with.
  wire::FrameHead AnswerHead(const Request& request) const;
  void Answer(Request* request, const absl::Status& status);

  io::Reactor* reactor_;
  PortSource* source_;
  const ReplicaServerOptions* options_;
  ReplicaServerCounters* counters_;
  std::unique_ptr<io::Stream> stream_;
  const std::string peer_;
  FrameReader reader_;
  FrameWriter writer_;
  io::Gate gate_;  // the writer and every request
  bool stopping_ = false;
  std::int64_t frame_deadline_ns_ = 0;  // of the frame that has begun; 0: none has
  OutFrame bye_;

  std::unique_ptr<replica::ReplicaPort> port_;  // from Prepare to the end
  pool::Epoch epoch_;
  pool::Uuid incarnation_;

  Message parsed_;  // of the frame just read
  const std::size_t held_bytes_max_;
  std::size_t held_bytes_ = 0;
  std::uint32_t in_flight_ = 0;
  std::vector<std::unique_ptr<Request>> requests_;
  Request* free_ = nullptr;
  io::Parking changed_;  // the reading loop: a request was released, or Shutdown
};

}  // namespace keelson::engine
