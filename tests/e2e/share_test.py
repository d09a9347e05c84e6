#!/usr/bin/python3
"""Volumes on several nodes through the provisioner: raw ones that all write, and a file system that
all read; nodes that come and go, die, and are drained beneath them."""

import os
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import control_plane  # noqa: E402
import harness  # noqa: E402
from harness import MIB, expect, wait_until  # noqa: E402
from load import finish, fio  # noqa: E402
from nbd_client import NbdClient  # noqa: E402

BLOCK = 4096
RWX = ("--block", "--access", "rwx")
VOLUME = "shared"


def identity(plane):
    return plane.volume(VOLUME)["id"]


def connect(cluster, plane, node):
    return NbdClient(cluster[node].nbd_socket, identity(plane))


def status(cluster, plane, node):
    """How the node has the volume; None: not at all."""
    volumes = cluster[node].ctl_json("volume", "list")
    return next((one for one in volumes if one["name"] == identity(plane)), None)


def engine(cluster, plane):
    """The node whose engine serves it."""
    serving = [
        name
        for name, node in cluster.nodes.items()
        if node.process.poll() is None
        and any(
            one["name"] == identity(plane) and one["attached"]
            for one in node.ctl_json("volume", "list")
        )
    ]
    expect(len(serving) == 1, f"engines on {serving}")
    return serving[0]


def published(plane):
    return sorted(one["node"] for one in plane.volume(VOLUME)["publications"] if one["attached"])


def many_write(cluster, plane):
    plane.ctl("create", VOLUME, "--size", "64m", "-p", "frontend=nbd", *RWX)
    for node in "abcd":
        plane.ctl("publish", VOLUME, "--on", node, *RWX)
    expect(published(plane) == list("abcd"), f"published on {published(plane)}")
    with connect(cluster, plane, "a") as a, connect(cluster, plane, "d") as d:
        for sequence in range(50):
            writer, reader = (a, d) if sequence % 2 else (d, a)
            word = f"{sequence}".encode().ljust(BLOCK, b".")
            writer.write(BLOCK * sequence, word)
            expect(reader.read(BLOCK * sequence, BLOCK) == word, "another node reads other bytes")
    plane.refuses("another capability", "publish", VOLUME, "--on", "a", "--block")
    plane.refuses("published on", "delete", VOLUME)


def one_leaves(cluster, plane):
    leaving = next(node for node in "abcd" if node != engine(cluster, plane))
    others = [node for node in "abcd" if node != leaving]
    load = fio(
        cluster.uri(identity(plane), others[0]),
        "stays",
        "--size=32m",
        "--time_based",
        "--runtime=4",
    )
    plane.ctl("unpublish", VOLUME, "--on", leaving)
    expect(status(cluster, plane, leaving) is None, "it is still shown where it left")
    finish(load)
    expect(published(plane) == others, f"published on {published(plane)}")
    plane.ctl("publish", VOLUME, "--on", leaving, *RWX)


def engine_is_drained(cluster, plane):
    """The engine moves; what is open on every node, its own too, stays open."""
    first = engine(cluster, plane)
    with connect(cluster, plane, first) as here:
        here.write(0, b"before".ljust(BLOCK))
        plane.ctl("drain", first)
        wait_until(lambda: engine(cluster, plane) != first, "the engine to move", 60)
        expect(here.read(0, BLOCK).startswith(b"before"), "another content")
        here.write(0, b"after".ljust(BLOCK))
        here.flush()
    other = next(node for node in "abcd" if node != first)
    with connect(cluster, plane, other) as there:
        expect(there.read(0, BLOCK).startswith(b"after"), "what it wrote is not there")
    plane.ctl("uncordon", first)


def engine_dies(cluster, plane):
    """Its node is lost: another serves the clients, whose requests were a pause."""
    first = engine(cluster, plane)
    others = [node for node in "abcd" if node != first]
    load = fio(
        cluster.uri(identity(plane), others[0]),
        "goes-on",
        "--size=32m",
        "--time_based",
        "--runtime=10",
    )
    cluster[first].kill()
    wait_until(lambda: published(plane) == others, "the others to be served again", 60)
    finish(load)
    expect(engine(cluster, plane) != first, "it is served by who is dead")
    cluster[first].start()
    wait_until(lambda: published(plane) == list("abcd"), "it to be a client again", 60)
    with connect(cluster, plane, first) as back, connect(cluster, plane, others[1]) as other:
        other.write(BLOCK, b"news".ljust(BLOCK))
        expect(back.read(BLOCK, BLOCK).startswith(b"news"), "it sees another volume")


