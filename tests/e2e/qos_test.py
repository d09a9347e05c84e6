#!/usr/bin/python3
"""Limits of what the clients of a volume may ask for: fio gets what was set, at once after a change
and after a restart, and nothing else waits for it."""

import json
import pathlib
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, MIB, expect  # noqa: E402
from nbd_client import WRITE, Disconnected, NbdClient  # noqa: E402

RUNTIME_S = 6
TOLERANCE = 0.10


def fio(uri, *options):
    """(requests, bytes) per second."""
    command = [
        "fio",
        "--name=qos",
        "--ioengine=nbd",
        f"--uri={uri}",
        "--size=64m",
        "--time_based",
        f"--runtime={RUNTIME_S}",
        "--output-format=json",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    return (
        job["read"]["iops"] + job["write"]["iops"],
        job["read"]["bw_bytes"] + job["write"]["bw_bytes"],
    )


def expect_rate(found, asked, what):
    print(f"note: {what}: {found:.0f} of {asked}")
    expect(abs(found - asked) <= TOLERANCE * asked, f"{what}: {found:.0f} instead of {asked}")


def keeps_to_limits(daemon, uri):
    daemon.ctl("volume", "set", "vol", "--iops", 200)
    rate, _ = fio(uri, "--rw=randrw", "--bs=4k", "--iodepth=16")
    expect_rate(rate, 200, "requests per second")
    daemon.ctl("volume", "set", "vol", "--iops", 0, "--bandwidth", "4m")
    _, rate = fio(uri, "--rw=randwrite", "--bs=64k", "--iodepth=4")
    expect_rate(rate, 4 * MIB, "bytes per second, of 64 KiB")
    _, rate = fio(uri, "--rw=read", "--bs=1m", "--iodepth=4")
    expect_rate(rate, 4 * MIB, "bytes per second, of 1 MiB")
    metrics = daemon.metrics()
    expect(metrics['keelson_volume_bandwidth_limit_bytes{volume="vol"}'] == 4 * MIB, "limit metric")
    expect(metrics['keelson_volume_delayed_requests_total{volume="vol"}'] > 0, "delay metric")


def changes_at_once_and_is_remembered(daemon, uri):
    daemon.ctl("volume", "set", "vol", "--iops", 20, "--bandwidth", 0)
    load = threading.Thread(
        target=fio, args=(uri, "--rw=randwrite", "--bs=4k", "--iodepth=16", "--runtime=10")
    )
    load.start()
    time.sleep(2)
    daemon.ctl("volume", "set", "vol", "--iops", 200)
    began, before = time.monotonic(), daemon.metric("keelson_volume_writes_total")
    time.sleep(3)
    written = daemon.metric("keelson_volume_writes_total") - before
    rate = written / (time.monotonic() - began)
    print(f"note: requests per second after a change from 20 to 200: {rate:.0f}")
    # Counted from outside, it is less exact than what fio says.
    expect(100 < rate < 250, f"{rate:.0f} requests per second")
    load.join()
    daemon.kill()
    daemon.start()
    rate, _ = fio(uri, "--rw=randwrite", "--bs=4k", "--iodepth=16")
    expect_rate(rate, 200, "requests per second after a restart")


def does_not_hold_up_a_detachment(daemon):
    daemon.ctl("volume", "set", "vol", "--iops", 1)
    client = NbdClient(daemon.nbd_socket, "vol")
    for i in range(32):
        client.submit(WRITE, i * 4096, data=b"x" * 4096)
    began = time.monotonic()
    daemon.ctl("volume", "detach", "vol")
    took = time.monotonic() - began
    expect(took < 15, f"32 requests at one in a second, and it took {took:.1f} s")
    try:
        while client.in_flight:
            client.receive()
    except Disconnected:
        pass
    client.close()
    uri = daemon.attach("vol")
    rate, _ = fio(uri, "--rw=randwrite", "--bs=4k", "--iodepth=16", "--runtime=2")
    expect(rate > 100, f"the limits outlive the attachment: {rate:.0f} requests per second")


def main():
    checks = harness.Checks()
    with harness.Workspace("qos") as workspace:
        workspace.require_free(GIB)
        daemon = harness.Daemon(workspace).start()
        daemon.ctl("pool", "create", workspace / "pool", "--size", "256m")
        uri = daemon.attach("vol", 64 * MIB)
        with checks.case("fio gets the rate of requests, and of bytes, that was set"):
            keeps_to_limits(daemon, uri)
        with checks.case("a change takes effect at once, and is remembered"):
            changes_at_once_and_is_remembered(daemon, uri)
        with checks.case("requests that wait do not hold up a detachment"):
            does_not_hold_up_a_detachment(daemon)
        with checks.case("the daemon ends cleanly"):
            expect(daemon.stop() == 0, daemon.tail())
        if checks.failed:
            print(daemon.tail())
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
