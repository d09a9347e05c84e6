#!/usr/bin/python3
"""kill -9 of the real daemon under verified writes: the death of the process loses nothing that was
acknowledged, flushed or not, and the pool is sound afterwards.

KEELSON_KILLS sets how many times (5), KEELSON_SEED the random sequence (printed).
"""

import os
import pathlib
import random
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
import nbd_client  # noqa: E402
from harness import GIB, MIB  # noqa: E402
from nbd_client import Disconnected, NbdClient  # noqa: E402
from numbered_blocks import BLOCK, block_data, block_sequence  # noqa: E402

BLOCKS = 64 * MIB // BLOCK
DEPTH = 16
VOLUME = "victim"
FIO_SIZE = 256 * MIB


class Model:
    """What each block may hold: its last acknowledged write, or one that was never answered."""

    def __init__(self):
        self.acknowledged = [0] * BLOCKS  # the sequence of the write; 0: zeroes
        self.unanswered = {}  # block -> sequence
        self.sequence = 0
        self.answers = 0

    def next(self):
        self.sequence += 1
        return self.sequence

    def verify(self, client):
        """Reads everything, compares, and takes what it found as the new truth."""
        for first in range(0, BLOCKS, 256):
            data = client.read(first * BLOCK, 256 * BLOCK)
            for index in range(first, first + 256):
                at = (index - first) * BLOCK
                found = block_sequence(index, data[at : at + BLOCK])
                allowed = {self.acknowledged[index]}
                if index in self.unanswered:
                    allowed.add(self.unanswered[index])
                harness.expect(
                    found in allowed,
                    f"block {index} holds write {found}, not one of {sorted(allowed)}",
                )
                self.acknowledged[index] = found
        self.unanswered.clear()


class Writer:
    """Random writes, trims and flushes at a depth, never two at one block at a time, until the
    server dies."""

    def __init__(self, client, model, chooser):
        self.client = client
        self.model = model
        self.random = chooser
        self.flights = {}  # cookie -> [(block, sequence)]
        self.error = None

    def run(self):
        try:
            while True:
                while self.client.in_flight < DEPTH:
                    self.submit()
                self.complete(*self.client.receive())
        except Disconnected:
            pass
        except Exception as error:  # pylint: disable=broad-except: reported by the main thread
            self.error = error

    def submit(self):
        dice = self.random.random()
        if dice < 0.02:
            self.flights[self.client.submit(nbd_client.FLUSH)] = []
            return
        count = 1 if dice < 0.7 else self.random.randint(2, 16)
        first = self.random.randrange(BLOCKS - count)
        if any(block in self.model.unanswered for block in range(first, first + count)):
            return
        trims = dice > 0.92
        changes = [
            (block, 0 if trims else self.model.next()) for block in range(first, first + count)
        ]
        # Noted before it is sent: a request that was cut off half-way may still take effect.
        self.model.unanswered.update(changes)
        if trims:
            kind = self.random.choice((nbd_client.TRIM, nbd_client.ZEROES))
            cookie = self.client.submit(kind, first * BLOCK, count * BLOCK)
        else:
            flags = nbd_client.FUA if self.random.random() < 0.05 else 0
            data = b"".join(block_data(*change) for change in changes)
            cookie = self.client.submit(nbd_client.WRITE, first * BLOCK, data=data, flags=flags)
        self.flights[cookie] = changes

    def complete(self, cookie, reply):
        harness.expect(reply.error == 0, f"request {reply.kind} got error {reply.error}")
        for block, sequence in self.flights.pop(cookie):
            self.model.acknowledged[block] = sequence
            del self.model.unanswered[block]
        self.model.answers += 1


def one_kill(daemon, pool, model, chooser):
    """Writes, kills at a random moment, starts again, compares."""
    client = NbdClient(daemon.nbd_socket, VOLUME)
    writer = Writer(client, model, chooser)
    thread = threading.Thread(target=writer.run)
    answers = model.answers
    thread.start()
    # From the first answer on: until then there is nothing that could be lost.
    patience = time.monotonic() + 30
    while model.answers == answers and not writer.error and time.monotonic() < patience:
        time.sleep(0.01)
    time.sleep(chooser.uniform(0.05, 1.2))
    daemon.kill()
    thread.join()
    client.close()
    if writer.error:
        raise writer.error
    harness.expect(model.answers > answers, "no request was answered before the kill")
    if chooser.random() < 0.5:
        daemon.ctl("pool", "check", pool, "--offline", "--verify-data")
    daemon.start()
    with NbdClient(daemon.nbd_socket, VOLUME) as again:  # attached again by itself
        model.verify(again)
    daemon.ctl("pool", "check", pool, "--verify-data")


def kill_loop(checks, daemon, pool, kills, chooser):
    model = Model()
    frozen = None
    for number in range(1, kills + 1):
        with checks.case(f"kill {number} loses nothing that was acknowledged"):
            one_kill(daemon, pool, model, chooser)
        if checks.failed:
            return
        # From here on, half of the kills hit a volume with a snapshot below its head.
        if number % 4 == 1:
            daemon.ctl("volume", "snapshot", VOLUME, f"s{number}")
            frozen = (f"s{number}", list(model.acknowledged))
        elif number % 4 == 3 and number + 1 < kills:
            daemon.ctl("volume", "snapshot-delete", VOLUME, frozen[0])
            frozen = None
    if frozen:
        with checks.case("a snapshot taken between the kills still holds what it held"):
            name, content = frozen
            daemon.ctl("volume", "clone", f"{VOLUME}@{name}", "clone")
            daemon.attach("clone")
            expected = Model()
            expected.acknowledged = content
            with NbdClient(daemon.nbd_socket, "clone") as client:
                expected.verify(client)


def fio_round(daemon):
    """kill -9 right after fio's last acknowledgement, with nothing flushed; fio then verifies."""
    uri = daemon.attach("fio", FIO_SIZE)
    job = [
        "fio",
        "--name=kill",
        "--ioengine=nbd",
        f"--uri={uri}",
        f"--size={FIO_SIZE}",
        "--rw=randwrite",
        "--bssplit=4k/70:16k/20:64k/10",
        "--iodepth=16",
        "--randseed=7",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
    ]
    harness.run(*job, "--do_verify=0", cwd=daemon.workspace.path)
    daemon.kill()
    daemon.start()
    harness.run(*job, "--verify_only", cwd=daemon.workspace.path)


def main():
    kills = int(os.environ.get("KEELSON_KILLS", "5"))
    seed = int(os.environ.get("KEELSON_SEED", time.time_ns() % 1_000_000))
    print(f"note: seed {seed}, {kills} kills")
    checks = harness.Checks()
    with harness.Workspace("kill") as workspace:
        workspace.require_free(2 * GIB)
        pool = workspace / "pool"
        daemon = harness.Daemon(workspace).start()
        daemon.ctl("pool", "create", pool, "--size", "1g")
        daemon.attach(VOLUME, BLOCKS * BLOCK)
        kill_loop(checks, daemon, pool, kills, random.Random(seed))
        if not checks.failed:
            with checks.case("fio verifies everything it wrote before a kill"):
                fio_round(daemon)
            with checks.case("the pool is sound after the last kill"):
                daemon.kill()
                daemon.ctl("pool", "check", pool, "--offline", "--verify-data")
        if checks.failed:
            print(daemon.tail())
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
