"""What the benchmark measures: each target is started once, fully written, visited by every job."""

import json
import os
import time

import harness
import jobs
from harness import GIB, run, start, wait_until


def release_binaries(given, *more):
    if given:
        return given
    folder = harness.ROOT / "build/release"
    print("== building preset release", flush=True)
    harness.run("cmake", "--preset", "release", "-DKEELSON_TESTS=OFF", cwd=harness.ROOT)
    harness.run("ninja", "-C", folder, "-j2", "keelson-blockstore", "keelctl", *more, timeout=3600)
    return folder / "bin"


def start_all(workspace, kinds, names, size, binaries):
    running = []
    for kind in kinds:
        if kind.name not in names:
            continue
        arguments = (binaries,) if kind.name.startswith("keelson") else ()
        running.append(kind(workspace, size, *arguments))
    return running


class Target:
    """One thing to measure. `size` is its working set, written end to end before the first job."""

    name = ""
    by_default = True  # measured when no targets are named

    def __init__(self, workspace, size):
        self.workspace = workspace
        self.size = size

    def runs(self, job):
        return job.state == "written"

    def prepare(self, job):
        """Brings the target into the state that the job wants; not measured."""

    def measure(self, job):
        raise NotImplementedError

    def settle(self, job):
        """Undoes what `prepare` did and waits until no work of this job is left behind."""

    def pids(self):
        return []

    def rss_mib(self):
        return jobs.rss_mib(self.pids())

    def close(self):
        """Ends its servers."""


def fill(size, arguments):
    run(
        "fio",
        "--name=fill",
        "--rw=write",
        "--bs=1m",
        "--iodepth=8",
        f"--size={size}",
        *arguments,
        timeout=1800,
    )


def direct(path):
    return ["--ioengine=io_uring", "--direct=1", f"--filename={path}"]


def over_nbd(uri):
    return ["--ioengine=nbd", f"--uri={uri}"]


class Raw(Target):
    name = "raw"

    def __init__(self, workspace, size):
        super().__init__(workspace, size)
        self.path = workspace / "raw"
        self.sparse = workspace / "sparse"
        preallocate(self.path, size)
        fill(size, direct(self.path))

    def runs(self, job):
        return job.state in ("written", "empty")

    def prepare(self, job):
        if job.state == "empty":
            self.sparse.write_bytes(b"")
            os.truncate(self.sparse, self.size)

    def measure(self, job):
        return jobs.fio(
            self, job, self.size, direct(self.sparse if job.state == "empty" else self.path)
        )

    def settle(self, job):
        self.sparse.unlink(missing_ok=True)


def preallocate(path, size):
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


class NbdTarget(Target):
    """A server process that shows a raw file on a UNIX socket."""

    def __init__(self, workspace, size):
        super().__init__(workspace, size)
        self.path = workspace / f"{self.name}.raw"
        self.socket = workspace / f"{self.name}.sock"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.make_files()
        self.server = start(workspace, *self.command(), log=workspace / f"{self.name}.log")
        wait_until(self.socket.exists, f"{self.name} to listen")
        self.write_through()

    def make_files(self):
        """What the server shows."""
        preallocate(self.path, self.size)
        fill(self.size, direct(self.path))

    def write_through(self):
        """Writes the working set through the server, where it is not written yet."""

    def command(self):
        raise NotImplementedError

    def measure(self, job):
        return jobs.fio(self, job, self.size, over_nbd(self.uri))

    def pids(self):
        return [self.server.pid]

    def close(self):
        harness.end(self.server)


class QemuNbd(NbdTarget):
    name = "qemu-nbd"

    def command(self):
        return [
            "qemu-nbd",
            "--cache=none",
            f"--aio={qemu_aio()}",
            "--persistent",
            "--shared=8",
            "--format=raw",
            f"--socket={self.socket}",
            self.path,
        ]


def qemu_aio():
    """io_uring where this qemu was built with it, else its own best."""
    return "io_uring" if "io_uring" in run("qemu-nbd", "--help").stdout else "native"


class Nbdkit(NbdTarget):
    name = "nbdkit"

    def command(self):
        return ["nbdkit", "--foreground", "--unix", self.socket, "file", self.path]

    def settle(self, job):
        # What it left dirty in the page cache is written now, not during the next target's run.
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())


