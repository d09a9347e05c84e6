#!/usr/bin/python3
"""What an operator does to volumes with copies on several nodes beyond their daily life, with real
daemons: going on without a majority, and how many copies writes need."""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, expect, wait_until  # noqa: E402
from nbd_client import NbdClient  # noqa: E402

BLOCK = 4096


def put(cluster, volume, node, offset, word):
    with NbdClient(cluster[node].nbd_socket, volume) as client:
        client.write(offset, word.encode().ljust(BLOCK, b"."))
        client.flush()


def get(cluster, volume, node, offset):
    with NbdClient(cluster[node].nbd_socket, volume) as client:
        return client.read(offset, BLOCK).rstrip(b".").decode()


def copies_of(cluster, volume):
    return [m["node"] for m in cluster.status(volume)["members"] if not m["witness"]]


def goes_on_from_one_copy(cluster):
    """Two of three nodes are gone: an operator goes on from the third, and rebuilds."""
    cluster.create("forced", "32m", 3)
    kept, lost, absent = copies_of(cluster, "forced")
    replica = cluster.member("forced", kept)["replica_id"]
    force = ["volume", "attach", "forced", "--on", kept, "--force-from", replica]
    cluster.attach("forced", kept)
    put(cluster, "forced", kept, 0, "old")
    cluster.refuses("without --force-from", *force, "--yes-lose-newer-writes")
    cluster[lost].kill()
    cluster[absent].kill()
    said = cluster.refuses("--yes-lose-newer-writes", *force)
    expect(lost in said and absent in said, f"it does not name who is missing: {said}")
    cluster.ctl(*force, "--yes-lose-newer-writes")
    expect(get(cluster, "forced", kept, 0) == "old", "what the copy had is gone")
    put(cluster, "forced", kept, 0, "new")
    expect(cluster.status("forced")["forced"], "not shown as forced")

    # Who comes back is told, and keeps what it has.
    cluster[lost].start()
    wait_until(lambda: quarantined(cluster, "forced") == [lost], "the copy to be quarantined")
    expect("quarantined" in cluster.ctl("volume", "status", "forced").stdout, "not shown")
    cluster.refuses("replica remove", "replica", "add", "forced", "--on", lost)

    # While the one copy is gone, those of before do not go on by themselves.
    cluster.ctl("volume", "detach", "forced")
    cluster[kept].kill()
    cluster[absent].start()
    cluster.refuses("an operator went on", "volume", "attach", "forced", "--on", lost)
    expect("an operator went on" in cluster.ctl("why", "forced").stdout, "why does not say so")
    cluster[kept].start()

    # Back to strength, with the other's place freed by hand.
    cluster.attach("forced", kept)
    wait_until(lambda: len(quarantined(cluster, "forced")) == 2, "both to be quarantined")
    expect(get(cluster, "forced", kept, 0) == "new", "a write after the force is gone")
    spare = next(name for name in cluster.nodes if name not in (kept, lost, absent))
    cluster.ctl("replica", "add", "forced", "--on", spare)
    cluster.wait_in_sync("forced")
    cluster.ctl("replica", "remove", "forced", "--on", lost)
    cluster.ctl("replica", "add", "forced", "--on", lost)
    cluster.wait_in_sync("forced")
    expect(sorted(copies_of(cluster, "forced")) == sorted([kept, spare, lost]), "not three copies")
    cluster.ctl("volume", "detach", "forced")
    cluster.attach("forced", lost)
    expect(get(cluster, "forced", lost, 0) == "new", "the new copy differs")
    cluster.ctl("volume", "detach", "forced")
    cluster.ctl("volume", "delete", "forced")


def needs_fewer_copies_when_there_are_fewer(cluster):
    """Two copies are left of three: writes go on while one of them is dead."""
    cluster.refuses("more than the 2", "volume", "create", "fewer", "--size", "32m",
                    "--replicas", "2", "--min-in-sync", "3")
    cluster.create("fewer", "32m", 3)
    first, second, third = copies_of(cluster, "fewer")
    cluster.attach("fewer", first)
    expect(cluster.status("fewer")["min_in_sync"] == 2, "two of three copies by default")
    cluster.ctl("volume", "set", "fewer", "--min-in-sync", "3")
    cluster.refuses("3", "volume", "set", "fewer", "--min-in-sync", "4")
    cluster.ctl("replica", "remove", "fewer", "--on", third)
    status = cluster.status("fewer")
    expect(status["min_in_sync"] == 1 and status["copies"] == 2, f"{status}")
    expect(any(member["witness"] for member in status["members"]), "two copies without a witness")
    cluster[second].kill()
    put(cluster, "fewer", first, 0, "alone")
    cluster[second].start()
    cluster.wait_in_sync("fewer")
    cluster.ctl("volume", "detach", "fewer")
    cluster.ctl("volume", "delete", "fewer")


def quarantined(cluster, volume):
    return [left["node"] for left in cluster.status(volume)["leftovers"] if left["quarantined"]]


def goes_back_to_a_copy_left_behind(cluster):
    """The copy that was lost turns up with the better data: an operator goes on from that one."""
    cluster.create("back", "32m", 3)
    nodes = copies_of(cluster, "back")
    ids = {node: cluster.member("back", node)["replica_id"] for node in nodes}
    cluster.attach("back", nodes[0])
    put(cluster, "back", nodes[0], 0, "both")
    cluster.ctl("volume", "snapshot", "back", "s")
    for node in nodes[1:]:
        cluster[node].kill()
    force = ["--yes-lose-newer-writes", "--force-from"]
    cluster.ctl("volume", "attach", "back", "--on", nodes[0], *force, ids[nodes[0]])
    put(cluster, "back", nodes[0], 0, "one")
    for node in nodes[1:]:
        cluster[node].start()
    wait_until(lambda: len(quarantined(cluster, "back")) == 2, "both to be quarantined")
    cluster.ctl("volume", "attach", "back", "--on", nodes[1], *force, ids[nodes[1]])
    expect(get(cluster, "back", nodes[1], 0) == "both", "not the content of the chosen copy")
    wait_until(lambda: nodes[0] in quarantined(cluster, "back"), "the other to be quarantined")
    snapshots = cluster.ctl("volume", "snapshots", "back").stdout
    expect("s" in snapshots.split(), f"its snapshot is gone: {snapshots}")
    cluster.ctl("volume", "detach", "back")
    cluster.ctl("volume", "delete", "back")


def main():
    checks = harness.Checks()
    with harness.Workspace("operations") as workspace:
        workspace.require_free(2 * GIB)
        cluster = harness.Cluster(workspace, 4)
        with checks.case("an operator goes on from one copy without a majority, and rebuilds"):
            goes_on_from_one_copy(cluster)
        with checks.case("an operator goes back to a copy that was left behind"):
            goes_back_to_a_copy_left_behind(cluster)
        with checks.case("fewer copies: writes need fewer of them"):
            needs_fewer_copies_when_there_are_fewer(cluster)
        with checks.case("every daemon ends cleanly and every pool is sound"):
            for name, node in cluster.nodes.items():
                expect(node.stop() == 0, f"node {name}:\n{node.tail()}")
                report = harness.run(
                    cluster.binaries / "keelctl", "pool", "check", workspace / f"{name}-pool",
                    "--offline", "--verify-data",
                )
                expect("sound" in report.stdout, report.stdout)
        if checks.failed:
            for name, node in cluster.nodes.items():
                print(f"--- node {name}\n{node.tail()}")
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
