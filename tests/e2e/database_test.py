#!/usr/bin/python3
"""SQLite on ext4 on a replicated volume, as a pod would have it: what was committed is there after
the engine's daemon, the database or the whole node is gone. Needs root, /dev/fuse and loop
devices."""

import os
import pathlib
import random
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import block_devices  # noqa: E402
import control_plane  # noqa: E402
import harness  # noqa: E402
from harness import GIB, ROOT, expect, run, wait_until  # noqa: E402
from sqlite_load import JOURNAL_MODES, Load  # noqa: E402

KILLS = int(os.environ.get("KEELSON_DATABASE_KILLS", "3"))
MOVES = max(1, KILLS // 3)  # from a node that is lost to another
CLASS = ROOT / "deploy/examples/storageclass.yaml"


class Databases:
    """One in each journal mode, on the volume, which is mounted on one node."""

    def __init__(self, workspace):
        self.workspace = workspace
        self.cluster = harness.Cluster(workspace, 3, "2g")
        arguments = ("--lost-after", "3", "--heal-after", "3600", "--reserve", "0")
        self.plane = control_plane.ControlPlane(workspace, self.cluster, arguments).start()
        self.drivers = control_plane.Drivers(workspace, self.cluster, self.plane).start()
        self.loads = [Load(workspace, mode) for mode in JOURNAL_MODES]
        self.volume = self.drivers.create("data", "--size", "1g", "--storage-class", CLASS)
        expect(len(self.plane.copies("data")) == 3, "not three copies")
        self.node = "a"
        self.mount()

    def mount(self):
        self.folder = self.drivers.mount(self.volume, self.node)
        kind = run("findmnt", "-no", "FSTYPE", "--mountpoint", self.folder).stdout.strip()
        expect(kind == "ext4", f"there is {kind} on it")
        (self.device,) = block_devices.loops(self.cluster[self.node].run_dir)

    def remount(self):
        self.drivers.unmount(self.volume, self.node)
        block_devices.expect_nothing_left(self.cluster[self.node].run_dir)
        self.mount()

    def start(self):
        for load in self.loads:
            load.start(self.folder)
        self.wait_for_commits()

    def wait_for_commits(self, timeout=60):
        """Of every database, from now on."""
        before = [load.done() for load in self.loads]

        def all_went_on():
            for load in self.loads:
                load.expect_running()
            return all(load.done() > count for load, count in zip(self.loads, before))

        wait_until(all_went_on, "both databases to go on", timeout)

    def judge(self):
        """The last row of each."""
        last = [load.judge(self.folder) for load in self.loads]
        errors = pathlib.Path("/sys/fs/ext4") / self.device.rpartition("/")[2] / "errors_count"
        expect(errors.read_text() == "0\n", f"ext4 has seen {errors.read_text().strip()} errors")
        return last

    def committed(self):
        return sum(load.done() for load in self.loads)

    def end(self):
        for load in self.loads:
            if load.process and load.process.poll() is None:
                load.process.kill()


def while_running(least=0.2, most=1.0):
    """The load runs for a moment that nobody can foretell."""
    time.sleep(random.uniform(least, most))


def loses_its_daemon(databases):
    node = databases.cluster[databases.node]
    pauses = []
    for _ in range(KILLS):
        databases.start()
        while_running()
        node.kill()
        killed = time.monotonic()
        while_running(0.0, 0.5)
        node.start()
        databases.wait_for_commits()
        pauses.append(time.monotonic() - killed)
        for load in databases.loads:
            load.end()
        databases.judge()
    databases.remount()
    databases.judge()
    print(f"note: {KILLS} kills under databases, commits again after {max(pauses):.2f} s at most")


def loses_its_process(databases):
    for _ in range(KILLS):
        databases.start()
        while_running()
        for load in databases.loads:
            load.kill()
        databases.judge()
    databases.remount()
    databases.judge()


def loses_its_node(databases):
    pauses = []
    for _ in range(MOVES):
        pauses.append(move_from_lost_node(databases))
    print(f"note: {MOVES} lost nodes, commits on another one after {max(pauses):.2f} s at most")


def move_from_lost_node(databases):
    """The seconds from the loss to the first commits on the other node."""
    cluster, plane, volume = databases.cluster, databases.plane, databases.volume
    lost, lost_folder = databases.node, databases.folder
    databases.start()
    while_running()
    cluster[lost].kill()
    killed = time.monotonic()
    plane.ctl("unpublish", volume, "--on", lost)
    # Whatever was answered before the loss is noted by now: that took seconds.
    abandoned = [load.abandon() for load in databases.loads]
    try:
        databases.node = random.choice([name for name in cluster.nodes if name != lost])
        databases.mount()
        last = databases.judge()
        databases.start()
        pause = time.monotonic() - killed
        for load in abandoned:
            load.expect_running()  # it waits
        cluster[lost].start()
        for load, row in zip(abandoned, last):
            load.expect_failed(row)
    finally:
        end_abandoned(cluster[lost], [load.process for load in abandoned])
    # What a kubelet does when it is back; the volume stays published where it is now.
    databases.drivers.unmount(volume, lost)
    expect(not os.path.ismount(lost_folder), f"{lost_folder} is still mounted")
    wait_until(lambda: not block_devices.left_over(cluster[lost].run_dir), "its device to go", 30)
    block_devices.expect_nothing_left(cluster[lost].run_dir)
    databases.wait_for_commits()
    wait_until(lambda: plane.whole("data"), "all copies to have everything", 60)
    for load in databases.loads:
        load.end()
    databases.judge()
    return pause


def end_abandoned(node, processes):
    """Whatever hangs on the device of the lost node is let go, also when the check has failed."""
    if any(process.poll() is None for process in processes):
        for point in block_devices.mounts(node.run_dir, "fuse.keelson"):
            subprocess.run(["umount", "-f", point], stderr=subprocess.DEVNULL, check=False)
    for process in processes:
        process.kill()
        process.wait(60)


def goes_without_a_trace(databases):
    plane = databases.plane
    databases.drivers.unmount(databases.volume, databases.node)
    plane.ctl("publish", "data", "--on", "b")
    (device,) = block_devices.loops(databases.cluster["b"].run_dir)
    run("e2fsck", "-fn", device)
    plane.ctl("unpublish", "data")
    databases.drivers.ctl("delete", databases.volume)
    for node in databases.cluster.nodes.values():
        block_devices.expect_nothing_left(node.run_dir)
        wait_until(lambda node=node: node.replica_count() == 0, "the copies to be gone")


CHECKS = {
    "kill -9 of the engine's daemon is a pause for the databases": loses_its_daemon,
    "kill -9 of the databases": loses_its_process,
    "the node is lost: everything committed is on the next one": loses_its_node,
    "the file system is sound, and nothing is left of the volume": goes_without_a_trace,
}


def main():
    checks = harness.Checks()
    why = block_devices.missing()
    if why:
        for name in CHECKS:
            with checks.case(name):
                raise harness.Skip(why)
        return checks.exit_code()
    with harness.Workspace("database") as workspace:
        workspace.require_free(7 * GIB)
        block_devices.clean_up_after(workspace)
        began = time.monotonic()
        databases = Databases(workspace)
        workspace.callback(databases.end)
        for name, check in CHECKS.items():
            with checks.case(name):
                check(databases)
            if checks.failed:
                break  # what it left behind would make the others fail
        print(f"note: {databases.committed()} transactions in {time.monotonic() - began:.0f} s")
        if checks.failed:
            databases.cluster.print_logs()
            databases.plane.print_log()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
