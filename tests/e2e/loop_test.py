#!/usr/bin/python3
"""The frontend loop: volumes as block devices with file systems and fio on them, and a daemon that is
killed, stopped and started below them. Needs root, /dev/fuse and loop devices."""

import contextlib
import errno
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]
import block_devices  # noqa: E402
import harness  # noqa: E402
from block_devices import expect_nothing_left, keepers, loops, missing, mounts  # noqa: E402
from harness import GIB, MIB, expect, run, wait_until  # noqa: E402

KILLS = int(os.environ.get("KEELSON_LOOP_KILLS", "4"))
KILLED_MIB = 24 * KILLS  # what fio writes meanwhile


def has_capability(number):
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> number & 1)


def attach(daemon, volume, size=None, *options):
    """The device."""
    if size is not None:
        daemon.ctl("volume", "create", volume, "--size", str(size))
    device = daemon.ctl("volume", "attach", volume, "--frontend", "loop", *options).stdout.strip()
    expect(device.startswith("/dev/loop"), f"no device but '{device}'")
    return device


def listed(daemon, volume):
    return next(v for v in daemon.ctl_json("volume", "list") if v["name"] == volume)


@contextlib.contextmanager
def mounted(workspace, device, *options):
    point = workspace / f"mnt-{device.rpartition('/')[2]}"
    point.mkdir(exist_ok=True)
    run("mount", *options, device, point)
    try:
        yield point
    finally:
        run("umount", point, check=False, timeout=60)


def fio_command(workspace, name, target, size, rate):
    """Random writes, some of them synced, then the verification of all of them."""
    return [
        "fio", f"--name={name}", f"--filename={target}", f"--size={size}", "--rw=randwrite",
        "--bs=4k", "--ioengine=libaio", "--iodepth=32", "--direct=1", "--fsync=256",
        "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", f"--rate_iops={rate}",
        f"--aux-path={workspace.path}",
    ]


def fio_while(workspace, target, act, size="64m", rate=3000):
    """Runs fio with verification while `act(fio)` happens; it must see no error."""
    log = workspace / "fio.log"
    with open(log, "wb") as output:
        fio = subprocess.Popen(
            fio_command(workspace, "verify", target, size, rate),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )
    try:
        act(fio)
        fio.wait(180 + 30 * KILLS)
    finally:
        if fio.poll() is None:
            fio.kill()
    text = log.read_text(errors="replace")
    expect(fio.returncode == 0, f"fio: exit status {fio.returncode}\n{text[-2000:]}")
    expect("err= 0" in text, f"fio had errors:\n{text[-2000:]}")


def makes_a_file_system(workspace, daemon):
    device = attach(daemon, "fs", 256 * MIB)
    expect(listed(daemon, "fs")["device"] == device, "the list does not show the device")
    expect(listed(daemon, "fs")["uri"] == "", "it is offered over NBD, too")
    expect(run("nbdinfo", daemon.uri("fs"), check=False).returncode != 0, "NBD shows it")
    expect(attach(daemon, "fs") == device, "a second attach gives another device")
    limits = pathlib.Path("/sys/block") / device.rpartition("/")[2]
    expect((limits / "queue/logical_block_size").read_text() == "4096\n", "not blocks of 4 KiB")
    expect((limits / "loop/dio").read_text() == "1\n", "no direct I/O")
    expect((limits / "queue/write_cache").read_text() == "write back\n", "no flushes")
    run("mkfs.ext4", "-q", device)
    with mounted(workspace, device) as point:
        fio_while(workspace, point / "file", lambda fio: None, rate=20000)
    run("e2fsck", "-fn", device)
    daemon.ctl("volume", "detach", "fs")
    daemon.ctl("volume", "detach", "fs")
    expect_nothing_left(daemon.run_dir)
    # The data are the volume's, whatever shows it; and auto takes the device here.
    run("nbdcopy", daemon.attach("fs"), workspace / "image")
    run("e2fsck", "-fn", workspace / "image")
    (workspace / "image").unlink()
    daemon.ctl("volume", "detach", "fs")
    device = daemon.ctl("volume", "attach", "fs", "--frontend", "auto").stdout.strip()
    expect(device.startswith("/dev/loop"), f"auto gives '{device}'")
    daemon.ctl("volume", "detach", "fs")
    expect_nothing_left(daemon.run_dir)


def verifies_directly(workspace, daemon):
    device = attach(daemon, "direct", 64 * MIB)
    fio_while(workspace, device, lambda fio: None, rate=100000)
    daemon.ctl("volume", "detach", "direct")
    expect_nothing_left(daemon.run_dir)


