#!/usr/bin/python3
"""Three daemons, each in a network namespace of its own, under verified load while the network
between them fails, in both directions or in one, and while they are killed in the middle of a
resync.

usage: tests/e2e/faults_test.py [--absence SECONDS]

With --absence (the nightly suite: 60) also: how much is copied to a replica that was away for so
long under load. Needs root, for the namespaces.
"""

import argparse
import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, MIB, Skip, expect, wait_until  # noqa: E402
from load import every_copy_is_equal, finish, fio  # noqa: E402
from nbd_client import NbdClient  # noqa: E402
from network import Network  # noqa: E402
from numbered_blocks import BLOCK, Ledger, NumberedWriter  # noqa: E402

VOLUME = "data"
VOLUME_MIB = 104
FIO_MIB = 96  # from 0 on; the numbered blocks are behind it
CUT_S = 3  # twice a member's timeout
# What the goals allow, and what fails a test on a machine that is busy with other things too.
KILLED_GOAL_S, CUT_GOAL_S, TAKE_OVER_GOAL_S = 0.5, 2.5, 5.0
BUSY = 2
SLOW_MEGABIT = 160
GENERATIONS_S = 12  # what was written earlier is in a generation that has become clean


class Load:
    """fio that verifies what it writes, and numbered blocks, on the volume while it is attached to
    one node. `end` waits for both and reads back everything that fio ever wrote."""

    def __init__(self, cluster, ledger, seconds):
        self.cluster = cluster
        self.node = serving(cluster)
        self.uri = cluster.uri(VOLUME, self.node)
        self.ledger = ledger
        self.fio = fio(
            self.uri, "faults", f"--size={FIO_MIB}m", "--time_based", f"--runtime={seconds}",
            "--rate=,24m",
        )
        self.writer = NumberedWriter(self.client(), ledger, depth=4, pause_s=0.002)
        time.sleep(1)
        self.writer.take_longest()

    def client(self):
        return NbdClient(self.cluster[self.node].nbd_socket, VOLUME)

    def still_served(self):
        expect(self.fio.poll() is None or self.fio.returncode == 0, "fio has failed")
        expect(self.writer.error is None, f"a writer ended: {self.writer.error!r}")
        expect(self.writer.refused == 0, f"{self.writer.refused} writes failed")

    def end(self):
        finish(self.fio, 120)
        self.writer.stop_served()
        verify(self.cluster, self.node, self.ledger)


def serving(cluster):
    return cluster.status(VOLUME)["attached_on"]


def verify(cluster, node, ledger):
    """Every block that fio wrote is whole and in place, and every numbered one what it may be."""
    finish(fio(cluster.uri(VOLUME, node), "verify", f"--size={FIO_MIB}m", "--rw=read"))
    with NbdClient(cluster[node].nbd_socket, VOLUME) as client:
        ledger.expect_sound(client)


def others(cluster):
    return [name for name in cluster.nodes if name != serving(cluster)]


def wait_until_out(cluster, node):
    wait_until(lambda: cluster.status(VOLUME)["in_sync"] == 2, f"the copy on {node} to be given up")


def measured(what, seconds, goal):
    print(f"note: {what}: {seconds:.3f} s (goal {goal} s)")
    expect(seconds < BUSY * goal, f"{what}: {seconds:.3f} s, more than {BUSY} times the goal")


def full_partition(cluster, network, ledger):
    away = others(cluster)[0]
    load = Load(cluster, ledger, 8)
    network.isolate(away)
    wait_until_out(cluster, away)
    time.sleep(CUT_S)
    longest = load.writer.take_longest()
    load.still_served()
    why = cluster.ctl("why", VOLUME).stdout
    expect("degraded" in why and f"node {away}" in why, f"why says: {why}")
    network.heal()
    cluster.wait_in_sync(VOLUME)
    load.end()
    measured("a replica is cut off: longest write", longest, CUT_GOAL_S)


def one_way_partition(cluster, network, ledger):
    """Once the replica does not hear the engine, once the engine does not hear the replica."""
    here, away = serving(cluster), others(cluster)[-1]
    load = Load(cluster, ledger, 10)
    for sender, receiver in ((here, away), (away, here)):
        network.cut(sender, receiver)
        wait_until_out(cluster, away)
        time.sleep(1)
        longest = load.writer.take_longest()
        load.still_served()
        network.heal()
        cluster.wait_in_sync(VOLUME)
        what = "the engine" if sender == here else "the replica"
        measured(f"what {what} sends is lost: longest write", longest, CUT_GOAL_S)
        load.writer.take_longest()
    load.end()


