#!/usr/bin/python3
"""What operators and disks do wrong, against the real daemon: clear refusals, nothing else hurt."""

import errno
import json
import os
import pathlib
import random
import shutil
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, MIB, expect, run  # noqa: E402
from nbd_client import FLUSH, READ, TRIM, WRITE, NbdClient  # noqa: E402

BLOCK = 4096


def pool_errors(daemon):
    return [pool.get("error", "") for pool in daemon.ctl_json("pool", "list")]


def second_daemon(workspace, daemon, pool):
    """A second daemon that is given a pool which is in use opens nothing and says why."""
    other = harness.Daemon(workspace, name="second", arguments=("--pool", pool))
    try:
        other.start()
        said = " ".join(pool_errors(other))
        other.stop()
    except AssertionError:
        said = other.tail()
    expect(
        "lock" in said or "in use" in said or "another" in said, f"the second daemon said: {said!r}"
    )
    with NbdClient(daemon.nbd_socket, "first") as client:
        client.write(0, b"x" * BLOCK)  # the first one does not care


def damaged_pool(workspace, name, damage, words):
    """Makes a pool, stops its daemon, damages it, and expects a refusal with one of the words."""
    daemon = harness.Daemon(workspace, name=name).start()
    pool = workspace / f"{name}-pool"
    daemon.ctl("pool", "create", pool, "--size", "64m")
    daemon.attach("v", 16 * MIB)
    with NbdClient(daemon.nbd_socket, "v") as client:
        client.write(0, b"k" * BLOCK)
        client.flush()
    expect(daemon.stop() == 0, "the daemon did not end cleanly")
    damage(pool)
    try:
        daemon.start()
        said = " ".join(pool_errors(daemon))
        daemon.stop()
    except AssertionError:
        said = daemon.tail()
    expect(any(word in said for word in words), f"the daemon said: {said!r}")


