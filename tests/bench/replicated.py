"""What the benchmark measures with three copies, all three on the one disk: the limit of that disk,
a peer, and Keelson."""

import dataclasses
import os
import time

import harness
import jobs
from harness import GIB
from targets import NbdTarget, Target, direct, fill, over_nbd, preallocate, qemu_aio

COPIES = 3
VOLUME, EMPTY = "written", "empty"


class RawThree(Target):
    """The disk's limit for three copies: fio on three files at once, without anybody who waits for
    all three. What a client's request costs is done in requests of fio's: a write is one to each
    file, a read is one read. So a job of depth d runs at depth 3d when it writes (1.6d at 70/30,
    with 44 % reads), and three of fio's writes count as one."""

    name = "raw-three"

    def __init__(self, workspace, size):
        super().__init__(workspace, size)
        self.paths = [workspace / f"{self.name}.{number}" for number in range(COPIES)]
        self.sparse = [workspace / f"{self.name}-sparse.{number}" for number in range(COPIES)]
        for path in self.paths:
            preallocate(path, size)
            fill(size, direct(path))

    def runs(self, job):
        return job.state in ("written", "empty")

    def prepare(self, job):
        if job.state == "empty":
            for path in self.sparse:
                path.write_bytes(b"")
                os.truncate(path, self.size)

    def measure(self, job):
        each = 1 + (COPIES - 1) * job.write_share  # of fio's requests, for one of a client
        paths = self.sparse if job.state == "empty" else self.paths
        if job.flush:
            # A flush is one of the file just written: a fio job for each file, at the job's depth.
            files = [f"--filename_format={paths[0].with_suffix('')}.$jobnum", "--numjobs=3"]
            measured = jobs.fio(self, job, self.size, ["--ioengine=io_uring", "--direct=1", *files])
        else:
            extra = ("--rwmixread=44",) if job.rw == "randrw" else job.extra
            wide = dataclasses.replace(job, depth=round(each * job.depth), extra=extra)
            files = [f"--nrfiles={COPIES}", "--file_service_type=roundrobin:1"]
            measured = jobs.fio(
                self, wide, COPIES * self.size, [*direct(":".join(map(str, paths))), *files]
            )
        for column in ("iops", "mbps"):
            measured[column] /= each
        for column in ("cpu_us_per_io", "disk_writes_per_write", "disk_bytes_per_byte"):
            if measured[column] is not None:
                measured[column] *= each
        return measured

    def settle(self, job):
        for path in self.sparse:
            path.unlink(missing_ok=True)


class QemuQuorum(NbdTarget):
    """qemu-nbd over its quorum driver with three raw files, two votes. No fencing, no rebuild, no
    checksums; it reads all three copies and compares them."""

    name = "qemu-quorum"

    def make_files(self):
        for number in range(COPIES):
            preallocate(self.file(number), self.size)

    def file(self, number):
        return self.path.with_suffix(f".{number}")

    def write_through(self):
        # Through the quorum: what it reads it compares.
        fill(self.size, over_nbd(self.uri))

    def command(self):
        options = ["driver=quorum", "vote-threshold=2"]
        for number in range(COPIES):
            child = f"children.{number}"
            options += [f"{child}.driver=raw", f"{child}.file.driver=file"]
            options += [f"{child}.file.filename={self.file(number)}"]
            options += [f"{child}.file.aio={qemu_aio()}"]
            options += [f"{child}.file.cache.direct=on"]
        command = ["qemu-nbd", "--cache=none", f"--aio={qemu_aio()}", "--persistent", "--shared=8"]
        return [*command, f"--socket={self.socket}", "--image-opts", ",".join(options)]


class KeelsonThree(Target):
    """Three daemons on loopback TCP with a copy each; the volume is attached on the first, over NBD
    on a UNIX socket."""

    name = "keelson"

    def __init__(self, workspace, size, binaries):
        super().__init__(workspace, size)
        # Written, and empty or sealed; what is first written in a run is less than all of it.
        self.cluster = harness.Cluster(
            workspace, COPIES, str(2 * size + GIB), binaries, names=f"{self.name}-"
        )
        self.cluster.create(VOLUME, size, COPIES)
        self.uri = self.cluster.attach(VOLUME, "a")
        fill(size, over_nbd(self.uri))

    def runs(self, job):
        return True

    def prepare(self, job):
        if job.state == "empty":
            self.cluster.create(EMPTY, self.size, COPIES)
            self.cluster.attach(EMPTY, "a")
        elif job.state == "snapshot":
            self.cluster.ctl("volume", "snapshot", VOLUME, "sealed")

    def measure(self, job):
        uri = self.cluster.uri(EMPTY, "a") if job.state == "empty" else self.uri
        return jobs.fio(self, job, self.size, over_nbd(uri))

    def settle(self, job):
        if job.state == "empty":
            self.cluster.ctl("volume", "detach", EMPTY)
            self.cluster.ctl("volume", "delete", EMPTY)
        elif job.state == "snapshot":
            self.cluster.ctl("volume", "snapshot-delete", VOLUME, "sealed")
        if job.state != "written":
            self.wait_for_space()
        harness.expect(self.cluster.in_sync(VOLUME), "a copy was given up during the run")

    def wait_for_space(self):
        """Until what was deleted has been merged away and reclaimed on every node."""
        used = None
        while used != (used := [node.pool_used() for node in self.cluster.nodes.values()]):
            time.sleep(2)

    def pids(self):
        return [node.process.pid for node in self.cluster.nodes.values()]

    def close(self):
        for node in self.cluster.nodes.values():
            node.stop(60)


KINDS = (RawThree, QemuQuorum, KeelsonThree)