def engine_cut_off(cluster, network, ledger):
    """Its I/O waits; another node takes over; healed, it acknowledges and changes nothing."""
    old, new = serving(cluster), others(cluster)[0]
    client = NbdClient(cluster[old].nbd_socket, VOLUME)
    writer = NumberedWriter(client, ledger, depth=8)
    time.sleep(0.5)
    network.isolate(old)
    cluster.unreachable.add(old)
    time.sleep(0.5)
    acknowledged = writer.acknowledged
    time.sleep(2)
    expect(writer.acknowledged == acknowledged, "a write was acknowledged by one copy of three")
    expect(writer.refused == 0 and writer.error is None, "a write did not wait")

    began = time.monotonic()
    cluster.attach(VOLUME, new, "--force")
    writer.watch()
    with NbdClient(cluster[new].nbd_socket, VOLUME) as successor:
        successor.write(FIO_MIB * MIB - BLOCK, successor.read(FIO_MIB * MIB - BLOCK, BLOCK))
        took = time.monotonic() - began
        ledger.expect_sound(successor)
    expect(writer.refused == 0, "the old engine's writes did not wait")
    load = Load(cluster, ledger, 4)
    network.heal()
    cluster.unreachable.clear()
    wait_until(lambda: writer.refused or writer.error, "the old engine's writes to end")
    writer.stop()
    expect(writer.late() == 0, f"the fenced engine acknowledged {writer.late()} writes")
    cluster.wait_in_sync(VOLUME)
    expect(serving(cluster) == new, f"it is attached on {serving(cluster)}")
    load.end()
    measured("an engine is cut off: take-over, to the first write", took, TAKE_OVER_GOAL_S)


def wait_until_copying(cluster, node):
    """It is in the middle of a resync."""

    def copying():
        member = cluster.member(VOLUME, node)
        left, copied = member["resync_regions_left"], member["resync_copied_bytes"]
        expect(member["state"] != "in-sync", f"node {node} was in sync before it could be killed")
        return member["state"] == "syncing" and copied > 0 and left > 2

    wait_until(copying, f"a resync of node {node}")


def write_everything(cluster, node):
    """So that all of it is copied to whoever is away."""
    uri = cluster.uri(VOLUME, node)
    finish(fio(uri, "fill", f"--size={FIO_MIB}m", "--rw=write", "--iodepth=16"))


def killed_in_its_resync(cluster, network, ledger):
    """Twice in a row; then it is made whole."""
    target = others(cluster)[0]
    load = Load(cluster, ledger, 10)
    cluster[target].kill()
    wait_until_out(cluster, target)
    longest = load.writer.take_longest()
    time.sleep(2)  # fio has been everywhere
    network.limit(target, SLOW_MEGABIT)
    for _ in range(2):
        cluster[target].start()
        wait_until_copying(cluster, target)
        cluster[target].kill()
        load.still_served()
    network.limit(target, None)
    cluster[target].start()
    cluster.wait_in_sync(VOLUME)
    load.end()
    measured("a replica's process is killed: longest write", longest, KILLED_GOAL_S)


def busiest(cluster, nodes):
    """Whom the data port's requests go to."""
    def requests(node):
        return cluster[node].metric("keelson_data_requests_total")

    before = {node: requests(node) for node in nodes}
    return max(nodes, key=lambda node: requests(node) - before[node])


def source_killed(cluster, network, ledger):
    """The engine's own copy is being made whole from another node, and that node is killed: the
    resync goes on from the third, and I/O waits until two copies have everything again."""
    target = others(cluster)[0]
    cluster[target].kill()
    wait_until_out(cluster, target)
    write_everything(cluster, serving(cluster))
    cluster.ctl("volume", "detach", VOLUME)
    network.limit(target, SLOW_MEGABIT)
    cluster[target].start()
    cluster.attach(VOLUME, target)
    with NbdClient(cluster[target].nbd_socket, VOLUME) as client:
        writer = NumberedWriter(client, ledger, depth=2, pause_s=0.01)
        wait_until_copying(cluster, target)
        source = busiest(cluster, others(cluster))
        cluster[source].kill()
        state = cluster.member(VOLUME, target)["state"]
        expect(state != "in-sync", "the resync had ended before its source was killed")
        network.limit(target, None)
        wait_until(
            lambda: cluster.member(VOLUME, target)["state"] == "in-sync", "the resync to go on"
        )
        before = writer.acknowledged
        wait_until(lambda: writer.acknowledged > before, "I/O to go on")
        cluster[source].start()
        cluster.wait_in_sync(VOLUME)
        writer.stop_served()
    verify(cluster, target, ledger)


