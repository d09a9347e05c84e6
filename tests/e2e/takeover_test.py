#!/usr/bin/python3
"""Take-over by force, again and again: an engine that goes on writing numbered blocks loses its
volume to another node. Counted are its writes that were acknowledged after the new attach had
returned, and acknowledged writes that the new engine does not have: none of either may be. The
answer to a write that the new engine has may come later: it was under way, in a process that stood
still.

usage: tests/e2e/takeover_test.py [--trials N] [--volumes N]

A trial is one take-over of one volume. Those of a round are at the same time, on the same daemons.
In every second round all volumes are on one node, and its daemon is stopped before and goes on
after the others have taken over; in the rest each volume is on a node of its own choice, and all
are well.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import random
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, MIB, expect, wait_until  # noqa: E402
from nbd_client import WRITE, Disconnected, NbdClient  # noqa: E402
from numbered_blocks import BLOCK, Ledger, NumberedWriter  # noqa: E402

TRIALS, VOLUMES = 6, 3
BLOCKS = 64
NODES = "abc"
# How long the old engine is written to after it has lost the volume.
AFTERWARDS_S = 0.3
GOAL_S = 5.0


class Volume:
    def __init__(self, name):
        self.name = name
        self.ledger = Ledger(0, BLOCKS)
        self.node = None
        self.writer = None

    def client(self, cluster):
        return NbdClient(cluster[self.node].nbd_socket, self.name)


def write(cluster, volume):
    volume.writer = NumberedWriter(volume.client(cluster), volume.ledger, depth=4, pause_s=0.01)


def take_over(cluster, volume, node):
    """Attaches it by force and reads every block: (seconds of the attach, missing acknowledged
    writes, blocks with what they may not hold)."""
    old = volume.writer
    began = time.monotonic()
    cluster.attach(volume.name, node, "--force")
    took = time.monotonic() - began
    old.watch()
    volume.node = node
    with volume.client(cluster) as client:
        lost, foreign = volume.ledger.verify(client)
    write(cluster, volume)
    return took, lost, foreign


def settle(cluster, volume, old_node, old, counts):
    """The old engine, whatever it still does, acknowledges nothing and changes nothing."""
    wait_until(lambda: old.refused or old.error, f"{volume.name}: the old engine's writes to end")
    try:
        # A client that comes back to it finds no volume, or one that fails.
        with NbdClient(cluster[old_node].nbd_socket, volume.name, timeout=10) as client:
            if client.call(WRITE, data=bytes(BLOCK)).error == 0:
                counts["writes acknowledged late"] += 1
    except (OSError, Disconnected):
        pass
    old.stop()
    counts["writes acknowledged late"] += old.late()
    counts["answers of earlier writes under way"] += old.answered_later()
    counts["writes acknowledged"] += old.acknowledged
    counts["writes refused"] += old.refused


def one_round(cluster, pool, volumes, stopped, chooser, counts):
    """One trial for each volume; how long the attaches took."""
    if stopped:
        gather(volumes, chooser.choice(NODES), cluster, pool)
    time.sleep(chooser.uniform(0.05, 0.5))
    before = [(volume, volume.node, volume.writer) for volume in volumes]
    old = volumes[0].node
    if stopped:
        cluster[old].pause()
    targets = [chooser.choice([n for n in NODES if n != volume.node]) for volume in volumes]
    try:
        results = list(pool.map(take_over, [cluster] * len(volumes), volumes, targets))
    finally:
        if stopped:
            cluster[old].resume()
    time.sleep(AFTERWARDS_S)
    for volume, node, writer in before:
        settle(cluster, volume, node, writer, counts)
    for volume in volumes:
        cluster.wait_in_sync(volume.name)
    counts["acknowledged writes missing"] += sum(lost for _, lost, _ in results)
    counts["blocks with what they may not hold"] += sum(foreign for _, _, foreign in results)
    return [took for took, _, _ in results]


def gather(volumes, node, cluster, pool):
    """All on one node, without force."""

    def move(volume):
        if volume.node == node:
            return
        volume.writer.stop_served()
        cluster.ctl("volume", "detach", volume.name)
        volume.node = node
        cluster.attach(volume.name, node)
        write(cluster, volume)

    list(pool.map(move, volumes))


def trials(cluster, count, volume_count, chooser, counts):
    volumes = [Volume(f"v{number}") for number in range(min(count, volume_count))]
    for volume in volumes:
        cluster.create(volume.name, MIB, 3)
        volume.node = chooser.choice(NODES)
        cluster.attach(volume.name, volume.node)
        write(cluster, volume)
    took = {False: [], True: []}
    stopped = chooser.random() < 0.5
    with concurrent.futures.ThreadPoolExecutor(len(volumes)) as pool:
        while (left := count - len(took[False]) - len(took[True])) > 0:
            took[stopped] += one_round(cluster, pool, volumes[:left], stopped, chooser, counts)
            stopped = not stopped
    for volume in volumes:
        volume.writer.stop_served()
        with volume.client(cluster) as client:
            volume.ledger.expect_sound(client)
        cluster.ctl("volume", "detach", volume.name)
    for what, seconds in (("are well", took[False]), ("are stopped", took[True])):
        if seconds:
            ordered = sorted(seconds)
            print(
                f"note: {len(seconds)} take-overs of engines that {what}: attach by force took "
                f"{ordered[len(seconds) // 2]:.2f} s (median), {ordered[-1]:.2f} s (longest; "
                f"goal {GOAL_S} s)"
            )
            expect(ordered[-1] < 2 * GOAL_S, "a take-over took more than twice the goal")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, metavar="N", default=TRIALS)
    parser.add_argument("--volumes", type=int, metavar="N", default=VOLUMES, help="in a round")
    options = parser.parse_args()
    seed = int(os.environ.get("KEELSON_SEED", 0)) or random.randrange(1, 1 << 32)
    checks = harness.Checks()
    counts = collections.Counter()
    with harness.Workspace("takeover") as workspace:
        workspace.require_free(2 * GIB)
        cluster = harness.Cluster(workspace, len(NODES))
        with checks.case(f"{options.trials} take-overs (KEELSON_SEED={seed})"):
            trials(cluster, options.trials, options.volumes, random.Random(seed), counts)
            print(f"note: {dict(counts)}")
            expect(counts["writes acknowledged"] > 10 * options.trials, "hardly anything written")
            for wrong in ("writes acknowledged late", "acknowledged writes missing",
                          "blocks with what they may not hold"):
                expect(counts[wrong] == 0, f"{counts[wrong]} {wrong}")
        if checks.failed:
            cluster.print_logs()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
