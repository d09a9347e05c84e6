"""The jobs of the benchmark, and how one of them is measured on one target."""

import dataclasses
import json
import os
import pathlib
import subprocess
import time

RUN_S = 5
RAMP_S = 1


@dataclasses.dataclass(frozen=True)
class Job:
    name: str
    rw: str
    block: int
    depth: int
    extra: tuple = ()
    flush: bool = False  # after every write
    # "written": overwrites and reads of written data; "empty": the first write of every block;
    # "snapshot": the first writes after a snapshot of a written volume.
    state: str = "written"

    @property
    def write_share(self):
        """Of all requests."""
        return {"randread": 0, "read": 0, "randrw": 0.3}.get(self.rw, 1)

    @property
    def ramp_s(self):
        # What is first happens once, at the beginning: nothing of it may be left out.
        return RAMP_S if self.state == "written" else 0


_4K, _1M = 4096, 1 << 20
JOBS = {
    job.name: job
    for job in (
        Job("randread-4k-qd1", "randread", _4K, 1),
        Job("randread-4k-qd32", "randread", _4K, 32),
        Job("randwrite-4k-qd1", "randwrite", _4K, 1),
        Job("randwrite-4k-qd32", "randwrite", _4K, 32),
        Job("randrw70-4k-qd32", "randrw", _4K, 32, ("--rwmixread=70",)),
        Job("read-1m-qd8", "read", _1M, 8),
        Job("write-1m-qd8", "write", _1M, 8),
        Job("write-flush-4k-qd1", "randwrite", _4K, 1, flush=True),
        Job("first-write-4k-qd32", "randwrite", _4K, 32, state="empty"),
        Job("after-snapshot-4k-qd32", "randwrite", _4K, 32, state="snapshot"),
    )
}


def measure(target, job):
    """Prepares the target for the job, runs it, and gives back a dict of report.MEASURED."""
    target.prepare(job)
    try:
        return target.measure(job)
    finally:
        target.settle(job)


def fio(target, job, size, arguments):
    """fio against `arguments`, with the CPU of fio and of the target's servers."""
    command = [
        "fio",
        f"--name={job.name}",
        f"--rw={job.rw}",
        f"--bs={job.block}",
        f"--iodepth={job.depth}",
        f"--size={size}",
        "--thread",
        "--group_reporting",
        "--randrepeat=0",
        "--output-format=json",
        "--percentile_list=50:75:99:99.5",
        f"--runtime={RUN_S}",
        f"--ramp_time={job.ramp_s}",
        *job.extra,
        *arguments,
    ]
    if job.flush:
        # fio's nbd engine knows fsync only; for NBD both are one flush.
        command.append("--fsync=1" if "--ioengine=nbd" in arguments else "--fdatasync=1")
    # One set of figures for reads and writes together; a flush is reported only without this.
    section = "write" if job.flush else "mixed"
    if not job.flush:
        command.append("--unified_rw_reporting=mixed")
    if job.state == "written":
        command.append("--time_based")
        if job.block == _4K:
            command.append("--norandommap")
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        usage = Usage(
            [process.pid, *target.pids()],
            Disk(target.workspace.path),
            start_s=job.ramp_s + 0.5,
            end_s=job.ramp_s + RUN_S - 0.3,
        )
        usage.watch(process)
        output, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}\n{output}{errors}")
    # Some engines print a line before the JSON.
    result = json.loads(output[output.index("{") :])["jobs"][0]
    if result["error"]:
        raise SystemExit(f"{' '.join(command)}: error {result['error']}\n{errors}")
    figures, sync = result[section], result.get("sync", {})
    p50, p99 = (percentile(figures.get("clat_ns", {}), name) for name in (50, 99))
    if job.flush:
        # fio counts an io_uring flush twice: as queued, under a microsecond, and as done.
        twice = sync["lat_ns"]["N"] > 1.5 * figures["total_ios"]
        p50 += percentile(sync["lat_ns"], 75 if twice else 50)
        p99 += percentile(sync["lat_ns"], 99.5 if twice else 99)
    written = figures["iops"] * job.write_share
    return {
        "iops": figures["iops"],
        "mbps": figures["bw_bytes"] / 1e6,
        "p50_us": p50,
        "p99_us": p99,
        "cpu_us_per_io": usage.cpu_us() / figures["iops"] if figures["iops"] else None,
        "rss_mib": target.rss_mib(),
        "disk_writes_per_write": usage.disk_writes() / written if written else None,
        "disk_bytes_per_byte": usage.disk_bytes() / (written * job.block) if written else None,
    }


def percentile(latency, percent):
    """In microseconds."""
    return latency.get("percentile", {}).get(f"{percent:.6f}", 0) / 1000


class Usage:
    """What a run takes in a window of it, for each second: the CPU time of processes, all their
    threads together, and the writes of the whole disk, whoever made them."""

    def __init__(self, pids, disk, start_s, end_s):
        self._pids = pids
        self._disk = disk
        self._start_s, self._end_s = start_s, end_s
        self._begun = self._first = self._last = None

    def watch(self, process):
        self._begun = time.monotonic()
        self._first = self._sample_at(process, self._start_s)
        self._last = self._sample_at(process, self._end_s)

    def _sample(self):
        """(time, CPU seconds, disk writes, bytes of them)"""
        return (time.monotonic(), cpu_seconds(self._pids), *self._disk.written())

    def _sample_at(self, process, second):
        """A sample then, or as late as the process is there."""
        sample = self._sample()
        while process.poll() is None:
            sample = self._sample()
            left = self._begun + second - sample[0]
            if left <= 0:
                break
            time.sleep(min(left, 0.1))
        return sample

    def _per_second(self, column):
        span = self._last[0] - self._first[0]
        return (self._last[column] - self._first[column]) / span if span > 0 else 0.0

    def cpu_us(self):
        return self._per_second(1) * 1e6

    def disk_writes(self):
        return self._per_second(2)

    def disk_bytes(self):
        return self._per_second(3)


class Disk:
    """The device that a folder is on."""

    def __init__(self, folder):
        number = os.stat(folder).st_dev
        device = f"{os.major(number)}:{os.minor(number)}"
        self._stat = pathlib.Path(f"/sys/dev/block/{device}/stat")

    def written(self):
        """(write requests, bytes) since boot; zeroes where the folder is on no one device."""
        try:
            fields = self._stat.read_text().split()
        except FileNotFoundError:
            return 0, 0
        return int(fields[4]), int(fields[6]) * 512


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def rss_mib(pids):
    pages = 0
    for pid in pids:
        pages += int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