class Keelson(Target):
    """The daemon with one written volume, and fresh volumes for the jobs about first writes."""

    name = "keelson"

    def __init__(self, workspace, size, binaries):
        super().__init__(workspace, size)
        self.daemon = harness.Daemon(workspace, binaries, name=self.name).start()
        pool_size = 3 * size + GIB  # written, empty or sealed, and what is not yet reclaimed
        self.daemon.ctl(
            "pool", "create", workspace / f"{self.name}-pool", "--size", str(pool_size), timeout=600
        )
        self.uri = self.daemon.attach("written", size)
        fill(size, over_nbd(self.uri))

    def runs(self, job):
        return True

    def prepare(self, job):
        if job.state == "empty":
            self.daemon.attach("empty", self.size)
        elif job.state == "snapshot":
            self.daemon.ctl("volume", "snapshot", "written", "sealed")

    def measure(self, job):
        uri = self.daemon.uri("empty") if job.state == "empty" else self.uri
        return jobs.fio(self, job, self.size, over_nbd(uri))

    def settle(self, job):
        if job.state == "empty":
            self.daemon.ctl("volume", "detach", "empty")
            self.daemon.ctl("volume", "delete", "empty")
            self.wait_for_space()
        elif job.state == "snapshot":
            self.daemon.ctl("volume", "snapshot-delete", "written", "sealed")
            self.wait_for_space()

    def wait_for_space(self):
        """Until what was deleted has been merged away and reclaimed."""
        used = None
        while used != (used := self.daemon.pool_used()):
            time.sleep(2)

    def pids(self):
        return [self.daemon.process.pid]

    def close(self):
        self.daemon.stop(60)


class KeelsonBench(Target):
    """The engine driven inside one process (`tool bench`): no NBD, no socket, no fio."""

    name = "keelson-bench"
    LAYOUTS = {"written": "filled", "empty": "fresh", "snapshot": "snapshot"}

    def __init__(self, workspace, size, binaries):
        super().__init__(workspace, size)
        self.program = binaries / "keelson-blockstore"
        self.pool = workspace / f"{self.name}-pool"
        run(self.program, "tool", "create", self.pool, "--size", 2 * size + GIB, timeout=600)

    def runs(self, job):
        return True

    def measure(self, job):
        command = [self.program, "tool", "bench", self.pool, f"--volume-size={self.size}"]
        command += [f"--rw={job.rw}", f"--bs={job.block}", f"--iodepth={job.depth}"]
        command += [f"--layout={self.LAYOUTS[job.state]}", f"--runtime={jobs.RUN_S}", "--json"]
        if job.flush:
            command.append("--fsync=1")
        if job.rw == "randrw":
            command.append("--rwmix=70")
        result = json.loads(run(*command, timeout=600).stdout)
        flush = {"p50_us": 0, "p99_us": 0}
        if job.flush:
            flush = {"p50_us": result["flush_p50_us"], "p99_us": result["flush_p99_us"]}
        return {
            "iops": result["iops"],
            "mbps": result["mbps"],
            "p50_us": result["p50_us"] + flush["p50_us"],
            "p99_us": result["p99_us"] + flush["p99_us"],
            "cpu_us_per_io": result["cpu_us_per_io"],
            "rss_mib": result["rss_bytes"] / harness.MIB,
        }


def loop_device(path):
    return run("losetup", "--find", "--show", "--direct-io=on", "-b", "4096", path).stdout.strip()


class LoopRaw(Target):
    """A loop device with direct I/O on a written file: what the loop driver leaves of the disk."""

    name = "loop-raw"
    by_default = False  # as the others with a device it needs root

    def __init__(self, workspace, size):
        super().__init__(workspace, size)
        path = workspace / f"{self.name}.raw"
        preallocate(path, size)
        fill(size, direct(path))
        self.device = loop_device(path)
        workspace.callback(run, "losetup", "-d", self.device, check=False)

    def measure(self, job):
        return jobs.fio(self, job, self.size, direct(self.device))


class QemuNbdFuse(QemuNbd):
    """qemu-nbd's export as a file through nbdfuse, and a loop device with direct I/O on that."""

    name = "qemu-nbdfuse"
    by_default = False

    def write_through(self):
        point = self.workspace / f"{self.name}.mnt"
        point.write_bytes(b"")
        self.fuse = start(
            self.workspace, "nbdfuse", point, self.uri, log=self.workspace / "nbdfuse.log"
        )
        wait_until(lambda: point.stat().st_size == self.size, "nbdfuse to show the export")
        self.device = loop_device(point)
        self.workspace.callback(run, "losetup", "-d", self.device, check=False)

    def measure(self, job):
        return jobs.fio(self, job, self.size, direct(self.device))

    def pids(self):
        return [self.server.pid, self.fuse.pid]

    def close(self):
        run("losetup", "-d", self.device)
        run("fusermount3", "-u", self.workspace / f"{self.name}.mnt")
        super().close()


class KeelsonLoop(Keelson):
    """The daemon's volume as a block device (the frontend loop)."""

    name = "keelson-loop"
    by_default = False

    def __init__(self, workspace, size, binaries):
        super().__init__(workspace, size, binaries)
        self.daemon.ctl("volume", "detach", "written")
        self.device = self.daemon.ctl(
            "volume", "attach", "written", "--frontend", "loop"
        ).stdout.strip()
        workspace.callback(self.detach)

    def detach(self):
        if self.daemon.process.poll() is None:
            self.daemon.ctl("volume", "detach", "written", check=False)

    def runs(self, job):
        return job.state == "written"

    def measure(self, job):
        return jobs.fio(self, job, self.size, direct(self.device))

    def close(self):
        self.detach()
        super().close()


KINDS = (Raw, QemuNbd, Nbdkit, Keelson, KeelsonBench, LoopRaw, QemuNbdFuse, KeelsonLoop)