def kill_again_and_again(workspace, daemon, target):
    pauses = []

    def kills(fio):
        for _ in range(KILLS):
            time.sleep(1.2)
            if fio.poll() is not None:
                break
            daemon.kill()
            started = time.monotonic()
            daemon.start()
            pauses.append(time.monotonic() - started)

    fio_while(workspace, target, kills, f"{KILLED_MIB}m")
    expect(len(pauses) >= KILLS // 2, "fio was over too soon")
    print(f"note: {len(pauses)} kills under fio, back after {max(pauses):.2f} s at most")


def killed_under_the_device(workspace, daemon):
    device = attach(daemon, "killed", KILLED_MIB * MIB)
    kill_again_and_again(workspace, daemon, device)
    expect(listed(daemon, "killed")["device"] == device, "it has another device now")
    expect(len(keepers(daemon.run_dir)) == 1, f"keepers: {keepers(daemon.run_dir)}")
    daemon.ctl("volume", "detach", "killed")
    expect_nothing_left(daemon.run_dir)


def killed_under_a_file_system(workspace, daemon):
    device = attach(daemon, "killedfs", (KILLED_MIB + 64) * MIB)
    run("mkfs.ext4", "-q", device)
    with mounted(workspace, device, "-o", "errors=remount-ro") as point:
        kill_again_and_again(workspace, daemon, point / "file")
        (point / "after").write_text("still writable")
    run("e2fsck", "-fn", device)
    daemon.ctl("volume", "detach", "killedfs")
    expect_nothing_left(daemon.run_dir)


def killed_in_the_middle(workspace, daemon):
    """Of attaching and of detaching: given again, both come to their end."""
    daemon.ctl("volume", "create", "torn", "--size", "64m")
    for number in range(2 * KILLS):
        for act in (("attach", "torn", "--frontend", "loop"), ("detach", "torn")):
            command = [daemon.binaries / "keelctl", "--socket", daemon.ctl_socket, "volume", *act]
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as asked:
                time.sleep(0.01 + 0.04 * number / KILLS)
                daemon.kill()
                asked.wait(30)
            daemon.start()
            wait_until(
                lambda act=act: daemon.ctl("volume", *act, check=False).returncode == 0,
                f"the volume to {act[0]}",
                30,
            )
            if act[0] == "attach":
                device = listed(daemon, "torn")["device"]
                expect(write_direct(device) == 0, "the device has errors")
        expect_nothing_left(daemon.run_dir)


def restarted_under_load(workspace, daemon):
    device = attach(daemon, "restarted", 64 * MIB)

    def restarts(fio):
        for _ in range(3):
            time.sleep(1)
            if fio.poll() is not None:
                break
            expect(daemon.stop(15) == 0, f"exit status\n{daemon.tail()}")
            time.sleep(0.3)
            daemon.start()

    fio_while(workspace, device, restarts)
    daemon.ctl("volume", "detach", "restarted")
    expect_nothing_left(daemon.run_dir)


def moves_between_containers(workspace, daemon):
    """A daemon in a mount namespace of its own, and a successor that does not see its mounts."""
    daemon.stop(15)
    daemon.prefix = ("unshare", "--mount", "--propagation", "private")
    try:
        daemon.start()
        device = attach(daemon, "contained", 64 * MIB)
        expect(not mounts(daemon.run_dir), f"its mounts are seen outside: {mounts(daemon.run_dir)}")

        def kills(_):
            time.sleep(0.5)
            daemon.kill()
            daemon.start()

        fio_while(workspace, device, kills)
        daemon.ctl("volume", "grow", "contained", "--size", "128m")
        size = int(run("blockdev", "--getsize64", device).stdout)
        expect(size == 128 * MIB, f"the device has {size} bytes")
        daemon.ctl("volume", "detach", "contained")
        expect_nothing_left(daemon.run_dir)
    finally:
        daemon.kill()
        daemon.prefix = ()
        daemon.start()


def loses_its_keeper(workspace, daemon):
    device = attach(daemon, "kept", 64 * MIB)

    def connections():
        return daemon.log.read_text(errors="replace").count("event=fuse_keeper_connected")

    def kills(fio):
        (keeper,) = keepers(daemon.run_dir)
        before = connections()
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: keepers(daemon.run_dir) not in ([], [keeper]), "another keeper", 10)
        wait_until(lambda: connections() > before, "its connection", 10)
        expect(fio.poll() is None, "fio was over too soon")
        daemon.kill()
        daemon.start()

    fio_while(workspace, device, kills)
    daemon.ctl("volume", "detach", "kept")
    expect_nothing_left(daemon.run_dir)


