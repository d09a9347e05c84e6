#!/usr/bin/python3
"""Scrubs with the real daemons: a bit that flips in the data file of one copy is found and put
right from another one, in the volume and in a snapshot of it; one copy alone only says so."""

import os
import pathlib
import random
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, expect, wait_until  # noqa: E402
from nbd_client import NbdClient  # noqa: E402

BLOCK = 4096


def pattern(seed):
    return random.Random(seed).randbytes(BLOCK)


def flip_bit(path, content):
    """Flips one bit of the only block of the file that has this content."""
    with open(path, "r+b", buffering=0) as data:
        index = 0
        while block := data.read(BLOCK):
            if block == content:
                data.seek(index * BLOCK + 1000)
                data.write(bytes([block[1000] ^ 0x10]))
                os.fsync(data.fileno())
                # The daemon reads with O_DIRECT: the flip must not hide in the page cache alone.
                os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                return
            index += 1
    raise AssertionError(f"{path} does not hold the block that was written")


def holds(path, content):
    with open(path, "rb", buffering=0) as data:
        os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := data.read(BLOCK):
            if block == content:
                return True
    return False


def pool_data(workspace, node):
    return workspace / f"{node}-pool" / "data"


def repairs_a_copy(cluster, workspace):
    cluster.create("vol", "64m", 3)
    cluster.attach("vol", "a")
    with NbdClient(cluster["a"].nbd_socket, "vol") as client:
        for block in range(64):
            client.write(block * 256 * 1024, pattern(block))
        client.flush()
        cluster.ctl("volume", "snapshot", "vol", "s1")
        client.write(0, pattern(100))
        client.flush()
    sound = cluster.ctl_json("volume", "scrub", "vol")
    expect(sound["bad_blocks"] == sound["different_blocks"] == 0, f"{sound}")
    expect(sound["regions"] == 4 and sound["read_bytes"] == 3 * 65 * BLOCK, f"{sound}")

    flip_bit(pool_data(workspace, "b"), pattern(7))  # on another node
    flip_bit(pool_data(workspace, "a"), pattern(20))  # on the engine's own
    flip_bit(pool_data(workspace, "c"), pattern(0))  # only the snapshot shows it
    table = cluster.ctl("volume", "scrub", "vol").stdout
    expect("3 bad blocks, 3 repaired, 0 unrepairable, 0 different" in table, table)
    expect("s1" in table, f"no snapshot is named: {table}")
    for node, seed in (("b", 7), ("a", 20), ("c", 0)):
        expect(holds(pool_data(workspace, node), pattern(seed)), f"node {node} was not repaired")
    expect(cluster.ctl_json("volume", "scrub", "vol")["bad_blocks"] == 0, "it is bad again")
    expect("last scrub: 0 bad blocks" in cluster.ctl("volume", "status", "vol").stdout, "status")
    metrics = cluster["a"].metrics()
    expect(metrics['keelson_volume_scrub_repaired_blocks_total{volume="vol"}'] == 3, "metric")
    expect(cluster.in_sync("vol"), "a copy was lost by it")


def says_what_is_lost(cluster, workspace):
    for node in "abc":
        flip_bit(pool_data(workspace, node), pattern(9))
    done = cluster.ctl("--output", "json", "volume", "scrub", "vol", check=False)
    expect(done.returncode != 0, "a block that is lost is no failure")
    expect("cannot be repaired" in done.stderr, done.stderr)
    report = harness.json.loads(done.stdout)
    expect(report["unrepairable_blocks"] == 3 and report["repaired_blocks"] == 0, f"{report}")
    expect({one["offset"] for one in report["findings"]} == {9 * 256 * 1024}, f"{report}")


def is_slow_and_ends_with_the_attachment(cluster):
    cluster.ctl("volume", "scrub", "vol", "--rate", "100k", "--no-wait")
    status = cluster.ctl("volume", "status", "vol").stdout
    expect("scrub: " in status and "% done" in status, status)
    cluster.refuses("being scrubbed already", "volume", "scrub", "vol")
    with NbdClient(cluster["a"].nbd_socket, "vol") as client:
        client.write(BLOCK, pattern(200))
    cluster.ctl("volume", "detach", "vol")
    cluster.refuses("not attached", "volume", "scrub", "vol")


def one_copy(daemon, pool):
    daemon.attach("single", 16 << 20)
    with NbdClient(daemon.nbd_socket, "single") as client:
        client.write(0, pattern(300))
        client.flush()
    expect(daemon.ctl_json("volume", "scrub", "single")["bad_blocks"] == 0, "bad from the start")
    flip_bit(pool / "data", pattern(300))
    done = daemon.ctl("volume", "scrub", "single", check=False)
    expect(done.returncode != 0 and "1 unrepairable" in done.stdout, done.stdout + done.stderr)


def scrubs_by_itself(workspace):
    daemon = harness.Daemon(workspace, name="z", arguments=("--scrub-interval", "2s")).start()
    daemon.ctl("pool", "create", workspace / "z-pool", "--size", "64m")
    daemon.attach("own", 16 << 20)
    with NbdClient(daemon.nbd_socket, "own") as client:
        client.write(0, pattern(400))
    name = 'keelson_volume_scrub_read_bytes_total{volume="own"}'
    wait_until(lambda: daemon.metrics()[name] >= 2 * BLOCK, "two scrubs")
    expect(daemon.stop() == 0, daemon.tail())


def main():
    checks = harness.Checks()
    with harness.Workspace("scrub") as workspace:
        workspace.require_free(GIB)
        cluster = harness.Cluster(workspace, 3)
        with checks.case("flipped bits on three copies are found and repaired, in a snapshot too"):
            repairs_a_copy(cluster, workspace)
        with checks.case("a block that rotted on every copy is reported, not repaired"):
            says_what_is_lost(cluster, workspace)
        with checks.case("a scrub keeps to its rate, is seen, and ends with the attachment"):
            is_slow_and_ends_with_the_attachment(cluster)
        with checks.case("one copy is verified, and nothing claimed"):
            one_copy(cluster["a"], workspace / "a-pool")
        with checks.case("a daemon scrubs by itself"):
            scrubs_by_itself(workspace)
        with checks.case("all daemons end cleanly"):
            for name, node in cluster.nodes.items():
                expect(node.stop() == 0, f"node {name}:\n{node.tail()}")
        if checks.failed:
            cluster.print_logs()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
