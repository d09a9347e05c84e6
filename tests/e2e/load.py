"""What the tests of several nodes share: fio that verifies, and the comparison of all copies."""

import subprocess

from harness import expect


def fio(uri, name, *options):
    """A fio process that writes and verifies; it fails on the first wrong block."""
    command = [
        "fio",
        f"--name={name}",
        "--ioengine=nbd",
        f"--uri={uri}",
        "--rw=randwrite",
        "--bs=16k",
        "--iodepth=8",
        "--verify=crc32c",
        "--verify_state_save=0",
        "--verify_fatal=1",
        "--verify_backlog=64",
        "--randrepeat=0",
        *options,
    ]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, timeout=60):
    output = process.communicate(timeout=timeout)[0]
    expect(process.returncode == 0, f"fio: exit status {process.returncode}\n{output[-3000:]}")


def checksum(uri):
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; nbdcopy "$0" - | sha256sum', uri],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=60,
    )
    return done.stdout.split()[0]


def every_copy_is_equal(cluster, volume, nodes="abc"):
    """Each node serves the same bytes when it alone is read first. The volume is detached."""
    sums = set()
    for node in nodes:
        uri = cluster.attach(volume, node)
        sums.add(checksum(uri))
        cluster.ctl("volume", "detach", volume)
    expect(len(sums) == 1, f"the copies differ: {sums}")
