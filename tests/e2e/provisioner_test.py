#!/usr/bin/python3
"""The provisioner with real block stores: volumes, snapshots and clones by name, publications that
move, nodes that die, copies that are replaced, and its own death in between."""

import pathlib
import shutil
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import block_devices  # noqa: E402
import control_plane  # noqa: E402
import harness  # noqa: E402
from harness import MIB, expect, wait_until  # noqa: E402
from nbd_client import NbdClient  # noqa: E402

BLOCK = 4096
# Without a block device: what is tested here does not need root.
NBD = ("-p", "frontend=nbd")


def put(cluster, plane, name, node, offset, word):
    with NbdClient(cluster[node].nbd_socket, plane.volume(name)["id"]) as client:
        client.write(offset, word.encode().ljust(BLOCK, b"."))
        client.flush()


def get(cluster, plane, name, node, offset):
    with NbdClient(cluster[node].nbd_socket, plane.volume(name)["id"]) as client:
        return client.read(offset, BLOCK).rstrip(b".\0").decode()


def beginning(node, identity):
    """The first bytes of a volume that has the frontend auto: a device, or NBD."""
    (volume,) = [one for one in node.ctl_json("volume", "list") if one["name"] == identity]
    if volume.get("device"):
        return pathlib.Path(volume["device"]).open("rb").read(4)
    with NbdClient(node.nbd_socket, identity) as client:
        return client.read(0, BLOCK)[:4]


def replicas(cluster):
    count = 0
    for node in cluster.nodes.values():
        if node.process.poll() is None:
            count += node.replica_count()
    return count


def lives_and_dies(cluster, plane):
    """Made, published, written, snapshotted, restored, cloned, grown, deleted: nothing is left."""
    free = {name: node["free_bytes"] for name, node in plane.nodes().items()}
    plane.ctl("create", "one", "--size", "64m", *NBD)
    expect(len(plane.copies("one")) == 3, "not three copies")
    plane.ctl("publish", "one", "--on", "a")
    put(cluster, plane, "one", "a", 0, "first")
    plane.ctl("snapshot", "one", "snap")
    put(cluster, plane, "one", "a", 0, "second")
    plane.ctl("create", "restored", "--from", "snap", "--size", "96m", *NBD)
    plane.ctl("create", "cloned", "--from", "one", "--size", "64m", *NBD)
    plane.ctl("publish", "restored", "--on", "b")
    plane.ctl("publish", "cloned", "--on", "c")
    expect(get(cluster, plane, "restored", "b", 0) == "first", "not what the snapshot had")
    expect(get(cluster, plane, "cloned", "c", 0) == "second", "not what the volume had")
    put(cluster, plane, "restored", "b", 95 * MIB, "grown")
    plane.ctl("expand", "one", "--size", "128m")
    put(cluster, plane, "one", "a", 127 * MIB, "end")
    plane.refuses("published on node a", "delete", "one")
    for name in ("one", "restored", "cloned"):
        plane.ctl("unpublish", name)
        plane.ctl("delete", name)
    expect("snap" in plane.ctl("snapshots").stdout, "the snapshot did not outlive its volume")
    plane.ctl("snapshot-delete", "snap")
    wait_until(lambda: replicas(cluster) == 0, "all replicas to be gone")
    wait_until(
        lambda: all(node["free_bytes"] == free[name] for name, node in plane.nodes().items()),
        "the space to be free again",
        30,
    )


def survives_its_own_death(cluster, plane):
    """kill -9 of the provisioner between and during calls; I/O does not notice."""
    plane.ctl("create", "mortal", "--size", "64m", *NBD)
    plane.ctl("publish", "mortal", "--on", "b")
    put(cluster, plane, "mortal", "b", 0, "before")
    identity = plane.volume("mortal")["id"]
    volume_socket = cluster["b"].nbd_socket
    plane.kill()
    with NbdClient(volume_socket, identity) as client:
        client.write(BLOCK, b"meanwhile".ljust(BLOCK, b"."))
        client.flush()
    plane.start()
    expect(plane.volume("mortal")["id"] == identity, "another volume has its name")
    plane.ctl("create", "mortal", "--size", "64m", *NBD)
    expect(len(plane.volumes()) == 1, "the repeated call made another one")
    expect(get(cluster, plane, "mortal", "b", BLOCK) == "meanwhile", "a write is missing")
    plane.ctl("unpublish", "mortal")
    plane.ctl("delete", "mortal")


