#!/usr/bin/python3
"""Many volumes at the same time, through everything that volumes go through, by several callers;
then nothing of them is left anywhere. KEELSON_SCALE_VOLUMES says how many."""

import concurrent.futures
import os
import pathlib
import random
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import block_devices  # noqa: E402
import control_plane  # noqa: E402
import harness  # noqa: E402
from harness import GIB, MIB, expect  # noqa: E402
from nbd_client import NbdClient  # noqa: E402

VOLUMES = int(os.environ.get("KEELSON_SCALE_VOLUMES", "100"))
WORKERS = 8
SIZE_MIB, GROWN_MIB = 64, 96
WRITTEN = 16 * 1024
DEVICE_EVERY = 4  # the other volumes are shown over NBD
# Connections of gRPC come and go by themselves.
MORE_DESCRIPTORS = 24


class Volume:
    """One of many, and its snapshot and clone, by names; served on one node."""

    def __init__(self, test, number):
        self.plane, self.cluster = test.plane, test.cluster
        self.name = f"volume-{number}"
        self.snapshot, self.clone = f"{self.name}-snapshot", f"{self.name}-clone"
        self.node = "abc"[number % 3]
        self.device = test.devices and number % DEVICE_EVERY == 0
        self.frontend = ("-p", f"frontend={'loop' if self.device else 'nbd'}")
        self.bytes = random.Random(number).randbytes(WRITTEN)
        self.ids = {}

    def create(self):
        self.plane.ctl("create", self.name, "--size", f"{SIZE_MIB}m", *self.frontend)

    def publish(self):
        self.plane.ctl("publish", self.name, "--on", self.node)

    def write(self):
        self._put(self.name, 0)

    def take_snapshot(self):
        self.plane.ctl("snapshot", self.name, self.snapshot)

    def make_clone(self):
        # The snapshot may be of the volume as it was before it grew, or after.
        source = ("--from", self.snapshot, "--size", f"{GROWN_MIB}m")
        self.plane.ctl("create", self.clone, *source, *self.frontend)

    def publish_clone(self):
        self.plane.ctl("publish", self.clone, "--on", self.node)

    def expand(self):
        self.plane.ctl("expand", self.name, "--size", f"{GROWN_MIB}m")

    def verify(self):
        """The volume at both of its ends, and the clone."""
        end = GROWN_MIB * MIB - WRITTEN
        self._put(self.name, end)
        for name, offset in ((self.name, 0), (self.name, end), (self.clone, 0)):
            expect(self._get(name, offset) == self.bytes, f"{name} has other bytes at {offset}")

    def unpublish(self):
        self.plane.ctl("unpublish", self.name)

    def unpublish_clone(self):
        self.plane.ctl("unpublish", self.clone)

    def delete(self):
        self.plane.ctl("delete", self.name)

    def delete_clone(self):
        self.plane.ctl("delete", self.clone)

    def delete_snapshot(self):
        self.plane.ctl("snapshot-delete", self.snapshot)

    def _id(self, name):
        if name not in self.ids:
            self.ids[name] = self.plane.volume(name)["id"]
        return self.ids[name]

    def _device(self, name):
        identity = self._id(name)
        listed = self.cluster[self.node].ctl_json("volume", "list")
        return next(v["device"] for v in listed if v["name"] == identity)

    def _put(self, name, offset):
        if self.device:
            with open(self._device(name), "r+b", buffering=0) as device:
                device.seek(offset)
                device.write(self.bytes)
                os.fsync(device.fileno())
            return
        with NbdClient(self.cluster[self.node].nbd_socket, self._id(name)) as client:
            client.write(offset, self.bytes)
            client.flush()

    def _get(self, name, offset):
        if self.device:
            with open(self._device(name), "rb", buffering=0) as device:
                device.seek(offset)
                return device.read(WRITTEN)
        with NbdClient(self.cluster[self.node].nbd_socket, self._id(name)) as client:
            return client.read(offset, WRITTEN)


# What happens to all volumes before the next: calls, each by the names of those that must be over.
STAGES = (
    ("create", {"create": ()}),
    ("publish", {"publish": ()}),
    ("write", {"write": ()}),
    (
        "snapshot, clone, publish, expand",
        {
            "take_snapshot": (),
            "make_clone": ("take_snapshot",),
            "publish_clone": ("make_clone",),
            "expand": (),
        },
    ),
    ("verify", {"verify": ()}),
    (
        "unpublish, delete",
        {
            "unpublish": (),
            "unpublish_clone": (),
            "delete": ("unpublish",),
            "delete_clone": ("unpublish_clone",),
            "delete_snapshot": (),
        },
    ),
)


