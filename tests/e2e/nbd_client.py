"""A small NBD client (fixed newstyle, simple replies) for the end-to-end tests: many requests in
flight, every reply seen. Real clients hide what these tests look at: what was acknowledged."""

import collections
import errno
import select
import socket
import struct

READ, WRITE, DISCONNECT, FLUSH, TRIM, CACHE, ZEROES = range(7)
FUA = 1
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
_REQUEST_MAGIC, _REPLY_MAGIC = 0x25609513, 0x67446698
_OPTION_MAGIC = 0x49484156454F5054
_OPT_GO, _REP_ACK, _REP_INFO = 7, 1, 3

Reply = collections.namedtuple("Reply", "kind offset size error data")


class Disconnected(Exception):
    """The server went away."""


class NbdClient:
    """`path` is that of a UNIX socket, or (host, port)."""

    def __init__(self, path, export, timeout=60):
        tcp = isinstance(path, tuple)
        self._socket = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(path if tcp else str(path))
        self._cookie = 0
        self._waiting = {}  # cookie -> (kind, offset, size)
        self.size_bytes = self._negotiate(export.encode())

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def in_flight(self):
        return len(self._waiting)

    def readable(self, timeout):
        """There is an answer, or the end of the connection, within so many seconds."""
        return bool(select.select([self._socket], [], [], timeout)[0])

    def submit(self, kind, offset=0, size=0, data=b"", flags=0):
        self._cookie += 1
        size = len(data) or size
        self._waiting[self._cookie] = (kind, offset, size)
        self._send(_REQUEST.pack(_REQUEST_MAGIC, flags, kind, self._cookie, offset, size) + data)
        return self._cookie

    def receive(self):
        """(cookie, Reply) of whichever request ends next."""
        magic, error, cookie = _REPLY.unpack(self._take(_REPLY.size))
        if magic != _REPLY_MAGIC or cookie not in self._waiting:
            raise AssertionError(f"not a reply: magic {magic:#x}, cookie {cookie}")
        kind, offset, size = self._waiting.pop(cookie)
        data = self._take(size) if kind == READ and error == 0 else b""
        return cookie, Reply(kind, offset, size, error, data)

    def call(self, kind, offset=0, size=0, data=b"", flags=0):
        """One request, alone on the connection, to its end."""
        self.submit(kind, offset, size, data, flags)
        return self.receive()[1]

    def read(self, offset, size):
        reply = self.call(READ, offset, size)
        if reply.error:
            raise OSError(reply.error, f"read of {size} at {offset}")
        return reply.data

    def write(self, offset, data, flags=0):
        reply = self.call(WRITE, offset, data=data, flags=flags)
        if reply.error:
            raise OSError(reply.error, f"write of {len(data)} at {offset}")

    def flush(self):
        reply = self.call(FLUSH)
        if reply.error:
            raise OSError(reply.error, "flush")

    def trim(self, offset, size):
        reply = self.call(TRIM, offset, size)
        if reply.error:
            raise OSError(reply.error, f"trim of {size} at {offset}")

    def _negotiate(self, export):
        greeting = self._take(18)
        if greeting[:16] != b"NBDMAGICIHAVEOPT":
            raise AssertionError(f"not an NBD server: {greeting!r}")
        body = struct.pack(">I", len(export)) + export + struct.pack(">H", 0)
        self._send(
            struct.pack(">I", 3) + struct.pack(">QII", _OPTION_MAGIC, _OPT_GO, len(body)) + body
        )
        size = None
        while True:
            _, _, kind, length = struct.unpack(">QIII", self._take(20))
            payload = self._take(length)
            if kind == _REP_ACK:
                return size
            if kind == _REP_INFO and payload[:2] == b"\0\0":
                size = struct.unpack(">Q", payload[2:10])[0]
            elif kind & 0x80000000:
                raise OSError(errno.ENOENT, f"export {export.decode()}: option error {kind:#x}")

    def _send(self, data):
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Disconnected() from error

    def _take(self, size):
        data = bytearray()
        while len(data) < size:
            try:
                piece = self._socket.recv(size - len(data))
            except ConnectionResetError as error:
                raise Disconnected() from error
            if not piece:
                raise Disconnected()
            data += piece
        return bytes(data)