def moves_when_its_node_dies(cluster, plane):
    """The node is gone: unpublished without it, published elsewhere, and the old engine is told."""
    plane.ctl("create", "moving", "--size", "64m", *NBD)
    plane.ctl("publish", "moving", "--on", "a")
    put(cluster, plane, "moving", "a", 0, "kept")
    plane.refuses("published on node a", "publish", "moving", "--on", "b")
    cluster["a"].kill()
    plane.ctl("unpublish", "moving", "--on", "a")
    plane.ctl("publish", "moving", "--on", "b")
    expect(get(cluster, plane, "moving", "b", 0) == "kept", "a flushed write is gone")
    put(cluster, plane, "moving", "b", 0, "newer")
    cluster["a"].start()
    wait_until(lambda: plane.nodes()["a"]["state"] == "ready", "node a to be ready")
    wait_until(lambda: plane.whole("moving"), "all copies to have everything", 60)
    served = [one for one in cluster["a"].ctl_json("volume", "list") if one["attached"]]
    expect(not served, f"node a still serves {served}")
    plane.ctl("unpublish", "moving")
    plane.ctl("delete", "moving")


def replaces_a_lost_copy(cluster, plane):
    """A node stays away: its copy is made anew elsewhere; what it had is deleted when it is back."""
    plane.ctl("create", "healed", "--size", "64m", *NBD)
    lost, kept = plane.copies("healed")[0], plane.copies("healed")[1]
    plane.ctl("publish", "healed", "--on", kept)
    put(cluster, plane, "healed", kept, 0, "kept")
    cluster[lost].kill()
    wait_until(lambda: lost not in plane.copies("healed"), "the copy to be replaced", 90)
    wait_until(lambda: plane.whole("healed"), "the new copy to have everything", 60)
    cluster[lost].start()
    wait_until(lambda: cluster[lost].replica_count() == 0, "the old copy to go", 60)
    expect(get(cluster, plane, "healed", kept, 0) == "kept", "a write is gone")
    plane.ctl("unpublish", "healed")
    plane.ctl("delete", "healed")


def drains_a_node(cluster, plane):
    """All copies leave the node, in use or not, and it can be forgotten and come back."""
    plane.ctl("create", "busy", "--size", "64m", *NBD)
    plane.ctl("create", "idle", "--size", "64m", *NBD)
    leaving = plane.copies("busy")[0]
    stays = plane.copies("busy")[1]
    plane.ctl("publish", "busy", "--on", stays)
    put(cluster, plane, "busy", stays, 0, "kept")
    plane.refuses("drain it first", "node-remove", leaving)
    plane.ctl("drain", leaving)
    wait_until(lambda: plane.nodes()[leaving]["replica_count"] == 0, "the node to be empty", 90)
    for name in ("busy", "idle"):
        expect(len(plane.copies(name)) == 3, f"{name} lost a copy")
    expect(get(cluster, plane, "busy", stays, 0) == "kept", "a write is gone")
    plane.ctl("uncordon", leaving)
    plane.ctl("unpublish", "busy")
    for name in ("busy", "idle"):
        plane.ctl("delete", name)


