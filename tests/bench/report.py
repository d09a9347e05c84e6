"""The table of the benchmark and its ratios."""

MEASURED = (
    *("iops", "mbps", "p50_us", "p99_us", "cpu_us_per_io", "rss_mib"),
    *("disk_writes_per_write", "disk_bytes_per_byte"),
)
# By the number of copies: the limit of the disk and the peer that ratios are against, and the
# fields of a row that have them.
PEERS = {
    1: {"raw": "ratio_to_raw", "qemu-nbd": "ratio_to_qemu_nbd"},
    3: {"raw-three": "ratio_to_raw_three", "qemu-quorum": "ratio_to_qemu_quorum"},
}
# What a job's ratio to raw is measured against, where it is not the same job.
RAW_JOB = {"after-snapshot-4k-qd32": "randwrite-4k-qd32"}
NOTES = {}
NOTES[1] = """\
raw            fio, io_uring, O_DIRECT, a preallocated and written file (first-write: sparse)
qemu-nbd       --cache=none: O_DIRECT, no checksums; over a UNIX socket, as all NBD targets
nbdkit         file plugin: reads and writes stay in the page cache, not on the disk: a ceiling
keelson        keelson-blockstore, one copy, checksums on
keelson-bench  the same engine driven inside one process: without NBD client, socket and fio
x raw, x qemu  IOPS against raw and qemu-nbd in this run; cpu: µs per I/O of fio and all servers
disk           writes of the whole disk for one write of the client, and bytes for one byte"""
NOTES[3] = """\
raw-three      fio, io_uring, O_DIRECT on three files, a third of its writes: the disk's limit
qemu-quorum    qemu-nbd over quorum of three raw files, cache none, two votes; without rebuild
keelson        three keelson-blockstore on loopback TCP, a copy each on the one disk, checksums on
x raw, x qemu  IOPS against raw-three and qemu-quorum; cpu: µs per I/O of fio and all servers
disk           writes of the whole disk for one write of the client, and bytes for one byte"""


def add_ratios(rows):
    iops = {(row["target"], row["job"]): row["iops"] for row in rows}

    def ratio(row, peer):
        base = iops.get((peer, row["job"])) or iops.get((peer, RAW_JOB.get(row["job"])))
        return round(row["iops"] / base, 3) if base else None

    for row in rows:
        for peer, field in PEERS[row["copies"]].items():
            row[field] = ratio(row, peer)
        overwrite = iops.get((row["target"], "randwrite-4k-qd32"))
        first = row["job"].startswith(("first-write", "after-snapshot"))
        row["ratio_to_overwrite"] = (
            round(row["iops"] / overwrite, 3) if first and overwrite else None
        )


def _cell(value, form):
    return "–" if value is None else form.format(value)


def table(rows):
    lines = [
        f"{'job':23} {'target':13} {'IOPS':>8} {'MB/s':>7} {'p50 µs':>7} {'p99 µs':>8} "
        f"{'cpu µs':>7} {'RSS':>6} {'disk w':>6} {'B/B':>5} "
        f"{'x raw':>6} {'x qemu':>6} {'x overwr.':>9}"
    ]
    copies = rows[0]["copies"]
    limit, peer = PEERS[copies].values()
    job = None
    for row in sorted(rows, key=_job_order(rows)):
        if row["job"] != job:
            job = row["job"]
            lines.append("")
        lines.append(
            f"{row['job']:23} {row['target']:13} {row['iops']:8.0f} "
            f"{_cell(row['mbps'], '{:.0f}'):>7} "
            f"{_cell(row['p50_us'], '{:.0f}'):>7} {_cell(row['p99_us'], '{:.0f}'):>8} "
            f"{_cell(row['cpu_us_per_io'], '{:.1f}'):>7} {_cell(row['rss_mib'], '{:.0f}'):>6} "
            f"{_cell(row['disk_writes_per_write'], '{:.2f}'):>6} "
            f"{_cell(row['disk_bytes_per_byte'], '{:.2f}'):>5} "
            f"{_cell(row[limit], '{:.2f}'):>6} {_cell(row[peer], '{:.2f}'):>6} "
            f"{_cell(row['ratio_to_overwrite'], '{:.2f}'):>9}"
        )
    return "\n".join([*lines, "", NOTES[copies]])


def _job_order(rows):
    jobs = list(dict.fromkeys(row["job"] for row in rows))
    targets = list(dict.fromkeys(row["target"] for row in rows))
    return lambda row: (jobs.index(row["job"]), targets.index(row["target"]))
