#!/usr/bin/python3
"""Ending and resting: SIGTERM under load is clean and quick, a restart serves again by itself, and
a hundred idle volumes cost next to nothing."""

import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, MIB, expect  # noqa: E402
from nbd_client import WRITE, Disconnected, NbdClient  # noqa: E402

IDLE_VOLUMES = 100


def sigterm_under_load(daemon):
    """Exit status 0 within ten seconds, and every acknowledged write is there at the next start."""
    daemon.attach("busy", 64 * MIB)
    acknowledged = {}
    client = NbdClient(daemon.nbd_socket, "busy")
    block = 0
    try:
        while True:
            while client.in_flight < 16:
                block += 1
                data = block.to_bytes(8, "little") * 512
                client.submit(WRITE, block % 16384 * 4096, data=data)
            reply = client.receive()[1]
            if reply.error:
                break  # refused because the daemon is going
            acknowledged.setdefault(reply.offset, 0)
            acknowledged[reply.offset] += 1
            if sum(acknowledged.values()) == 3000:
                daemon.process.terminate()
                asked = time.monotonic()
    except Disconnected:
        pass
    client.close()
    expect(len(acknowledged) > 100, "hardly anything was written")
    expect(
        daemon.process.wait(10) == 0, f"exit status {daemon.process.returncode}\n{daemon.tail()}"
    )
    expect(time.monotonic() - asked < 10, "it took longer than ten seconds")
    daemon.start()
    with NbdClient(daemon.nbd_socket, "busy") as again:
        for offset in acknowledged:
            number = int.from_bytes(again.read(offset, 4096)[:8], "little")
            expect(
                number % 16384 * 4096 == offset and number > 0, f"offset {offset} holds {number}"
            )
    daemon.ctl("volume", "detach", "busy")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid):
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def idle_volumes(daemon):
    for number in range(IDLE_VOLUMES):
        daemon.attach(f"idle{number}", 1 << 40)
    pid = daemon.process.pid
    time.sleep(1)  # what attaching left to do
    before = cpu_seconds(pid)
    time.sleep(4)
    share = (cpu_seconds(pid) - before) / 4
    print(
        f"note: {IDLE_VOLUMES} idle volumes of 1 TiB: {rss_mib(pid):.0f} MiB, {share:.2%} of a core"
    )
    expect(share < 0.01, f"idle, the daemon takes {share:.2%} of a core")
    expect(rss_mib(pid) < 200, f"idle, the daemon takes {rss_mib(pid):.0f} MiB")


def main():
    checks = harness.Checks()
    with harness.Workspace("shutdown") as workspace:
        workspace.require_free(2 * GIB)
        daemon = harness.Daemon(workspace).start()
        daemon.ctl("pool", "create", workspace / "pool", "--size", "512m")
        with checks.case("SIGTERM under load ends cleanly, and a restart serves again"):
            sigterm_under_load(daemon)
        with checks.case(
            f"{IDLE_VOLUMES} idle volumes of 1 TiB stay under 200 MiB and 1 % of a core"
        ):
            idle_volumes(daemon)
        with checks.case("SIGTERM with many volumes ends cleanly, and all are back afterwards"):
            expect(daemon.stop() == 0, f"exit status\n{daemon.tail()}")
            daemon.start()
            volumes = daemon.ctl_json("volume", "list")
            attached = [volume for volume in volumes if volume.get("attached")]
            expect(len(attached) == IDLE_VOLUMES, f"{len(attached)} volumes are attached")
            expect(daemon.stop() == 0, f"exit status\n{daemon.tail()}")
        if checks.failed:
            print(daemon.tail())
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
