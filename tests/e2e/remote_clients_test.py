#!/usr/bin/python3
"""Volumes that several nodes use through one engine (R16): three daemons on loopback. What programs
on the other nodes see while they share a volume, when one of them is taken off the client list
under load, when the engine's daemon is killed, and when another node takes over; and what peers
without a ticket, or without manners, get."""

import errno
import json
import os
import pathlib
import socket
import stat
import struct
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, MIB, expect, wait_until  # noqa: E402
from load import checksum, finish, fio  # noqa: E402
from nbd_client import WRITE, Disconnected, NbdClient  # noqa: E402
from numbered_blocks import BLOCK, Ledger, NumberedWriter, block_data, block_sequence  # noqa: E402

VOLUME = "shared"
OUTAGE_S = 12


def add_client(cluster, node, *options):
    done = cluster.ctl("volume", "client", "add", VOLUME, "--on", node, *options)
    return done.stdout.strip()


def clients(cluster):
    return {one["node"]: one for one in cluster.ctl_json("volume", "client", "list", VOLUME)}


def connect(cluster, node):
    return NbdClient(cluster[node].nbd_socket, VOLUME)


def blank(cluster, node):
    """Zeroes everywhere, as a ledger expects it in the beginning."""
    with connect(cluster, node) as client:
        client.trim(0, 64 * MIB)


def tickets(cluster):
    """All that any node remembers."""
    found = set()
    for node in cluster.nodes.values():
        state = json.loads((node.state / "pools.json").read_text())
        for attachment in state["attachments"].values():
            found.update(client["ticket"] for client in attachment["clients"])
        found.update(remote["ticket"] for remote in state["remote_attachments"].values())
    return found