class Test:
    def __init__(self, workspace):
        self.devices = not block_devices.missing()
        if not self.devices:
            print(f"note: no block devices here: {block_devices.missing()}")
        arguments = ("--overprovision", "10000", "--reserve", "0")
        self.cluster, self.plane = control_plane.start_all(workspace, 3, "1g", arguments)
        self.volumes = [Volume(self, number) for number in range(VOLUMES)]

    def all_at_once(self):
        """Every stage with all volumes, by several callers, each of which takes what is next."""
        rates, longest = [], (0.0, "")
        for what, calls in STAGES:
            started = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
                work = [pool.submit(in_some_order, volume, calls) for volume in self.volumes]
                longest = max(longest, *(done.result() for done in work))
            rate = VOLUMES * len(calls) / (time.monotonic() - started)
            rates.append(f"{what} {rate:.1f}")
        print(f"note: {VOLUMES} volumes, {WORKERS} callers, calls a second: {'; '.join(rates)}")
        print(f"note: the longest call took {longest[0]:.2f} s: {longest[1]}")

    def goes_without_a_trace(self, before):
        """What is deleted is freed in the background."""
        deadline = time.monotonic() + 60
        while (after := self.state()) != before:
            wrong = [f"{what}: {after[what]}, before: {before[what]}" for what in before]
            wrong = [line for what, line in zip(before, wrong) if after[what] != before[what]]
            expect(time.monotonic() < deadline, "; ".join(wrong)[:3000])
            time.sleep(0.2)

    def descriptors(self):
        """How many files each of the processes has open."""
        nodes = self.cluster.nodes.items()
        processes = {"provisioner": self.plane.process, **{n: node.process for n, node in nodes}}
        return {
            name: len(list(pathlib.Path(f"/proc/{process.pid}/fd").iterdir()))
            for name, process in processes.items()
        }

    def keeps_no_files_open(self, before):
        after = self.descriptors()
        for name, count in after.items():
            more = count - before[name]
            expect(more <= MORE_DESCRIPTORS, f"{name} has {more} more open files than before")

    def state(self):
        """What there is of volumes anywhere, by name, in a form that can be compared."""
        found = {
            "records": [*self.plane.volumes(), *self.snapshots()],
            "space": {name: node["free_bytes"] for name, node in self.plane.nodes().items()},
        }
        for name, node in self.cluster.nodes.items():
            found[name] = {
                "served": [volume["name"] for volume in node.ctl_json("volume", "list")],
                "replicas": node.replica_count(),
                "used": node.pool_used(),
                "devices": block_devices.left_over(node.run_dir),
                "keepers": block_devices.keepers(node.run_dir),
                "sockets": sorted(p.name for p in node.run_dir.rglob("*") if p.is_socket()),
            }
        return found

    def snapshots(self):
        return [one["name"] for one in self.plane.ctl_json("snapshots").get("snapshots", [])]


def in_some_order(volume, calls):
    """All of the calls, none before those that it needs. The seconds of the longest, and which."""
    left, over, longest = list(calls), set(), (0.0, "")
    while left:
        ready = [call for call in left if over.issuperset(calls[call])]
        call = random.choice(ready)
        started = time.monotonic()
        getattr(volume, call)()
        longest = max(longest, (time.monotonic() - started, f"{call} of {volume.name}"))
        left.remove(call)
        over.add(call)
    return longest


def main():
    checks = harness.Checks()
    with harness.Workspace("scale") as workspace:
        workspace.require_free(4 * GIB)
        block_devices.clean_up_after(workspace)
        test = Test(workspace)
        state, descriptors = test.state(), test.descriptors()
        with checks.case(f"{VOLUMES} volumes are made, used and deleted at the same time"):
            test.all_at_once()
        if not checks.failed:
            with checks.case("nothing of them is left anywhere"):
                test.goes_without_a_trace(state)
            with checks.case("no process keeps files open"):
                test.keeps_no_files_open(descriptors)
        if checks.failed:
            test.cluster.print_logs()
            test.plane.print_log()
        else:
            with checks.case("every pool is sound"):
                test.cluster.end_soundly()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
