#!/usr/bin/python3
"""What an operator does to volumes with copies on several nodes beyond their daily life, with real
daemons: going on without a majority, how many copies writes need, clones, and volumes of several
segments."""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, MIB, expect, wait_until  # noqa: E402
from nbd_client import NbdClient  # noqa: E402

BLOCK = 4096


def put(cluster, volume, node, offset, word):
    with NbdClient(cluster[node].nbd_socket, volume) as client:
        client.write(offset, word.encode().ljust(BLOCK, b"."))
        client.flush()


def get(cluster, volume, node, offset):
    with NbdClient(cluster[node].nbd_socket, volume) as client:
        return client.read(offset, BLOCK).rstrip(b".\0").decode()


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


def clones_have_a_life_of_their_own(cluster):
    """A snapshot of copies, one of which is gone, becomes a volume that outlives the first."""
    cluster.create("parent", "32m", 3)
    first, second, third = copies_of(cluster, "parent")
    cluster.attach("parent", first)
    put(cluster, "parent", first, 0, "then")
    cluster.ctl("volume", "snapshot", "parent", "s")
    put(cluster, "parent", first, 0, "now")
    cluster[third].kill()
    put(cluster, "parent", first, 4 * BLOCK, "degrades it")
    cluster.refuses("no complete snapshot", "volume", "clone", "parent@none", "child")
    cluster.refuses("already a volume", "volume", "clone", "parent@s", "parent")
    cluster.ctl("volume", "clone", "parent@s", "child")
    cluster[third].start()
    expect(sorted(copies_of(cluster, "child")) == sorted([first, second]), "not on these copies")
    expect(any(m["witness"] for m in cluster.status("child")["members"]), "no witness")
    cluster.attach("child", second)
    expect(get(cluster, "child", second, 0) == "then", "not the snapshot's content")
    expect(get(cluster, "parent", first, 0) == "now", "the parent was changed")
    put(cluster, "child", second, 0, "own")
    cluster.wait_in_sync("parent")
    cluster.ctl("volume", "detach", "parent")
    cluster.ctl("volume", "delete", "parent")
    cluster.ctl("replica", "add", "child", "--on", third)
    cluster.wait_in_sync("child")
    cluster.ctl("volume", "detach", "child")
    cluster.attach("child", third)
    expect(get(cluster, "child", third, 0) == "own", "a write is gone with the parent")
    expect(get(cluster, "child", third, 4 * BLOCK) == "", "it has what the parent wrote later")
    cluster.ctl("volume", "detach", "child")
    cluster.ctl("volume", "delete", "child")


def volumes_of_several_segments(cluster):
    """Segments with copies of their own, on all nodes: I/O, failures, snapshot, growth, clone."""
    segment = 64 * MIB
    cluster.ctl("volume", "create", "big", "--size", "300m", "--replicas", "2", "--segment-size",
                "64m")
    status = cluster.status("big")
    expect(status["segments"] == 5 and status["size_bytes"] == 300 * MIB, f"{status}")
    used = {m["node"] for m in status["members"] if not m["witness"]}
    expect(used == set("abcd"), f"copies only on {used}")
    cluster.attach("big", "a")
    for offset in (segment - BLOCK, segment, 300 * MIB - BLOCK):
        put(cluster, "big", "a", offset, f"at {offset}")
    cluster.ctl("volume", "snapshot", "big", "s")
    cluster["d"].kill()
    put(cluster, "big", "a", segment, "without d")
    wait_until(lambda: "node d" in cluster.ctl("why", "big").stdout, "why to name the dead node")
    cluster["d"].start()
    cluster.wait_in_sync("big")

    cluster.ctl("volume", "grow", "big", "--size", "310m")
    cluster.ctl("volume", "grow", "big", "--size", "400m")
    status = cluster.status("big")
    expect(status["segments"] == 7 and status["size_bytes"] == 400 * MIB, f"{status}")
    put(cluster, "big", "a", 400 * MIB - BLOCK, "end")
    cluster["a"].kill()
    cluster["a"].start()
    wait_until(lambda: cluster.status("big")["attached_on"] == "a", "a to resume the volume")
    expect(get(cluster, "big", "a", 400 * MIB - BLOCK) == "end", "the end is gone")
    cluster.wait_in_sync("big")

    cluster.ctl("volume", "clone", "big@s", "small")
    expect(cluster.status("small")["size_bytes"] == 300 * MIB, "not of the snapshot's size")
    cluster.attach("small", "b")
    expect(get(cluster, "small", "b", segment) == f"at {segment}", "not the snapshot's content")
    expect(get(cluster, "small", "b", 300 * MIB - BLOCK) == f"at {300 * MIB - BLOCK}", "its end")
    for volume in ("small", "big"):
        cluster.ctl("volume", "detach", volume)

    cluster.attach("big", "c")
    expect(get(cluster, "big", "c", segment) == "without d", "a write is gone")
    cluster.ctl("volume", "detach", "big")
    for volume in ("small", "big"):
        cluster.ctl("volume", "delete", volume)
    left = [node.ctl_json("pool", "list")[0]["volume_count"] for node in cluster.nodes.values()]
    expect([int(count) for count in left] == [0] * 4, f"replicas are left over: {left}")


def larger_than_a_pool(cluster):
    """Without a word about segments a volume that fits into no pool gets them."""
    cluster.create("huge", "700m", 1)
    status = cluster.status("huge")
    expect(status["segments"] > 1 and status["size_bytes"] == 700 * MIB, f"{status}")
    expect({m["node"] for m in status["members"]} == set("abcd"), f"{status}")
    cluster.attach("huge", "a")
    put(cluster, "huge", "a", 0, "begin")
    put(cluster, "huge", "a", 700 * MIB - BLOCK, "end")
    cluster.ctl("volume", "detach", "huge")
    cluster.attach("huge", "b")
    expect(get(cluster, "huge", "b", 700 * MIB - BLOCK) == "end", "the end is gone")
    cluster.ctl("volume", "detach", "huge")
    cluster.ctl("volume", "delete", "huge")


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
        for name, check in (
            ("an operator goes on from one copy without a majority, and rebuilds",
             goes_on_from_one_copy),
            ("an operator goes back to a copy that was left behind",
             goes_back_to_a_copy_left_behind),
            ("fewer copies: writes need fewer of them", needs_fewer_copies_when_there_are_fewer),
            ("a clone shares with its parent, and outlives it", clones_have_a_life_of_their_own),
            ("a volume of several segments", volumes_of_several_segments),
            ("a volume larger than every pool", larger_than_a_pool),
        ):
            for node in cluster.nodes.values():
                if node.process.poll() is not None:
                    node.start()  # a check that failed may have left it dead
            with checks.case(name):
                check(cluster)
        with checks.case("every daemon ends cleanly and every pool is sound"):
            cluster.end_soundly()
        if checks.failed:
            cluster.print_logs()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