def truncate_data(pool):
    os.truncate(pool / "data", (pool / "data").stat().st_size // 2)


def remove_meta(pool):
    shutil.rmtree(pool / "meta")


def foreign_superblock(pool):
    """The superblock, wherever the format keeps it, becomes another program's bytes."""
    for name in ("superblock", "data"):
        if (pool / name).exists():
            with open(pool / name, "r+b") as file:
                file.write(b"\xeb\x3c\x90MSDOS5.0" + bytes(2 * BLOCK - 11))


def foreign_folder(workspace, daemon):
    """A folder with somebody's files is not turned into a pool."""
    folder = workspace / "photos"
    folder.mkdir()
    (folder / "data").write_bytes(b"holiday" * 1000)
    done = daemon.ctl("pool", "create", folder, "--size", "64m", check=False)
    expect(done.returncode != 0, "a folder with a foreign data file became a pool")
    expect((folder / "data").read_bytes() == b"holiday" * 1000, "the foreign file was changed")


def refusals(daemon):
    create = ("volume", "create")
    for name in ("", "../up", "a/b", "sp ace", "x" * 254, "nul\n"):
        done = daemon.ctl(*create, name, "--size", "16m", check=False)
        expect(done.returncode != 0, f"the name {name!r} was accepted")
    for size in ("0", "1", "1000", str(MIB - BLOCK), "1048577", "2000t", "-4096", "many"):
        done = daemon.ctl(*create, "sized", "--size", size, check=False)
        expect(done.returncode != 0, f"the size {size} was accepted")
    daemon.refuses("already", *create, "first", "--size", "16m")
    daemon.refuses("no-such", "volume", "attach", "no-such")
    daemon.refuses("no-such", "volume", "clone", "first@no-such", "copy")
    daemon.refuses("attach", "volume", "delete", "first")
    daemon.refuses("", "volume", "grow", "first", "--size", "1m")


def bad_requests(daemon):
    """Out of range and unaligned I/O are errors of the request, not of the connection."""
    with NbdClient(daemon.nbd_socket, "first") as client:
        end = client.size_bytes
        for kind in (READ, WRITE, TRIM):
            data = b"x" * BLOCK if kind == WRITE else b""
            reply = client.call(kind, end, BLOCK, data)
            expect(
                reply.error in (errno.EINVAL, errno.ENOSPC), f"past the end: error {reply.error}"
            )
            reply = client.call(kind, (1 << 64) - BLOCK, BLOCK, data)
            expect(reply.error in (errno.EINVAL, errno.ENOSPC), f"wrapping: error {reply.error}")
        reply = client.call(READ, 512, BLOCK)
        expect(reply.error == errno.EINVAL, f"unaligned read: error {reply.error}")
        reply = client.call(17)
        expect(reply.error == errno.EINVAL, f"unknown command: error {reply.error}")
        client.write(0, b"y" * BLOCK)
        expect(client.read(0, BLOCK) == b"y" * BLOCK, "the connection did not survive")


def vanishing_clients(daemon):
    """Clients that lie, stall or leave in the middle of a request hurt nobody else."""
    stalled = NbdClient(daemon.nbd_socket, "first")
    stalled._send(b"\x25\x60\x95\x13\x00\x00")  # pylint: disable=protected-access: half a request
    gone = NbdClient(daemon.nbd_socket, "first")
    for index in range(16):
        gone.submit(READ, index * 65536, 65536)
    gone.close()
    liar = NbdClient(daemon.nbd_socket, "first")
    liar._send(b"GET / HTTP/1.1\r\n\r\n" * 10)  # pylint: disable=protected-access
    with NbdClient(daemon.nbd_socket, "first") as client:
        for index in range(64):
            client.write(index * BLOCK, bytes([index]) * BLOCK)
            expect(client.read(index * BLOCK, BLOCK) == bytes([index]) * BLOCK, "wrong data")
        client.flush()
    stalled.close()
    liar.close()


def full_pool(workspace, daemon):
    """ENOSPC at once; what was flushed stays readable; deleting a volume brings the pool back."""
    pool = workspace / "small"
    daemon.ctl("pool", "create", pool, "--size", "64m")
    for name in ("keep", "filler"):
        daemon.ctl("volume", "create", name, "--size", "1g", "--pool", pool)
        daemon.attach(name)
    pattern = random.Random(3).randbytes(MIB)
    with NbdClient(daemon.nbd_socket, "keep") as keep:
        keep.write(0, pattern)
        keep.flush()
        with NbdClient(daemon.nbd_socket, "filler") as filler:
            written, error = 0, 0
            while written < GIB and not error:
                error = filler.call(WRITE, written, data=pattern).error
                written += MIB
            expect(error == errno.ENOSPC, f"writing beyond the pool gave error {error}")
            expect(filler.call(FLUSH).error == 0, "a flush fails because the pool is full")
            expect(filler.read(0, MIB) == pattern, "data is not readable in a full pool")
        expect(
            keep.call(WRITE, 500 * MIB, data=pattern).error == errno.ENOSPC, "no ENOSPC for another"
        )
        expect(keep.read(0, MIB) == pattern, "another volume's data is not readable")
        keep.write(0, pattern[::-1])  # an overwrite needs no space
        daemon.ctl("volume", "detach", "filler")
        daemon.ctl("volume", "delete", "filler")
        harness.wait_until(
            lambda: keep.call(WRITE, 500 * MIB, data=pattern).error == 0,
            "the space of the deleted volume",
            timeout=10,
        )
        expect(keep.read(0, MIB) == pattern[::-1], "data changed meanwhile")
    daemon.ctl("pool", "check", pool, "--verify-data")


def bit_flip(daemon, pool):
    """A flipped bit in the data file is an I/O error and a metric; never data."""
    daemon.attach("flip", 16 * MIB)
    pattern = random.Random(4).randbytes(BLOCK)
    with NbdClient(daemon.nbd_socket, "flip") as client:
        client.write(8 * BLOCK, pattern)
        client.write(9 * BLOCK, b"n" * BLOCK)
        client.flush()
    daemon.ctl("volume", "detach", "flip")  # checksums are durable once the region is clean
    flipped = flip_bit(pool / "data", pattern)
    daemon.attach("flip")
    before = daemon.metric("keelson_pool_checksum_errors_total")
    with NbdClient(daemon.nbd_socket, "flip") as client:
        reply = client.call(READ, 8 * BLOCK, BLOCK)
        expect(reply.error == errno.EIO, f"reading block {flipped} of the data file: {reply.error}")
        expect(client.read(9 * BLOCK, BLOCK) == b"n" * BLOCK, "its neighbour is not readable")
        expect(
            daemon.metric("keelson_pool_checksum_errors_total") > before, "the metric did not rise"
        )
        done = daemon.ctl("pool", "check", pool, "--verify-data", check=False)
        expect(done.returncode != 0, "pool check --verify-data does not see it")
        client.write(8 * BLOCK, pattern)
        expect(client.read(8 * BLOCK, BLOCK) == pattern, "a new write does not heal the block")


def flip_bit(path, pattern):
    """Flips one bit of the only block of the file that holds the pattern; its index."""
    with open(path, "r+b", buffering=0) as data:
        index = 0
        while block := data.read(BLOCK):
            if block == pattern:
                data.seek(index * BLOCK + 1000)
                data.write(bytes([block[1000] ^ 0x10]))
                os.fsync(data.fileno())
                # The daemon reads with O_DIRECT: the flip must not hide in the page cache alone.
                os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                return index
            index += 1
    raise AssertionError(f"{path} does not hold the block that was written")


def main():
    checks = harness.Checks()
    with harness.Workspace("bad-input") as workspace:
        workspace.require_free(2 * GIB)
        pool = workspace / "pool"
        daemon = harness.Daemon(workspace).start()
        daemon.ctl("pool", "create", pool, "--size", "256m")
        daemon.attach("first", 16 * MIB)
        with checks.case("names and sizes out of range are refused"):
            refusals(daemon)
        with checks.case("bad requests are errors of their own"):
            bad_requests(daemon)
        with checks.case("clients that lie, stall or vanish hurt nobody else"):
            vanishing_clients(daemon)
        with checks.case("a second daemon does not open the pool"):
            second_daemon(workspace, daemon, pool)
        with checks.case("a foreign data file is left alone"):
            foreign_folder(workspace, daemon)
        with checks.case("a flipped bit is an I/O error and a metric"):
            bit_flip(daemon, pool)
        with checks.case("a full pool says so at once and comes back"):
            full_pool(workspace, daemon)
        with checks.case("a truncated data file is refused"):
            damaged_pool(
                workspace, "truncated", truncate_data, ("truncated", "shorter", "smaller", "bytes")
            )
        with checks.case("a missing metadata store is refused"):
            damaged_pool(workspace, "metaless", remove_meta, ("meta",))
        with checks.case("a foreign superblock is refused"):
            damaged_pool(workspace, "foreign", foreign_superblock, ("superblock", "not a Keelson"))
        with checks.case("the daemon is alive after all of it"):
            run("nbdinfo", "--size", daemon.uri("first"))
            expect(
                json.loads(daemon.ctl("--output", "json", "volume", "list").stdout), "no volumes"
            )
            expect(daemon.stop() == 0, "the daemon did not end cleanly")
        if checks.failed:
            print(daemon.tail())
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