def shared_by_three(cluster):
    """fio verifies on two nodes that are clients, at once, while they see each other's writes."""
    cluster.create(VOLUME, "64m", 3)
    cluster.refuses("not attached", "volume", "client", "add", VOLUME, "--on", "b")
    cluster.attach(VOLUME, "a")
    cluster.refuses("attached on node a", "volume", "client", "add", VOLUME, "--on", "a")
    uris = {node: add_client(cluster, node) for node in "bc"}
    expect(uris["b"] == cluster.uri(VOLUME, "b"), f"the URI is {uris['b']}")
    expect(all(one["connected"] for one in clients(cluster).values()), "not connected")
    loads = [
        fio(uris["b"], "one", "--size=24m", "--time_based", "--runtime=5"),
        fio(uris["c"], "two", "--size=24m", "--offset=24m", "--time_based", "--runtime=5"),
    ]
    with connect(cluster, "a") as a, connect(cluster, "b") as b, connect(cluster, "c") as c:
        at = 60 * MIB
        for sequence in range(1, 61):
            writer, readers = ((a, (b, c)), (b, (c, a)), (c, (a, b)))[sequence % 3]
            writer.write(at, block_data(at // BLOCK, sequence))
            for reader in readers:
                seen = block_sequence(at // BLOCK, reader.read(at, BLOCK))
                expect(seen == sequence, f"write {sequence} was answered, and {seen} is read")
        b.flush()
        b.trim(at, BLOCK)
        expect(not any(c.read(at, BLOCK)), "what was trimmed on b is there on c")
    for load in loads:
        finish(load)
    sums = {checksum(cluster.uri(VOLUME, node)) for node in "abc"}
    expect(len(sums) == 1, f"the nodes see different bytes: {sums}")


def a_volume_that_grew(cluster):
    cluster.ctl("volume", "grow", VOLUME, "--size", "80m")
    with connect(cluster, "b") as client:
        expect(client.size_bytes == 64 * MIB, "it has not been told yet")
    add_client(cluster, "b")
    with connect(cluster, "b") as client:
        expect(client.size_bytes == 80 * MIB, f"{client.size_bytes} bytes")
        client.write(79 * MIB, bytes(BLOCK))


def read_only_client(cluster):
    add_client(cluster, "c", "--read-only")
    expect(clients(cluster)["c"]["read_only"], "not listed as read-only")
    with connect(cluster, "c") as client, connect(cluster, "b") as other:
        other.write(0, b"x" * BLOCK)
        expect(client.read(0, BLOCK) == b"x" * BLOCK, "c does not see what b wrote")
        reply = client.call(WRITE, data=bytes(BLOCK))
        expect(reply.error == errno.EPERM, f"a write of a reader ended in {reply.error}")
    add_client(cluster, "c")
    with connect(cluster, "c") as client:
        client.write(0, bytes(BLOCK))


def unpublish_under_load(cluster):
    """A client that keelctl cannot reach writes on and on; taken off the list, nothing lands."""
    for _ in range(3):
        blank(cluster, "a")
        ledger = Ledger(0, 512)
        writers = [NumberedWriter(connect(cluster, "b"), ledger, depth=16)]
        wait_until(lambda: writers[0].acknowledged > 200, "writes through b")
        cluster.unreachable.add("b")
        try:
            cluster.ctl("volume", "client", "remove", VOLUME, "--on", "b")
        finally:
            cluster.unreachable.clear()
        with connect(cluster, "a") as client:
            first = client.read(0, 512 * BLOCK)
            time.sleep(0.5)
            expect(client.read(0, 512 * BLOCK) == first, "a write landed after the answer")
            writers[0].watch()
            ledger.expect_sound(client)
        expect("b" not in clients(cluster), "b is still listed")
        add_client(cluster, "b")
        # In place: the programs there go on.
        writers[0].stop()
        expect(writers[0].error is None and writers[0].refused == 0, "an error on b")


def removed_in_order(cluster):
    cluster.ctl("volume", "client", "remove", VOLUME, "--on", "c")
    expect(list(clients(cluster)) == ["b"], f"{clients(cluster)}")
    try:
        connect(cluster, "c")
        raise AssertionError("node c still shows it")
    except OSError:
        pass
    cluster.refuses("no client", "volume", "client", "remove", VOLUME, "--on", "c")
    add_client(cluster, "c")


def engine_killed(cluster):
    """kill -9 of the engine's daemon: a pause, no error."""
    blank(cluster, "a")
    ledgers = {"b": Ledger(0, 256), "c": Ledger(1024, 256)}
    writers = {n: NumberedWriter(connect(cluster, n), one, depth=8) for n, one in ledgers.items()}
    load = fio(cluster.uri(VOLUME, "c"), "kill", "--offset=32m", "--size=8m", "--time_based",
               "--runtime=8")
    for _ in range(2):
        time.sleep(1)
        for writer in writers.values():
            writer.take_longest()
        cluster["a"].kill()
        time.sleep(1)
        cluster["a"].start()
        wait_until(lambda: cluster.status(VOLUME)["attached_on"] == "a", "a to resume it")
        done = {node: writer.acknowledged for node, writer in writers.items()}
        for node, writer in writers.items():
            wait_until(lambda w=writer, d=done[node]: w.acknowledged > d + 50, f"writes on {node}")
        longest = max(writer.take_longest() for writer in writers.values())
        print(f"note: the engine's daemon is killed for 1 s: longest write {longest:.3f} s")
    finish(load)
    for node, writer in writers.items():
        writer.stop_served()
        with connect(cluster, node) as client:
            client.flush()
            ledgers[node].expect_sound(client)


def client_killed(cluster):
    """The client's daemon dies: its programs' connections end, and it shows the volume again."""
    with connect(cluster, "b") as client:
        client.write(0, b"before" + bytes(BLOCK - 6))
    cluster["b"].kill()
    cluster["b"].start()
    wait_until(lambda: clients(cluster)["b"]["connected"], "b to show it again")
    with connect(cluster, "b") as client:
        expect(client.read(0, 6 * BLOCK)[:6] == b"before", "lost write")


def taken_over(cluster):
    """The engine's node stops for good. b, which is a client, takes over; its own programs and
    those of c go on."""
    blank(cluster, "a")
    ledgers = {"b": Ledger(0, 256), "c": Ledger(1024, 256)}
    writers = {n: NumberedWriter(connect(cluster, n), one, depth=8) for n, one in ledgers.items()}
    time.sleep(1)
    for writer in writers.values():
        writer.take_longest()
    cluster["a"].pause()
    began = time.monotonic()
    cluster.attach(VOLUME, "b", "--force")
    took = time.monotonic() - began
    done = {node: writer.acknowledged for node, writer in writers.items()}
    for node, writer in writers.items():
        wait_until(lambda w=writer, d=done[node]: w.acknowledged > d + 50, f"writes on {node}")
    longest = max(writer.take_longest() for writer in writers.values())
    print(f"note: taken over in {took:.1f} s: longest write of a client {longest:.1f} s")
    cluster["a"].resume()
    time.sleep(1)
    for node, writer in writers.items():
        writer.stop_served()
        with connect(cluster, node) as client:
            ledgers[node].expect_sound(client)
    status = cluster.status(VOLUME)
    expect(status["attached_on"] == "b", f"attached on {status['attached_on']}")
    expect(set(clients(cluster)) == {"b", "c"}, f"{clients(cluster)}")
    try:
        with connect(cluster, "a") as client:
            client.write(0, bytes(BLOCK))
        raise AssertionError("the fenced engine took a write")
    except (OSError, Disconnected):
        pass
    # As a client of b the node that lost it can show it again.
    cluster["a"].ctl("volume", "detach", VOLUME)
    add_client(cluster, "a")
    with connect(cluster, "a") as client, connect(cluster, "c") as other:
        client.write(0, b"z" * BLOCK)
        expect(other.read(0, BLOCK) == b"z" * BLOCK, "c does not see what a wrote")
    cluster.wait_in_sync(VOLUME)


def outage(cluster):
    """Without an engine I/O fails in the end, and works again when there is one."""
    with connect(cluster, "c") as client:
        client.write(0, bytes(BLOCK))
        cluster["b"].kill()
        began = time.monotonic()
        reply = client.call(WRITE, data=b"y" * BLOCK)
        took = time.monotonic() - began
        expect(reply.error == errno.EIO, f"error {reply.error}")
        expect(OUTAGE_S - 1 < took < OUTAGE_S + 6, f"it failed after {took:.1f} s")
        cluster["b"].start()
        wait_until(lambda: client.call(WRITE, data=b"w" * BLOCK).error == 0, "writes to go on")


def no_ticket(cluster):
    """Whoever has no ticket learns nothing, costs little, and disturbs nobody."""
    node = cluster["b"]
    address = ("127.0.0.1", node.client_port)
    attachment = cluster.status(VOLUME)["attachment"]
    ticket = next(iter(tickets(cluster)))
    wrong = [
        VOLUME,
        "",
        f"{VOLUME}/{attachment}/{'f' * 32}",
        f"{VOLUME}/{attachment}/{ticket[:-1]}",
        f"{VOLUME}/{attachment + 1}/{ticket}",
        f"other/{attachment}/{ticket}",
        "/" * 4000,
    ]
    writer = NumberedWriter(connect(cluster, "c"), Ledger(0, 64), depth=4)
    for name in wrong:
        try:
            NbdClient(address, name)
            raise AssertionError(f"{name} was served")
        except (OSError, Disconnected):
            pass
    for garbage in (b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\xff" * 70000):
        with socket.create_connection(address, timeout=20) as peer:
            received = b""
            try:
                peer.sendall(garbage)
                peer.shutdown(socket.SHUT_WR)
                while piece := peer.recv(4096):
                    received += piece
            except OSError as error:  # it was ended before it had heard all
                expected = (errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE)
                expect(error.errno in expected, str(error))
            expect(VOLUME.encode() not in received, "it names the volume")
    # The list of exports is empty.
    with socket.create_connection(address, timeout=20) as peer:
        peer.sendall(struct.pack(">I", 3) + struct.pack(">QII", 0x49484156454F5054, 3, 0))
        received = b""
        while len(received) < 18 + 20:
            received += peer.recv(4096)
        kind = struct.unpack(">I", received[18 + 12 : 18 + 16])[0]
        expect(kind == 1, f"the first reply to the list option is {kind}")
    slow = [socket.create_connection(address, timeout=30) for _ in range(40)]
    for peer in slow:
        peer.sendall(b"\0\0\0")
    acknowledged = writer.acknowledged
    wait_until(lambda: writer.acknowledged > acknowledged + 20, "writes beside slow peers")
    for peer in slow:
        while peer.recv(4096):  # the greeting, and then the end
            pass
        peer.close()
    writer.stop_served()
    refused = node.metrics()['keelson_client_refused_total{reactor="0"}']
    expect(refused >= len(wrong) + len(slow), f"refused: {refused}")


def keeps_secrets(cluster):
    secrets = tickets(cluster)
    expect(len(secrets) >= 2, "no tickets")
    for name, node in cluster.nodes.items():
        log = node.log.read_text(errors="replace")
        mode = stat.S_IMODE((node.state / "pools.json").stat().st_mode)
        expect(mode & 0o077 == 0, f"pools.json of {name} can be read by others: {mode:o}")
        shown = log + cluster.ctl("--output", "json", "volume", "status", VOLUME).stdout
        shown += node.ctl("--output", "json", "volume", "list").stdout
        for secret in secrets:
            expect(secret not in shown, f"a ticket of {name} is shown")


def two_ends(cluster):
    """Clients first, then the engine."""
    cluster.ctl("volume", "detach", VOLUME)
    expect(not tickets(cluster), "tickets are left over")
    cluster.attach(VOLUME, "a")
    expect(not clients(cluster), "a new attachment has clients that nobody named")
    cluster.ctl("volume", "detach", VOLUME)


def main():
    checks = harness.Checks()
    with harness.Workspace("remote") as workspace:
        workspace.require_free(2 * GIB)
        arguments = (
            "--client-listen",
            "127.0.0.1:{port}",
            "--client-outage-limit",
            str(OUTAGE_S),
        )
        cluster = harness.Cluster(workspace, 3, arguments=arguments)
        for node in cluster.nodes.values():
            listen = node.arguments[node.arguments.index("--client-listen") + 1]
            node.client_port = int(listen.rpartition(":")[2])
        before = checks.failed
        for name, check in (
            ("two clients and the engine's node share a volume", shared_by_three),
            ("a client learns that the volume has grown", a_volume_that_grew),
            ("a reader cannot write", read_only_client),
            ("nothing lands after a client is taken off the list under load", unpublish_under_load),
            ("a client is removed in order", removed_in_order),
            ("the engine's daemon is killed: a pause", engine_killed),
            ("the client's daemon is killed: it shows the volume again", client_killed),
            ("another node takes over, and the clients follow", taken_over),
            ("without an engine I/O fails in the end", outage),
            ("no ticket, garbage, slow peers", no_ticket),
            ("tickets are never shown", keeps_secrets),
            ("clients end before their engine", two_ends),
        ):
            with checks.case(name):
                check(cluster)
        with checks.case("the nodes end soundly"):
            cluster.end_soundly()
        if checks.failed > before:
            cluster.print_logs()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
