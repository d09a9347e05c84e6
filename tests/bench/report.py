"""The table of the benchmark and its ratios."""

MEASURED = ("iops", "mbps", "p50_us", "p99_us", "cpu_us_per_io", "rss_mib")
# What a job's ratio to raw is measured against, where it is not the same job.
RAW_JOB = {"after-snapshot-4k-qd32": "randwrite-4k-qd32"}
NOTES = """\
raw            fio, io_uring, O_DIRECT, a preallocated and written file (first-write: sparse)
qemu-nbd       --cache=none: O_DIRECT, no checksums; over a UNIX socket, as all NBD targets
nbdkit         file plugin: reads and writes stay in the page cache, not on the disk: a ceiling
keelson        keelson-blockstore, one copy, checksums on
keelson-bench  the same engine driven inside one process: without NBD client, socket and fio
x raw, x qemu  IOPS against raw and qemu-nbd in this run; cpu: µs per I/O of fio and all servers"""


def add_ratios(rows):
    iops = {(row["target"], row["job"]): row["iops"] for row in rows}

    def ratio(row, peer):
        base = iops.get((peer, row["job"])) or iops.get((peer, RAW_JOB.get(row["job"])))
        return round(row["iops"] / base, 3) if base else None

    for row in rows:
        row["ratio_to_raw"] = ratio(row, "raw")
        row["ratio_to_qemu_nbd"] = ratio(row, "qemu-nbd")
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
        f"{'cpu µs':>7} {'RSS':>6} {'x raw':>6} {'x qemu':>6} {'x overwr.':>9}"
    ]
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
            f"{_cell(row['ratio_to_raw'], '{:.2f}'):>6} "
            f"{_cell(row['ratio_to_qemu_nbd'], '{:.2f}'):>6} "
            f"{_cell(row['ratio_to_overwrite'], '{:.2f}'):>9}"
        )
    return "\n".join([*lines, "", NOTES])


def _job_order(rows):
    jobs = list(dict.fromkeys(row["job"] for row in rows))
    targets = list(dict.fromkeys(row["target"] for row in rows))
    return lambda row: (jobs.index(row["job"]), targets.index(row["target"]))