def loses_both(workspace, daemon):
    """The daemon and its keeper: an unused device is replaced, a used one gives errors."""
    device = attach(daemon, "lost", 64 * MIB)
    run("mkfs.ext4", "-q", device)
    with mounted(workspace, device) as point:
        (point / "file").write_text("written")
        os.sync()
        (keeper,) = keepers(daemon.run_dir)
        os.kill(daemon.process.pid, signal.SIGSTOP)  # so that it does not start another
        os.kill(keeper, signal.SIGKILL)
        daemon.kill()
        daemon.start()
        wait_until(lambda: "lost" in listed(daemon, "lost")["device_warning"], "its error", 10)
        expect("mounted on" in listed(daemon, "lost")["device_warning"], "no word on who uses it")
        daemon.refuses("not served yet", "volume", "attach", "lost", "--frontend", "loop")
        with contextlib.suppress(OSError):
            (point / "other").write_text("not written")
    wait_until(lambda: listed(daemon, "lost")["device"], "a new device by itself", 20)
    with mounted(workspace, listed(daemon, "lost")["device"]) as point:
        expect((point / "file").read_text() == "written", "the file is not what was written")
    daemon.ctl("volume", "detach", "lost")
    expect_nothing_left(daemon.run_dir)


def grows_online(workspace, daemon):
    device = attach(daemon, "grown", 320 * MIB)
    # The kernel lets only CAP_SYS_RESOURCE grow a mounted ext4; XFS does not mind.
    xfs = not has_capability(24)
    run(*(("mkfs.xfs", "-qf") if xfs else ("mkfs.ext4", "-q")), device)
    with mounted(workspace, device) as point:
        before = os.statvfs(point).f_blocks
        daemon.ctl("volume", "grow", "grown", "--size", "960m")
        size = int(run("blockdev", "--getsize64", device).stdout)
        expect(size == 960 * MIB, f"the device has {size} bytes")
        run(*(("xfs_growfs", point) if xfs else ("resize2fs", device)))
        after = os.statvfs(point).f_blocks
        expect(after > 2 * before, f"the file system has {after} blocks, {before} before")
        fio_while(workspace, point / "file", lambda fio: None, rate=20000)
    run(*(("xfs_repair", "-n") if xfs else ("e2fsck", "-fn")), device)
    daemon.ctl("volume", "detach", "grown")
    expect_nothing_left(daemon.run_dir)


def discards(workspace, daemon):
    device = attach(daemon, "trimmed", 256 * MIB)
    run("mkfs.ext4", "-q", device)
    with mounted(workspace, device) as point:
        (point / "large").write_bytes(os.urandom(64 * MIB))
        os.sync()
        full = daemon.pool_used()
        (point / "large").unlink()
        os.sync()
        run("fstrim", point)
        wait_until(
            lambda: daemon.pool_used() <= full - 60 * MIB,
            f"the pool to use 60 MiB less than {full // MIB} MiB",
            20,
        )
    run("blkdiscard", "--zeroout", device)
    expect(
        run("cmp", "--bytes", 64 * MIB, device, "/dev/zero").returncode == 0, "it is not zeroes"
    )
    daemon.ctl("volume", "detach", "trimmed")


def refuses_while_in_use(workspace, daemon):
    device = attach(daemon, "busy", 64 * MIB)
    run("mkfs.ext4", "-q", device)
    with mounted(workspace, device) as point:
        daemon.refuses(f"mounted on {point}", "volume", "detach", "busy")
        (point / "file").write_text("it goes on")
    with open(device, "rb"):
        daemon.refuses(f"open in process {os.getpid()}", "volume", "detach", "busy")
    daemon.refuses("detach it first", "volume", "attach", "busy")
    daemon.refuses("detach", "volume", "delete", "busy")
    daemon.ctl("volume", "detach", "busy")
    daemon.attach("busy")
    daemon.refuses("detach it first", "volume", "attach", "busy", "--frontend", "loop")
    expect(
        daemon.ctl("volume", "attach", "busy", "--frontend", "auto").stdout.startswith("nbd"),
        "auto does not take what there is",
    )
    daemon.ctl("volume", "detach", "busy")
    expect_nothing_left(daemon.run_dir)


def is_read_only(workspace, daemon):
    device = attach(daemon, "ro", 64 * MIB)
    run("mkfs.ext4", "-q", device)
    daemon.ctl("volume", "detach", "ro")
    device = attach(daemon, "ro", None, "--read-only")
    expect(run("blockdev", "--getro", device).stdout.strip() == "1", "the device is writable")
    with mounted(workspace, device, "-o", "ro") as point:
        expect((point / "lost+found").is_dir(), "it does not show the file system")
    daemon.kill()
    daemon.start()
    wait_until(lambda: listed(daemon, "ro")["device"] == device, "its device", 10)
    expect(run("blockdev", "--getro", device).stdout.strip() == "1", "the device is writable")
    daemon.ctl("volume", "detach", "ro")
    expect_nothing_left(daemon.run_dir)