def engine_killed_in_a_resync(cluster, network, ledger):
    """The source is the engine's own copy: it resumes, and the resync with it."""
    here, target = serving(cluster), others(cluster)[0]
    cluster[target].kill()
    wait_until_out(cluster, target)
    write_everything(cluster, here)
    network.limit(target, SLOW_MEGABIT)
    writer = NumberedWriter(NbdClient(cluster[here].nbd_socket, VOLUME), ledger, pause_s=0.002)
    cluster[target].start()
    wait_until_copying(cluster, target)
    cluster[here].kill()
    writer.stop()
    expect(writer.refused == 0, f"{writer.refused} writes failed")
    network.limit(target, None)
    cluster[here].start()
    wait_until(lambda: serving(cluster) == here, "the volume to be resumed")
    cluster.wait_in_sync(VOLUME)
    verify(cluster, here, ledger)


def counters(node):
    """(bytes written, bytes copied) of the volume that is away."""
    metrics = node.metrics()
    names = ("written_bytes_total", "resync_bytes_total")
    return [metrics[f'keelson_volume_{name}{{volume="absence"}}'] for name in names]


def absence(cluster, seconds):
    """What is copied to a replica that was away under load, beside what was written meanwhile. The
    goal is for a working set that is written again and again; a few blocks all over a volume are
    the other end, where each of them brings its region of 4 MiB along."""
    size = GIB
    cluster.create("absence", size, 3)
    uri = cluster.attach("absence", "a")
    finish(fio(uri, "fill", f"--size={size}", "--rw=write", "--bs=1m", "--verify=0"), 300)
    for what, options, goal in (
        ("4 KiB at random in 64 MiB, 1,000 a second", ("--size=64m", "--rate_iops=1000"), 2),
        ("4 KiB at random in 1 GiB, 20 a second", (f"--size={size}", "--rate_iops=20"), None),
    ):
        load = fio(uri, "away", "--bs=4k", "--verify=0", "--norandommap", "--time_based",
                   f"--runtime={seconds + 120}", *options)
        time.sleep(GENERATIONS_S)
        cluster["c"].kill()
        begun = counters(cluster["a"])
        time.sleep(seconds)
        written = counters(cluster["a"])[0] - begun[0]
        cluster["c"].start()
        back = time.monotonic()
        cluster.wait_in_sync("absence", 120)
        took = time.monotonic() - back
        copied = counters(cluster["a"])[1] - begun[1]
        load.terminate()
        load.communicate()
        print(
            f"note: away for {seconds} s, {what}: {written / MIB:.0f} MiB written meanwhile, "
            f"{copied / MIB:.0f} MiB copied in {took:.1f} s: {copied / written:.2f} times"
        )
        expect(goal is None or copied <= goal * written, f"more than {goal} times")
    cluster.ctl("volume", "detach", "absence")
    cluster.ctl("volume", "delete", "absence")


def end_of_all(cluster, ledger):
    verify(cluster, serving(cluster), ledger)
    cluster.ctl("volume", "detach", VOLUME)
    every_copy_is_equal(cluster, VOLUME)
    cluster.end_soundly()


CASES = {
    "a replica is cut off and comes back": full_partition,
    "packets are lost in one direction only": one_way_partition,
    "an engine is cut off: another node takes over, and it stays fenced": engine_cut_off,
    "a member is killed in the middle of its resync, twice": killed_in_its_resync,
    "the source of a resync is killed": source_killed,
    "an engine is killed in the middle of a resync": engine_killed_in_a_resync,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    nightly = os.environ.get("KEELSON_SUITE") == "nightly"
    parser.add_argument("--absence", type=int, metavar="SECONDS", default=60 if nightly else 0)
    options = parser.parse_args()
    checks = harness.Checks()
    with harness.Workspace("faults") as workspace:
        try:
            workspace.require_free(8 * GIB if options.absence else 2 * GIB)
            network = Network(workspace, "abc")
        except Skip as why:
            print(f"skipped {len(CASES)} faults of network and processes: {why}")
            return 0
        pool_size = "1400m" if options.absence else "256m"
        cluster = harness.Cluster(workspace, 3, pool_size, network=network)
        cluster.create(VOLUME, f"{VOLUME_MIB}m", 3)
        cluster.attach(VOLUME, "a")
        write_everything(cluster, "a")
        ledger = Ledger(FIO_MIB * MIB // BLOCK, 1024)
        for title, case in CASES.items():
            with checks.case(title):
                try:
                    case(cluster, network, ledger)
                finally:
                    network.heal()
                    cluster.unreachable.clear()
        if options.absence:
            with checks.case(f"a replica is away for {options.absence} s under load"):
                absence(cluster, options.absence)
        with checks.case("every block is right, the copies are equal and the pools sound"):
            end_of_all(cluster, ledger)
        if checks.failed:
            cluster.print_logs()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
