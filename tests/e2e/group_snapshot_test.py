#!/usr/bin/python3
"""Snapshots of several volumes at one point in time: writes of all are held, then each is cut. A
client writes a number to one volume and, when that is answered, to another on another daemon; no
pair of snapshots may have a number in the second volume that the first one lacks."""

import pathlib
import sys
import threading
import time
import uuid

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, MIB, expect, wait_until  # noqa: E402
from nbd_client import NbdClient  # noqa: E402
from numbered_blocks import (  # noqa: E402
    BLOCK,
    Ledger,
    NumberedWriter,
    block_data,
    block_sequence,
)

VOLUMES = {"left": "a", "right": "b"}  # and the node that serves it
BLOCKS = 64  # that the numbers are written to, one after the other
ROUNDS = 10


class OrderedWriter(threading.Thread):
    """Writes 1 to left, then to right, then 2 to left, and so on, each when the last is answered."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.clients = [NbdClient(cluster[node].nbd_socket, name) for name, node in VOLUMES.items()]
        self.number = 0
        self.longest_s = 0.0
        self.error = None
        self._stop_it = False
        self.start()

    def run(self):
        try:
            while not self._stop_it:
                self.number += 1
                block = self.number % BLOCKS
                for client in self.clients:
                    began = time.monotonic()
                    client.write(block * BLOCK, block_data(block, self.number))
                    self.longest_s = max(self.longest_s, time.monotonic() - began)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def stop(self):
        self._stop_it = True
        self.join()
        for client in self.clients:
            client.close()
        expect(self.error is None, f"a write failed: {self.error!r}")


def on_each(cluster, *command, volumes=tuple(VOLUMES), check=True):
    """keelctl volume COMMAND VOLUME ARGUMENTS... of each volume, at the node that serves it."""
    for name in volumes:
        cluster[VOLUMES[name]].ctl("volume", command[0], name, *command[1:], check=check)


def hold_all(cluster, limit_ms):
    """The id. A hold that cannot begin in time on a busy machine is tried again."""
    for tries_left in range(4, -1, -1):
        hold = uuid.uuid4().hex
        try:
            on_each(cluster, "hold", hold, "--limit-ms", limit_ms)
            return hold
        except AssertionError:
            on_each(cluster, "release", hold)
            if tries_left == 0:
                raise
    return None


def take_group(cluster, snapshot, volumes=tuple(VOLUMES), while_held=lambda: None):
    """What whoever wants snapshots of a group does: all of them, or none and again."""
    for tries_left in range(4, -1, -1):
        hold = hold_all(cluster, 10000)
        try:
            while_held()
            on_each(cluster, "snapshot", snapshot, "--hold", hold, volumes=volumes)
            return
        except AssertionError:
            on_each(cluster, "snapshot-delete", snapshot, check=False)
            if tries_left == 0:
                raise
        finally:
            on_each(cluster, "release", hold)


def newest(cluster, volume, snapshot):
    """The highest number that the snapshot has."""
    node = VOLUMES[volume]
    clone = f"{volume}-{snapshot}"
    cluster.ctl("volume", "clone", f"{volume}@{snapshot}", clone)
    cluster.attach(clone, node)
    with NbdClient(cluster[node].nbd_socket, clone) as client:
        data = client.read(0, BLOCKS * BLOCK)
    cluster.ctl("volume", "detach", clone)
    cluster.ctl("volume", "delete", clone)
    return max(
        block_sequence(i, data[i * BLOCK : (i + 1) * BLOCK]) for i in range(BLOCKS)
    )


def expect_consistent(cluster, snapshot):
    left, right = newest(cluster, "left", snapshot), newest(cluster, "right", snapshot)
    expect(right <= left <= right + 1, f"{snapshot}: left has {left}, right has {right}")
    return right


def is_one_point_in_time(cluster):
    loads = [
        NumberedWriter(
            NbdClient(cluster[node].nbd_socket, name), Ledger(8 * MIB // BLOCK, 1024), depth=8
        )
        for name, node in VOLUMES.items()
    ]
    writer = OrderedWriter(cluster)
    rounds = [f"g{i}" for i in range(ROUNDS)]
    for name in rounds:
        seen = writer.number
        wait_until(lambda seen=seen: writer.number > seen + 2, "writes to go on")
        take_group(cluster, name, list(VOLUMES)[:: -1 if name[-1] in "13579" else 1])
    print(f"note: {len(rounds)} groups; the longest write took {writer.longest_s:.3f} s")
    for load in loads:
        load.stop_served()
    # Without a hold it is not: what the writer does is quick enough to tell.
    for name, node in VOLUMES.items():
        cluster[node].ctl("volume", "snapshot", name, "plain")
    writer.stop()
    right = [expect_consistent(cluster, name) for name in rounds]
    expect(right == sorted(right) and right[0] > 0, f"{right}")
    left, right = newest(cluster, "left", "plain"), newest(cluster, "right", "plain")
    expect(right > left, f"a pair cut one after the other is consistent: {left}, {right}")


def does_not_cut_late(cluster):
    writer = OrderedWriter(cluster)
    hold = hold_all(cluster, 2000)
    before = writer.number
    wait_until(lambda: writer.number > before + 2, "writes to go on by themselves")
    for name, node in VOLUMES.items():
        cluster[node].refuses("hold", "volume", "snapshot", name, "late", "--hold", hold)
        cluster[node].refuses("hold", "volume", "hold", name, hold, "--limit-ms", 1000)
        listed = [one["name"] for one in cluster[node].ctl_json("volume", "snapshots", name)]
        expect("late" not in listed, f"{listed}")
    writer.stop()


def survives_a_death(cluster):
    writer = OrderedWriter(cluster)
    take_group(cluster, "death", while_held=cluster["c"].kill)
    before = writer.number
    wait_until(lambda: writer.number > before + 2, "writes to go on")
    cluster["c"].start()
    for name in VOLUMES:
        cluster.wait_in_sync(name)
    writer.stop()
    expect_consistent(cluster, "death")


def does_not_hold_up_a_detachment(cluster):
    writer = OrderedWriter(cluster)
    hold_all(cluster, 10000)
    began = time.monotonic()
    for name in VOLUMES:
        cluster.ctl("volume", "detach", name)
    took = time.monotonic() - began
    expect(took < 6, f"it took {took:.1f} s")
    writer.join()
    expect(writer.error is not None, "the writer lost its volumes and does not know")
    for name, node in VOLUMES.items():
        cluster.attach(name, node)


def lists_blocks(cluster):
    """Where a snapshot has data, and what changed since an older one, at any node with a copy."""
    cluster.create("listed", f"{32 * MIB}", 3)
    cluster.attach("listed", "a")
    with NbdClient(cluster["a"].nbd_socket, "listed") as client:
        client.write(0, bytes([1]) * 2 * BLOCK)
        client.write(MIB, bytes([2]) * BLOCK)
        cluster.ctl("volume", "snapshot", "listed", "old")
        client.write(BLOCK, bytes([3]) * BLOCK)
        client.trim(MIB, BLOCK)
        client.write(5 * MIB - BLOCK, bytes([4]) * 2 * BLOCK)  # of two extents
        cluster.ctl("volume", "snapshot", "listed", "new")
    cluster.ctl("volume", "detach", "listed")

    def listed(node, *arguments):
        lines = cluster[node].ctl("volume", "snapshot-blocks", "listed", *arguments).stdout
        return [tuple(map(int, line.split())) for line in lines.splitlines()]

    last = (5 * MIB - BLOCK, 2 * BLOCK)
    for node in cluster.nodes:
        expect(listed(node, "old") == [(0, 2 * BLOCK), (MIB, BLOCK)], f"{listed(node, 'old')}")
        expect(listed(node, "new") == [(0, 2 * BLOCK), last], f"{listed(node, 'new')}")
        changed = listed(node, "new", "--since", "old")
        expect(changed == [(BLOCK, BLOCK), (MIB, BLOCK), last], f"{changed}")
    cluster["b"].refuses("older", "volume", "snapshot-blocks", "listed", "old", "--since", "new")
    cluster["b"].refuses("no snapshot", "volume", "snapshot-blocks", "listed", "none")


def main():
    checks = harness.Checks()
    with harness.Workspace("group") as workspace:
        workspace.require_free(2 * GIB)
        cluster = harness.Cluster(workspace, 3)
        for name, node in VOLUMES.items():
            cluster.create(name, f"{32 * MIB}", 3)
            cluster.attach(name, node)
        with checks.case("snapshots cut under holds are of one point in time, under load"):
            is_one_point_in_time(cluster)
        with checks.case("nothing is cut when a hold is over"):
            does_not_cut_late(cluster)
        with checks.case("a node dies while writes are held"):
            survives_a_death(cluster)
        with checks.case("a hold does not hold up a detachment"):
            does_not_hold_up_a_detachment(cluster)
        with checks.case("what a snapshot has, and what changed, is listed"):
            lists_blocks(cluster)
        with checks.case("all daemons end cleanly, their pools are sound"):
            cluster.end_soundly()
        if checks.failed:
            cluster.print_logs()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
