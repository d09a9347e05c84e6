#!/usr/bin/python3
"""Three daemons under verified load while a disk fails and while pools fill up: the copy on that
disk is given up, the volume goes on, and the copy is made whole when there is a disk again."""

import errno
import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from faulty_disk import FaultyDisk  # noqa: E402
from harness import GIB, MIB, expect, wait_until  # noqa: E402
from load import every_copy_is_equal, finish, fio  # noqa: E402
from nbd_client import NbdClient  # noqa: E402
from numbered_blocks import BLOCK, Ledger, NumberedWriter, block_data, block_sequence  # noqa: E402

VOLUME = "data"
FIO_MIB = 48
VOLUME_MIB = 56


def given_up(cluster, volume, node):
    """It may be tried again meanwhile, and is syncing then."""
    return cluster.member(volume, node)["state"] != "in-sync"


def under_load(cluster, node, seconds, fault):
    """Runs `fault` beside fio and numbered writes through `node`; neither may see an error."""
    uri = cluster.uri(VOLUME, node)
    ledger = Ledger(FIO_MIB * MIB // BLOCK, 1024)
    load = fio(uri, "load", f"--size={FIO_MIB}m", "--time_based", f"--runtime={seconds}",
               "--rate=,24m")
    client = NbdClient(cluster[node].nbd_socket, VOLUME)
    writer = NumberedWriter(client, ledger, depth=4, pause_s=0.002)
    time.sleep(1)
    fault(writer)
    finish(load, 120)
    writer.stop_served()
    finish(fio(uri, "verify", f"--size={FIO_MIB}m", "--rw=read"))
    with NbdClient(cluster[node].nbd_socket, VOLUME) as client:
        ledger.expect_sound(client)


def disk_fails(cluster, disk, attached_on, fail, mend):
    """`fail` breaks the disk of node c, `mend` makes it good; then c's daemon is restarted."""

    def fault(writer):
        writer.take_longest()
        fail()
        wait_until(lambda: given_up(cluster, VOLUME, "c"), "the copy to be given up")
        time.sleep(1)
        longest = writer.take_longest()
        print(f"note: a disk fails under the volume on node {attached_on}: longest write "
              f"{longest:.3f} s")
        why = cluster.ctl("why", VOLUME).stdout
        expect("node c" in why, f"why does not name the node: {why}")
        expect(str(cluster["c"].pool) in why or str(disk.path) in why,
               f"why does not name the disk: {why}")
        expect(cluster["c"].metric("keelson_pool_io_errors_total") > 0, "no I/O error is counted")
        expect(given_up(cluster, VOLUME, "c"), "the copy on the bad disk was taken back")
        if attached_on != "c":
            restart(cluster, mend)
            cluster.wait_in_sync(VOLUME)

    cluster.attach(VOLUME, attached_on)
    under_load(cluster, attached_on, 6, fault)
    if attached_on == "c":
        restart(cluster, mend)
        wait_until(lambda: cluster.status(VOLUME)["attached_on"] == "c", "c to resume the volume")
        cluster.wait_in_sync(VOLUME)
        finish(fio(cluster.uri(VOLUME, "c"), "verify", f"--size={FIO_MIB}m", "--rw=read"))
    cluster.ctl("volume", "detach", VOLUME)


def restart(cluster, mend):
    cluster["c"].kill()
    mend()
    cluster["c"].start()


def disk_cases(workspace, checks):
    title = "a disk fails: its copy is given up and made whole afterwards"
    cluster = None
    with checks.case(title):
        disk = FaultyDisk(workspace, "c", 192 * MIB)
        cluster = harness.Cluster(
            workspace, 3, "192m", pools={"c": ("--device", disk.path)}, names="disk-"
        )
        cluster.create(VOLUME, f"{VOLUME_MIB}m", 3)
        uri = cluster.attach(VOLUME, "a")
        finish(fio(uri, "fill", f"--size={FIO_MIB}m", "--rw=write", "--iodepth=16"))
        disk_fails(cluster, disk, "a", disk.fail, disk.mend)
    if cluster is None:
        return
    with checks.case("the engine's own disk fails, flushes too: it goes on with the other copies"):
        def plug_again():
            disk.unplug()
            disk.plug()

        disk_fails(cluster, disk, "c", disk.die, plug_again)
    with checks.case("after the disk faults every copy has the same bytes"):
        every_copy_is_equal(cluster, VOLUME)
    end(cluster, checks)
    disk.unplug()


class Filler:
    """Writes fresh MiB after MiB of a volume, and knows which of them were acknowledged."""

    BLOCKS = MIB // BLOCK

    def __init__(self, cluster, volume, node):
        self.client = NbdClient(cluster[node].nbd_socket, volume)
        self.written = set()

    def write(self, number):
        """0, or the error of the client."""
        first = number * self.BLOCKS
        data = b"".join(block_data(first + i, number + 1) for i in range(self.BLOCKS))
        try:
            self.client.write(first * BLOCK, data)
        except OSError as error:
            return error.errno
        self.written.add(number)
        return 0

    def verify(self):
        for number in sorted(self.written):
            first = number * self.BLOCKS
            data = self.client.read(first * BLOCK, MIB)
            for i in range(self.BLOCKS):
                found = block_sequence(first + i, data[i * BLOCK : (i + 1) * BLOCK])
                expect(found == number + 1, f"block {first + i} holds write {found}")

    def trim(self, number):
        self.client.trim(number * MIB, MIB)
        self.written.discard(number)


def pools_fill_up(cluster):
    # One thin segment, which is larger than every pool: keelctl would make several of it.
    size = ("--size", "256m", "--segment-size", "256m")
    cluster.ctl("volume", "create", "full", *size, "--replicas", 3)
    cluster.attach("full", "a")
    filler = Filler(cluster, "full", "a")
    number = 0

    def fill_until(condition, limit):
        nonlocal number
        while not condition():
            expect(number < limit, f"{number} MiB fit")
            code = filler.write(number)
            expect(code == 0, f"MiB {number}: {os.strerror(code)}")
            number += 1

    # The small pool of c: that copy is given up, the others take everything.
    fill_until(lambda: given_up(cluster, "full", "c"), 100)
    fill_until(lambda: number >= 80, 100)

    def named():
        why = cluster.ctl("why", "full").stdout
        return "node c" in why and "is full" in why

    wait_until(named, "why to say whose pool is full")
    filler.verify()

    # All are full: the client's error, and nothing else goes wrong.
    while (code := filler.write(number)) == 0:
        number += 1
        expect(number < 200, f"{number} MiB fit")
    expect(code == errno.ENOSPC, f"a full volume says {os.strerror(code)}")
    print(f"note: {len(filler.written)} MiB fit in pools of 128 MiB, c's has 64 MiB")
    filler.verify()
    expect(filler.write(0) == 0, "what is there cannot be overwritten")

    # Space comes back with trims, for all three.
    for freed in range(20, number + 1):
        filler.trim(freed)
    wait_until(lambda: filler.write(20) == 0, "space to come back")
    cluster.wait_in_sync("full", 60)
    expect(filler.write(21) == 0, "a write after the trims")
    filler.verify()
    filler.client.close()
    cluster.ctl("volume", "detach", "full")
    every_copy_is_equal(cluster, "full")


def end(cluster, checks):
    with checks.case(f"the daemons of {cluster['a'].log.stem} and its peers end cleanly"):
        cluster.end_soundly()
    if checks.failed:
        cluster.print_logs()


def main():
    checks = harness.Checks()
    with harness.Workspace("disks") as workspace:
        workspace.require_free(2 * GIB)
        disk_cases(workspace, checks)
        sizes = {"c": ("--size", "64m")}
        cluster = harness.Cluster(workspace, 3, "128m", pools=sizes, names="full-")
        with checks.case("pools fill up: one copy first, then all, and trims bring them back"):
            pools_fill_up(cluster)
        end(cluster, checks)
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