def write_direct(device):
    """One write past every cache; its errno, or 0."""
    import mmap  # pylint: disable=import-outside-toplevel

    block = mmap.mmap(-1, 4096)
    try:
        fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
        try:
            os.pwrite(fd, block, 8192)
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno
    return 0


def fenced(cluster):
    device = cluster.attach("moved", "a", "--frontend", "loop")
    expect(write_direct(device) == 0, "it cannot be written to")
    cluster.attach("moved", "b", "--force")
    wait_until(lambda: write_direct(device) == errno.EIO, "errors on the fenced device", 15)
    a = cluster["a"]
    refused = a.ctl("volume", "attach", "moved", "--frontend", "loop", check=False)
    expect(refused.returncode != 0, "the fenced device is attached again")
    # Also when the daemon finds out at its next start only.
    a.kill()
    with contextlib.ExitStack() as stack:
        user = stack.enter_context(open(device, "rb", buffering=0))
        a.start()
        wait_until(lambda: write_direct(device) == errno.EIO, "errors after the restart", 20)
        del user
    a.ctl("volume", "detach", "moved", check=False)
    wait_until(lambda: not loops(a.run_dir), "the device to go", 20)
    expect_nothing_left(a.run_dir)
    cluster["b"].ctl("volume", "detach", "moved")


def isolated(cluster):
    a = cluster["a"]
    stuck = cluster.attach("stuck", "a", "--frontend", "loop")
    fine = attach(a, "fine", 64 * MIB)
    result = []
    for node in "bc":
        cluster[node].pause()
    try:
        writer = threading.Thread(target=lambda: result.append(write_direct(stuck)))
        writer.start()
        time.sleep(0.2)
        slowest = 0.0
        for _ in range(50):
            started = time.monotonic()
            expect(write_direct(fine) == 0, "the other volume has errors")
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.02)
        expect(writer.is_alive(), "the volume without a majority acknowledges writes")
        expect(slowest < 0.5, f"a write of the other volume took {slowest:.2f} s")
    finally:
        for node in "bc":
            cluster[node].resume()
    writer.join(30)
    expect(result == [0], f"the write that waited: {result}")
    cluster.ctl("volume", "detach", "stuck")
    a.ctl("volume", "detach", "fine")
    expect_nothing_left(a.run_dir)


ALONE = {
    "ext4 on the device, with fio on it; detached, nothing is left": makes_a_file_system,
    "fio verifies what it wrote to the device itself": verifies_directly,
    "kill -9 of the daemon under fio on the device is a pause": killed_under_the_device,
    "kill -9 of the daemon under fio on ext4 is a pause": killed_under_a_file_system,
    "kill -9 in the middle of attaching and detaching": killed_in_the_middle,
    "SIGTERM and a new daemon under fio is a pause": restarted_under_load,
    "a daemon in another mount namespace goes on": moves_between_containers,
    "a keeper that dies is replaced, and I/O goes on": loses_its_keeper,
    "without daemon and keeper a device gives errors, and an unused one is replaced": loses_both,
    "a device and its file system grow online": grows_online,
    "discards free space in the pool, and zeroing zeroes": discards,
    "what is in use is not detached, and one volume has one frontend": refuses_while_in_use,
    "a read-only attachment is a read-only device": is_read_only,
}
CLUSTER = {
    "a fenced device gives EIO, and can be detached": ("moved", fenced),
    "a volume that waits holds up no other": ("stuck", isolated),
}


def main():
    checks = harness.Checks()
    why = missing()
    if why:
        for name in [*ALONE, *CLUSTER]:
            with checks.case(name):
                raise harness.Skip(why)
        return checks.exit_code()
    only = sys.argv[1:]
    with harness.Workspace("loop") as workspace:
        workspace.require_free(3 * GIB)
        block_devices.clean_up_after(workspace)
        daemon = harness.Daemon(workspace).start()
        daemon.ctl("pool", "create", workspace / "pool", "--size", "1g")
        for name, check in ALONE.items():
            if only and check.__name__ not in only:
                continue
            with checks.case(name):
                check(workspace, daemon)
        expect(daemon.stop() == 0, f"exit status\n{daemon.tail()}")
        if checks.failed:
            print(daemon.tail())
    with harness.Workspace("loopcluster") as workspace:
        if only and not any(check.__name__ in only for _, check in CLUSTER.values()):
            return checks.exit_code()
        block_devices.clean_up_after(workspace)
        cluster = harness.Cluster(workspace, 3)
        for name, (volume, check) in CLUSTER.items():
            if only and check.__name__ not in only:
                continue
            with checks.case(name):
                cluster.create(volume, "64m", 3)
                check(cluster)
        if checks.failed:
            cluster.print_logs()
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
