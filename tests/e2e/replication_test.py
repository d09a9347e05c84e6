#!/usr/bin/python3
"""Volumes with copies on several nodes, each a daemon of its own on loopback TCP: what a client
sees when nodes die, stop and come back, when another takes over, and without a majority."""

import os
import pathlib
import shutil
import socket
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, MIB, expect, wait_until  # noqa: E402
from load import every_copy_is_equal, finish, fio  # noqa: E402
from nbd_client import WRITE, Disconnected, NbdClient  # noqa: E402
from numbered_blocks import BLOCK, Ledger, NumberedWriter  # noqa: E402

PAUSE_S = 4


def attached_node(cluster, volume):
    return cluster.status(volume)["attached_on"]


def three_copies(cluster):
    """fio writes and verifies while replicas die, stop and come back."""
    cluster.create("three", "64m", 3)
    uri = cluster.attach("three", "a")
    expect(cluster.in_sync("three"), "a new volume is not in sync")
    client = NbdClient(cluster["a"].nbd_socket, "three")
    prober = NumberedWriter(client, Ledger(63 * MIB // BLOCK, 8), depth=1, pause_s=0.002)
    load = fio(uri, "three", "--size=48m", "--time_based", "--runtime=11")
    time.sleep(1)
    prober.take_longest()

    cluster["b"].kill()
    wait_until(lambda: cluster.status("three")["in_sync"] == 2, "the dead copy to be given up")
    print(f"note: a replica's process is killed: longest write {prober.take_longest():.3f} s")
    why = cluster.ctl("why", "three").stdout
    expect("degraded" in why and "node b" in why, f"why says: {why}")
    cluster["b"].start()
    cluster.wait_in_sync("three")
    prober.take_longest()

    cluster["c"].pause()
    time.sleep(PAUSE_S)
    expect(prober.error is None, f"{prober.error}")
    longest = prober.take_longest()
    print(f"note: a replica is stopped for {PAUSE_S} s: longest write {longest:.3f} s")
    cluster["c"].resume()
    cluster.wait_in_sync("three")

    cluster["c"].kill()
    finish(load)
    prober.stop_served()
    cluster["c"].start()
    cluster.wait_in_sync("three")
    expect("all 3 copies have everything" in cluster.ctl("why", "three").stdout, "why")
    metrics = cluster["a"].metrics()
    expect(metrics['keelson_volume_in_sync_members{volume="three"}'] == 3, "in-sync metric")
    expect(metrics['keelson_volume_resync_bytes_total{volume="three"}'] > 0, "resync metric")


def survives_restart(cluster):
    """The attaching daemon dies and serves again by itself, with what was written."""
    cluster.attach("three", "a")
    with NbdClient(cluster["a"].nbd_socket, "three") as client:
        client.write(0, b"before" + bytes(4090))
    cluster["b"].kill()
    cluster["a"].kill()
    cluster["a"].start()
    wait_until(lambda: attached_node(cluster, "three") == "a", "node a to resume the volume")
    cluster["b"].start()
    with NbdClient(cluster["a"].nbd_socket, "three") as client:
        expect(client.read(0, 4096)[:6] == b"before", "lost write")
    cluster.wait_in_sync("three")


def take_over(cluster):
    """A node that is stopped loses the volume to another, and finds itself fenced."""
    uri = cluster.uri("three", "a")
    load = fio(uri, "takeover", "--size=16m", "--offset=16m")
    finish(load)
    old = NbdClient(cluster["a"].nbd_socket, "three")
    old.write(8 * MIB, b"old" + bytes(4093))
    cluster.refuses("--force", "volume", "attach", "three", "--on", "b")
    cluster["a"].pause()
    cluster.attach("three", "b", "--force")
    with NbdClient(cluster["b"].nbd_socket, "three") as client:
        expect(client.read(8 * MIB, 4096)[:3] == b"old", "an acknowledged write is gone")
        client.write(8 * MIB, b"new" + bytes(4093))
    cluster["a"].resume()
    listed = [v["attached_on"] for v in cluster.ctl_json("volume", "list") if v["name"] == "three"]
    expect(listed == ["b"], f"listed as attached on {listed}")
    try:
        old.write(8 * MIB, b"bad" + bytes(4093))
        raise AssertionError("the fenced engine acknowledged a write")
    except (OSError, Disconnected):
        pass
    old.close()
    fenced = cluster["a"].metrics()['keelson_volume_fenced_total{volume="three"}']
    expect(fenced == 1, f"the fenced metric is {fenced}")
    with NbdClient(cluster["b"].nbd_socket, "three") as client:
        expect(client.read(8 * MIB, 4096)[:3] == b"new", "the fenced engine's write is there")
    new_uri = cluster.uri("three", "b")
    finish(fio(new_uri, "takeover", "--size=16m", "--offset=16m", "--verify_only=1"))
    cluster.wait_in_sync("three")
    # Restarted, it neither resumes what it lost nor disturbs the node that has it.
    cluster["a"].kill()
    cluster["a"].start()
    wait_until(
        lambda: "event=attachment_forgotten volume=three" in cluster["a"].log.read_text(),
        "node a to forget its attachment",
    )
    expect(attached_node(cluster, "three") == "b", "node b does not serve it any more")
    cluster.wait_in_sync("three")


def members_change(cluster):
    """A volume grows from one copy to three and moves, under load."""
    cluster.create("grow", "32m", 1)
    first = cluster.status("grow")["members"][0]["node"]
    others = [name for name in "abc" if name != first]
    uri = cluster.attach("grow", first)
    load = fio(uri, "grow", "--size=24m", "--time_based", "--runtime=4")
    cluster.ctl("replica", "add", "grow", "--on", others[0])
    status = cluster.status("grow")
    expect(status["copies"] == 2, f"{status}")
    expect(any(member["witness"] for member in status["members"]), "two copies without a witness")
    cluster.wait_in_sync("grow")
    cluster.ctl("replica", "add", "grow", "--on", others[1])
    cluster.wait_in_sync("grow")
    status = cluster.status("grow")
    expect(status["copies"] == 3 and len(status["members"]) == 3, f"{status}")
    cluster.ctl("volume", "snapshot", "grow", "s1")
    cluster.ctl("volume", "grow", "grow", "--size", "40m")
    cluster.ctl("replica", "remove", "grow", "--on", first)
    finish(load)
    status = cluster.status("grow")
    expect(status["copies"] == 2 and status["attached_on"] == first, f"{status}")
    expect(status["size_bytes"] == 40 * MIB, f"{status}")
    cluster.ctl("volume", "detach", "grow")
    cluster.ctl("volume", "delete", "grow")
    names = [volume["name"] for volume in cluster.ctl_json("volume", "list")]
    expect("grow" not in names, "the deleted volume is listed")


def replaces_a_dead_copy(cluster):
    """A copy moves from a dead node to another; back again, it finds itself no member."""
    cluster["c"].kill()
    cluster.ctl("replica", "replace", "three", "--from", "c", "--to", "d")
    expect(cluster.member("three", "d")["state"] == "in-sync", "the new copy is not in sync")
    expect(cluster.status("three")["copies"] == 3, "not three copies")
    cluster["c"].start()
    expect("left over" in cluster.ctl("volume", "status", "three").stdout, "not shown as left over")
    cluster.refuses("replica remove", "replica", "add", "three", "--on", "c")
    cluster.ctl("replica", "remove", "three", "--on", "c")
    cluster.ctl("replica", "replace", "three", "--from", "d", "--to", "c")
    nodes = sorted(member["node"] for member in cluster.status("three")["members"])
    expect(nodes == ["a", "b", "c"], f"members on {nodes}")


def waits_for_a_majority(cluster):
    """A write waits while two of three nodes are dead, and completes when they are back."""
    cluster.create("wait", "32m", 3)
    nodes = [member["node"] for member in cluster.status("wait")["members"]]
    cluster.attach("wait", nodes[0])
    client = NbdClient(cluster[nodes[0]].nbd_socket, "wait", timeout=15)
    try:
        for name in nodes[1:]:
            cluster[name].kill()
        client.submit(WRITE, 4096, data=b"wait" + bytes(4092))
        wait_until(lambda: "waits for" in cluster.ctl("why", "wait").stdout, "why to say so")
        for name in nodes[1:]:
            cluster[name].start()
        try:
            expect(client.receive()[1].error == 0, "the write failed")
        except TimeoutError as error:
            raise AssertionError(cluster.ctl("why", "wait").stdout) from error
        cluster.wait_in_sync("wait")
    finally:
        client.close()
        cluster.ctl("volume", "detach", "wait", check=False)
    cluster.ctl("volume", "delete", "wait")


def ends_while_io_waits(cluster):
    """SIGTERM is clean and quick while a write waits for members; the volume is resumed."""
    serving = attached_node(cluster, "three")
    others = [name for name in "abc" if name != serving]
    client = NbdClient(cluster[serving].nbd_socket, "three")
    for name in others:
        cluster[name].kill()
    client.submit(WRITE, 8192, data=b"wait" + bytes(4092))
    wait_until(lambda: "waits for" in cluster.ctl("why", "three").stdout, "why to say so")
    expect(cluster[serving].stop(15) == 0, f"exit status\n{cluster[serving].tail()}")
    client.close()
    for name in "abc":
        cluster[name].start()
    wait_until(lambda: attached_node(cluster, "three") == serving, "the volume to be resumed")
    cluster.wait_in_sync("three")


def two_copies_and_a_witness(cluster):
    """One copy may die; with a copy and the witness gone nothing can attach, and it says so."""
    cluster.create("two", "32m", 2)
    members = {m["node"]: m for m in cluster.status("two")["members"]}
    copies = [name for name, member in members.items() if not member["witness"]]
    witness = next(name for name, member in members.items() if member["witness"])
    uri = cluster.attach("two", copies[0])
    load = fio(uri, "two", "--size=16m")
    finish(load)
    cluster[copies[0]].pause()
    cluster.attach("two", copies[1], "--force")
    verify = fio(cluster.uri("two", copies[1]), "two", "--size=16m", "--verify_only=1")
    finish(verify)
    with NbdClient(cluster[copies[1]].nbd_socket, "two") as client:
        client.write(0, b"alone" + bytes(4091))
    cluster[copies[0]].resume()
    cluster.wait_in_sync("two")
    cluster.ctl("volume", "detach", "two")
    cluster[copies[1]].kill()
    cluster[witness].kill()
    said = cluster.refuses("majority", "volume", "attach", "two", "--on", copies[0])
    expect(f"{copies[1]}" in said and witness in said, f"it does not name them: {said}")
    why = cluster.ctl("why", "two").stdout
    expect("majority" in why, f"why says: {why}")
    cluster[copies[1]].start()
    cluster[witness].start()
    cluster.refuses("5 nodes", "volume", "create", "four", "--size", "32m", "--replicas", "4")


def garbage(cluster):
    """Bytes that are no protocol end their connection, and nothing else."""
    host, _, port = cluster["a"].data_address.rpartition(":")
    for data in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(1 << 16), bytes(1 << 16)):
        with socket.create_connection((host, int(port)), timeout=5) as peer:
            peer.settimeout(15)
            try:
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                answered = 0
                while piece := peer.recv(65536):
                    answered += len(piece)
                expect(answered < 4096, f"{answered} bytes came back")
            except (BrokenPipeError, ConnectionResetError):
                pass
    expect(cluster["a"].metric("keelson_data_protocol_errors_total") >= 2, "not counted")
    expect(cluster.in_sync("three"), "the volume was disturbed")


def copied_pool(cluster, workspace):
    """Two daemons with one pool, of which one is an older copy: refused, and nothing is changed."""
    cluster.create("twin", "16m", 3)
    serving, twin = [member["node"] for member in cluster.status("twin")["members"]][:2]
    cluster.attach("twin", serving)
    with NbdClient(cluster[serving].nbd_socket, "twin") as client:
        client.write(0, b"then" + bytes(4092))
        expect(cluster[twin].stop() == 0, f"exit status\n{cluster[twin].tail()}")
        shutil.copytree(cluster[twin].pool, workspace / "copied-pool")
        cluster[twin].start()
        cluster.wait_in_sync("twin")
        client.write(0, b"now!" + bytes(4092))
        arguments = ("--data-listen", f"127.0.0.1:{harness.free_port()}")
        arguments += ("--pool", workspace / "copied-pool")
        copy = harness.Daemon(workspace, cluster.binaries, "copy", arguments).start()
        cluster.nodes["x"] = copy
        try:
            for command in (
                ("volume", "attach", "twin", "--on", twin, "--force"),
                ("volume", "status", "twin"),
                ("replica", "remove", "twin", "--on", twin),
            ):
                said = cluster.refuses("same pool", *command)
                expect(f"nodes {twin} and x" in said, said)
        finally:
            del cluster.nodes["x"]
            expect(copy.stop() == 0, f"exit status\n{copy.tail()}")
        client.write(4096, b"more" + bytes(4092))
        expect(client.read(0, 4096)[:4] == b"now!", "an older copy was read")
    expect(cluster.in_sync("twin"), "the volume was disturbed")
    # Both in one daemon: neither is served, for nobody there knows which of them is the right one.
    expect(cluster[twin].stop() == 0, f"exit status\n{cluster[twin].tail()}")
    plain = cluster[twin].arguments
    cluster[twin].arguments = (*plain, "--pool", workspace / "copied-pool")
    cluster[twin].start()
    errors = [pool.get("error", "") for pool in cluster[twin].ctl_json("pool", "list")]
    expect(len(errors) == 2 and all("are the same pool" in text for text in errors), f"{errors}")
    expect(cluster[twin].stop() == 0, f"exit status\n{cluster[twin].tail()}")
    cluster[twin].arguments = plain
    cluster[twin].start()
    cluster.wait_in_sync("twin")
    cluster.ctl("volume", "detach", "twin")
    cluster.ctl("volume", "delete", "twin")


def main():
    checks = harness.Checks()
    with harness.Workspace("replication") as workspace:
        workspace.require_free(2 * GIB)
        cluster = harness.Cluster(workspace, 4)
        with checks.case("three copies: fio verifies while replicas die, stop and come back"):
            three_copies(cluster)
        with checks.case("an attachment survives the death of its daemon"):
            survives_restart(cluster)
        with checks.case("take-over fences the engine of a stopped node"):
            take_over(cluster)
        with checks.case("garbage on a data port ends its connection only"):
            garbage(cluster)
        with checks.case("a copy is replaced while its node is dead"):
            replaces_a_dead_copy(cluster)
        with checks.case("I/O waits for a majority and goes on when it is back"):
            waits_for_a_majority(cluster)
        with checks.case("a daemon whose I/O waits for members ends cleanly"):
            ends_while_io_waits(cluster)
        with checks.case("copies are added and removed under load, with snapshot and growth"):
            members_change(cluster)
        with checks.case("two copies and a witness: one may go, without a majority it says so"):
            two_copies_and_a_witness(cluster)
        with checks.case("a copied pool is refused, and the volume goes on"):
            copied_pool(cluster, workspace)
        with checks.case("every copy has the same bytes"):
            cluster.ctl("volume", "detach", "three")
            every_copy_is_equal(cluster, "three")
        with checks.case("all daemons end cleanly, and their pools are sound"):
            cluster.end_soundly()
        if checks.failed:
            cluster.print_logs()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
