"""Blocks that say which write they are, and a ledger of what each may hold: what tells a lost,
late, torn or misplaced write apart."""

import struct
import threading
import time
import zlib

from harness import expect
from nbd_client import WRITE, Disconnected

BLOCK = 4096
_HEADER = struct.Struct("<8sQQI")
_MAGIC = b"KEELTEST"


def block_data(index, sequence):
    """A block that says which write of which block it is, and whether it is whole."""
    body = struct.pack("<Q", sequence) * ((BLOCK - _HEADER.size) // 8)
    body += bytes(BLOCK - _HEADER.size - len(body))
    return _HEADER.pack(_MAGIC, index, sequence, zlib.crc32(body)) + body


def block_sequence(index, data):
    """The write a block holds, 0 for zeroes; an error if it is anything else."""
    if not any(data):
        return 0
    magic, own_index, sequence, crc = _HEADER.unpack_from(data)
    expect(magic == _MAGIC, f"block {index} holds bytes that nobody wrote")
    expect(own_index == index, f"block {index} holds block {own_index}")
    expect(zlib.crc32(data[_HEADER.size :]) == crc, f"block {index} is torn")
    return sequence


class Ledger:
    """What `count` blocks from `first` on may hold: the last acknowledged write, or one that was
    never answered. Outlives the engines and the writers that it is kept for."""

    def __init__(self, first, count):
        self.first = first
        self.count = count
        self.acknowledged = [0] * count  # the sequence of the write; 0: zeroes
        self.unanswered = {}  # index -> sequence
        self.found = [0] * count  # by the last `verify`
        self._sequence = 0

    def next(self):
        self._sequence += 1
        return self._sequence

    def verify(self, client, at_once=64):
        """(acknowledged writes that are missing, blocks that hold what they may not). What was
        found is the truth from then on: a write that was not answered and not found must not come
        later."""
        lost = foreign = 0
        for base in range(0, self.count, at_once):
            count = min(at_once, self.count - base)
            data = client.read((self.first + base) * BLOCK, count * BLOCK)
            for index in range(base, base + count):
                at = (index - base) * BLOCK
                found = block_sequence(self.first + index, data[at : at + BLOCK])
                acknowledged = self.acknowledged[index]
                if found < acknowledged:
                    lost += 1
                elif found not in (acknowledged, self.unanswered.get(index)):
                    foreign += 1
                self.acknowledged[index] = self.found[index] = found
        self.unanswered.clear()
        return lost, foreign

    def expect_sound(self, client):
        lost, foreign = self.verify(client)
        expect(lost == 0, f"{lost} acknowledged writes are missing")
        expect(foreign == 0, f"{foreign} blocks hold what they may not")


class NumberedWriter(threading.Thread):
    """Writes the ledger's blocks one after the other, `depth` at a time, until it is stopped or the
    server goes away. Never two at one block."""

    def __init__(self, client, ledger, depth=4, pause_s=0.0):
        super().__init__(daemon=True)
        self._client = client
        self._ledger = ledger
        self._depth = depth
        self._pause_s = pause_s
        self._ending = threading.Event()
        self._watching = False  # another engine has the volume
        self._settled = threading.Event()  # the answers that had arrived by then are read
        self._flights = {}  # cookie -> (index, sequence, when, watched)
        self._position = 0
        self._longest = 0.0
        self._lock = threading.Lock()
        self.acknowledged = 0
        self._answered_later = []  # (index, sequence) of writes sent before
        self._late = 0
        self.refused = 0
        self.error = None  # what ended it early
        self.start()

    def run(self):
        try:
            while not self._ending.is_set() or self._flights:
                while len(self._flights) < self._depth and not self._ending.is_set():
                    if not self._submit():
                        break
                self._receive()
                if self._pause_s:
                    time.sleep(self._pause_s)
        except (OSError, Disconnected) as error:
            self.error = error
        self._settled.set()

    def watch(self):
        """Another engine has the volume: from now on `late` counts, and the ledger takes no notice
        of this writer any more."""
        with self._lock:
            self._watching = True
        self._settled.wait(5)

    def late(self):
        """Acknowledgements that another engine's volume rules out: of writes sent since `watch`,
        and of earlier ones that the other engine did not find."""
        found = self._ledger.found
        return self._late + sum(found[index] < seq for index, seq in self._answered_later)

    def answered_later(self):
        """Those of earlier writes that it did find: they had been applied, and only their answers
        were under way, which a process that stood still gives when it goes on."""
        return len(self._answered_later)

    def take_longest(self):
        """How long the slowest write took since this was asked last; those under way count."""
        now = time.monotonic()
        with self._lock:
            oldest = min((flight[2] for flight in self._flights.values()), default=now)
            longest, self._longest = max(self._longest, now - oldest), 0.0
        return longest

    def stop(self, timeout=90):
        """Waits for the answers to what it has sent."""
        self._ending.set()
        self.join(timeout)
        expect(not self.is_alive(), f"{len(self._flights)} writes have no answer")
        self._client.close()

    def stop_served(self, timeout=90):
        """The same; every write was acknowledged."""
        self.stop(timeout)
        expect(self.error is None, f"the writer ended early: {self.error!r}")
        expect(self.refused == 0, f"{self.refused} writes failed")

    def _submit(self):
        for _ in range(self._ledger.count):
            self._position = (self._position + 1) % self._ledger.count
            if self._position not in self._ledger.unanswered:
                break
        else:
            return False
        index, sequence = self._position, self._ledger.next()
        with self._lock:
            watched = self._watching
            # Noted before it is sent: a request that was cut off half-way may still take effect.
            if not watched:
                self._ledger.unanswered[index] = sequence
        block = self._ledger.first + index
        began = time.monotonic()
        cookie = self._client.submit(WRITE, block * BLOCK, data=block_data(block, sequence))
        with self._lock:
            self._flights[cookie] = (index, sequence, began, watched)
        return True

    def _receive(self):
        readable = self._client.readable(0.02)
        if self._watching:
            earlier = any(not watched for _, _, _, watched in self._flights.values())
            if not readable or not earlier:
                self._settled.set()
        if not readable:
            return
        cookie, reply = self._client.receive()
        with self._lock:
            index, sequence, began, watched = self._flights.pop(cookie)
            self._longest = max(self._longest, time.monotonic() - began)
            if reply.error:
                self.refused += 1
                return
            self.acknowledged += 1
            if watched:
                self._late += 1
                return
            if self._settled.is_set():
                self._answered_later.append((index, sequence))
                return
            self._ledger.acknowledged[index] = sequence
            self._ledger.unanswered.pop(index, None)