def finds_its_records_again(cluster, plane):
    """All records are lost: they are made anew from the pools; what is attached stays attached."""
    plane.ctl("create", "used", "--size", "64m", *NBD)
    plane.ctl("create", "idle", "--size", "64m", "-p", "replicas=2", *NBD)
    plane.ctl("publish", "used", "--on", "a")
    put(cluster, plane, "used", "a", 0, "kept")
    plane.ctl("snapshot", "used", "snap")
    before = plane.volumes()
    used, idle = before["used"]["id"], before["idle"]["id"]
    plane.kill()
    shutil.rmtree(plane.workspace / "provisioner-state")
    plane.start()
    plane.add_nodes()
    expect(not plane.volumes(), "the records were not lost")
    expect("would adopt" in plane.ctl("adopt", "--dry-run").stdout, "nothing to adopt")
    expect(not plane.volumes(), "a dry run made records")
    said = plane.ctl("adopt").stdout
    expect(used in said and idle in said and "kss-" in said, said)
    after = {one["id"]: one for one in plane.ctl_json("volumes")["volumes"]}
    for name, identity in (("used", used), ("idle", idle)):
        places = [(p["node"], p["replica_id"]) for p in before[name]["replicas"]]
        found = [(p["node"], p["replica_id"]) for p in after[identity]["replicas"]]
        expect(sorted(places) == sorted(found), f"{name} has other replicas: {found}")
    with NbdClient(cluster["a"].nbd_socket, used) as client:
        expect(client.read(0, BLOCK)[:4] == b"kept", "it is not served any more")
    # The same name finds it, and its snapshot.
    plane.ctl("create", "used", "--size", "64m", *NBD, check=False)
    expect(len(plane.volumes_by_id()) == 2, "a second volume of the name was made")
    plane.ctl("publish", used, "--on", "a")
    plane.ctl("unpublish", used)
    plane.ctl("publish", used, "--on", "b")
    expect(beginning(cluster["b"], used) == b"kept", "a flushed write is gone")
    plane.ctl("unpublish", used)
    lines = plane.ctl("snapshots").stdout.splitlines()[1:]
    expect(len(lines) == 1, f"snapshots: {lines}")
    plane.ctl("snapshot-delete", lines[0].split()[0])
    for identity in (used, idle):
        plane.ctl("delete", identity)
    wait_until(lambda: replicas(cluster) == 0, "all replicas to be gone")


def start_driver(plane):
    """The CSI driver as a controller, with what is alpha; its endpoint."""
    endpoint = f"unix://{plane.workspace / 'csi.sock'}"
    log = plane.workspace / "csi.log"
    harness.start(
        plane.workspace,
        plane.cluster.binaries / "keelson-csi",
        f"--endpoint={endpoint}",
        "--mode=controller",
        f"--provisioner={plane.address}",
        "--enable-alpha",
        log=log,
    )
    wait_until(lambda: "event=listening" in log.read_text(), "the driver to listen")
    return endpoint