def provisioner_dies(cluster, plane):
    name = identity(plane)
    plane.kill()
    with NbdClient(cluster["a"].nbd_socket, name) as a:
        a.write(2 * BLOCK, b"meanwhile".ljust(BLOCK))
    plane.start()
    with connect(cluster, plane, "b") as b:
        expect(b.read(2 * BLOCK, BLOCK).startswith(b"meanwhile"), "lost")
    plane.ctl("unpublish", VOLUME, "--on", "c")
    expect(published(plane) == list("abd"), f"published on {published(plane)}")


def grows(cluster, plane):
    plane.ctl("expand", VOLUME, "--size", "96m")
    for node in "abd":
        with connect(cluster, plane, node) as client:
            expect(client.size_bytes == 96 * MIB, f"{client.size_bytes} bytes on {node}")


def records_are_lost(cluster, plane):
    """Adopted again, the same nodes go on with what they have open."""
    with connect(cluster, plane, "a") as a, connect(cluster, plane, "b") as b:
        name = identity(plane)
        plane.kill()
        (plane.workspace / "provisioner-state").rename(plane.workspace / "lost-state")
        plane.start()
        plane.add_nodes()
        plane.ctl("adopt")
        wait_until(
            lambda: all(
                one["attached"] for one in plane.volumes_by_id()[name]["publications"]
            ),
            "the adopted volume to be served",
            60,
        )
        a.write(0, b"adopted".ljust(BLOCK))
        expect(b.read(0, BLOCK).startswith(b"adopted"), "b does not see it")
    plane.ctl("unpublish", name)
    plane.ctl("delete", name)
    wait_until(
        lambda: not any(node.ctl_json("volume", "list") for node in cluster.nodes.values()),
        "all replicas to be gone",
    )


def mounts(path):
    return any(line.split()[4] == str(path) for line in open("/proc/self/mountinfo"))


def many_read_a_file_system(cluster, plane):
    """Devices: written by one node, then mounted read-only by two."""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("note: no root or no /dev/fuse: no block devices")
        return
    plane.ctl("create", VOLUME, "--size", "64m")
    plane.ctl("publish", VOLUME, "--on", "a")
    (shown,) = cluster["a"].ctl_json("volume", "list")
    if not shown.get("device"):
        print("note: no block device here: " + cluster["a"].tail())
        plane.ctl("unpublish", VOLUME)
        plane.ctl("delete", VOLUME)
        return
    place = plane.workspace / "mounted"
    place.mkdir()
    run = lambda *command: subprocess.run(command, check=True, capture_output=True)  # noqa: E731
    run("mkfs.ext4", "-q", shown["device"])
    run("mount", shown["device"], str(place))
    (place / "file").write_text("for all to read")
    run("umount", str(place))
    plane.ctl("unpublish", VOLUME)
    for node in "bc":
        plane.ctl("publish", VOLUME, "--on", node, "--access", "rox")
    for node in "bc":
        device = status(cluster, plane, node)["device"]
        with open(device, "rb") as opened:
            expect(opened.read(4) is not None, "it cannot be read")
        run("mount", "-o", "ro,noload", device, str(place))
        try:
            expect((place / "file").read_text() == "for all to read", f"another file on {node}")
            failed = subprocess.run(
                ("dd", "if=/dev/zero", f"of={device}", "bs=4096", "count=1"), capture_output=True
            )
            expect(failed.returncode != 0, "a reader's device can be written")
            if node == "b":
                plane.refuses("in use", "unpublish", VOLUME, "--on", "b")
                plane.ctl("publish", VOLUME, "--on", "b", "--access", "rox")
        finally:
            run("umount", str(place))
    expect(published(plane) == list("bc"), f"published on {published(plane)}")
    plane.ctl("unpublish", VOLUME)
    plane.ctl("delete", VOLUME)


CHECKS = (
    ("four nodes write to one volume", many_write),
    ("one leaves, and the others go on", one_leaves),
    ("the engine leaves a node that is drained", engine_is_drained),
    ("the engine's node is lost", engine_dies),
    ("the provisioner is killed", provisioner_dies),
    ("the volume grows on every node", grows),
    ("the records are lost and adopted", records_are_lost),
    ("two nodes read one file system", many_read_a_file_system),
)


def main():
    checks = harness.Checks()
    with harness.Workspace("share") as workspace:
        arguments = ("--lost-after", "3", "--reserve", "0")
        listen = ("--client-listen", "127.0.0.1:{port}")
        cluster, plane = control_plane.start_all(workspace, 4, "512m", arguments, listen)
        for name, check in CHECKS:
            with checks.case(name):
                check(cluster, plane)
        if checks.failed:
            cluster.print_logs()
            plane.print_log()
        with checks.case("every node ends soundly"):
            cluster.end_soundly()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