def tells_what_changed(cluster, plane):
    """Exactly the blocks of a snapshot, or changed between two, through CSI: of several segments,
    page by page, and without the node that would be asked first."""
    endpoint = start_driver(plane)
    plane.ctl("create", "tracked", "--size", "600m", "-p", "replicas=2", *NBD)
    segments = {place.get("segment", 0) for place in plane.volume("tracked")["replicas"]}
    expect(len(segments) > 1, f"it has the segments {segments}")
    plane.ctl("publish", "tracked", "--on", "a")
    with NbdClient(cluster["a"].nbd_socket, plane.volume("tracked")["id"]) as client:
        client.write(0, bytes([1]) * 2 * BLOCK)
        client.write(300 * MIB, bytes([2]) * BLOCK)
        plane.ctl("snapshot", "tracked", "old")
        client.write(BLOCK, bytes([3]) * BLOCK)
        client.trim(300 * MIB, BLOCK)
        client.write(256 * MIB - BLOCK, bytes([4]) * 2 * BLOCK)  # of two segments
        client.write(599 * MIB, bytes([5]) * BLOCK)
        plane.ctl("snapshot", "tracked", "new")
        client.write(2 * MIB, bytes([6]) * BLOCK)
    plane.ctl("unpublish", "tracked")
    ids = {one["name"]: one["id"] for one in plane.ctl_json("snapshots")["snapshots"]}

    def ask(name, *options, since=None, check=True):
        since = ("--since", ids.get(since, since)) if since else ()
        command = ("csi", "--endpoint", endpoint, "snapshot-blocks", ids.get(name, name))
        return harness.run(cluster.binaries / "keelctl", *command, *since, *options, check=check)

    def blocks(*arguments, **options):
        merged = []
        for line in ask(*arguments, **options).stdout.splitlines():
            offset, size = map(int, line.split())
            if merged and sum(merged[-1]) == offset:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            else:
                merged.append((offset, size))
        return merged

    def refused(word, *arguments, **options):
        done = ask(*arguments, **options, check=False)
        expect(done.returncode != 0 and word in done.stderr, f"no '{word}' in: {done.stderr}")

    old = [(0, 2 * BLOCK), (300 * MIB, BLOCK)]
    border, end = (256 * MIB - BLOCK, 2 * BLOCK), (599 * MIB, BLOCK)
    changed = [(BLOCK, BLOCK), border, (300 * MIB, BLOCK), end]

    def expect_all():
        expect(blocks("old") == old, f"{blocks('old')}")
        expect(blocks("new") == [(0, 2 * BLOCK), border, end], f"{blocks('new')}")
        expect(blocks("new", since="old") == changed, f"{blocks('new', since='old')}")

    expect_all()
    rest = blocks("new", "--starting-offset", 300 * MIB, "--max-results", 1, since="old")
    expect(rest == changed[2:], f"from an offset on: {rest}")
    plane.ctl("create", "restored", "--from", "old", *NBD)
    expect(int(plane.volume("restored")["capacity_bytes"]) == 600 * MIB, "it lacks segments")
    plane.ctl("publish", "restored", "--on", "b")
    with NbdClient(cluster["b"].nbd_socket, plane.volume("restored")["id"]) as client:
        expect(client.read(300 * MIB, BLOCK) == bytes([2]) * BLOCK, "it has not what was written")
    plane.ctl("unpublish", "restored")
    plane.ctl("delete", "restored")
    refused("not older", "old", since="new")
    refused("has 629145600 bytes", "new", "--starting-offset", 600 * MIB + 1, since="old")
    refused("no snapshot", "kss-00000000000000000000-0-00000000")
    away = plane.copies("tracked")[0]
    cluster[away].kill()
    expect_all()
    cluster[away].start()
    wait_until(lambda: plane.nodes()[away]["state"] == "ready", "the node to be ready")
    plane.ctl("delete", "tracked")
    expect_all()
    for name in ("old", "new"):
        plane.ctl("snapshot-delete", ids[name])
    wait_until(lambda: replicas(cluster) == 0, "all replicas to be gone")


def says_what_cannot_be(cluster, plane):
    """Bad wishes are refused in words."""
    del cluster
    plane.refuses("replicass", "create", "bad", "-p", "replicass=3")
    plane.refuses("1 to 5", "create", "bad", "-p", "replicas=9")
    plane.refuses("node", "create", "bad", "-p", "replicas=5")
    plane.refuses("no volume", "publish", "nothing", "--on", "a")
    plane.refuses("no volume", "why", "nothing")
    expect(not plane.volumes(), "something was made")


CHECKS = (
    lives_and_dies,
    survives_its_own_death,
    moves_when_its_node_dies,
    replaces_a_lost_copy,
    drains_a_node,
    finds_its_records_again,
    tells_what_changed,
    says_what_cannot_be,
)


def main():
    checks = harness.Checks()
    chosen = [check for check in CHECKS if not sys.argv[1:] or check.__name__ in sys.argv[1:]]
    with harness.Workspace("provisioner") as workspace:
        # What is adopted has the frontend auto: a device, where there can be one.
        block_devices.clean_up_after(workspace)
        arguments = ("--heal-after", "10", "--lost-after", "3", "--reserve", "0")
        cluster, plane = control_plane.start_all(workspace, 4, "512m", arguments)
        for check in chosen:
            with checks.case(check.__doc__.split(":")[0].rstrip(".")):
                check(cluster, plane)
        if checks.failed:
            cluster.print_logs()
            plane.print_log()
        plane.process.terminate()
        expect(plane.process.wait(20) == 0, f"the provisioner:\n{plane.tail()}")
        with checks.case("every node ends soundly"):
            cluster.end_soundly()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
