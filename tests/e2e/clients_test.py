#!/usr/bin/python3
"""The clients people use, against the real daemon: nbdinfo, nbdcopy, qemu-img, file systems through
nbdfuse and a loop device, fio with verification."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).parents[1])]
import harness  # noqa: E402
from harness import GIB, MIB, Skip, expect, run  # noqa: E402

IMAGE_SIZE = 200 * MIB
FS_SIZE = 768 * MIB  # above the least size mkfs.xfs takes, 300 MiB


def make_image(path):
    """Random data with holes: every third of its 5 MiB pieces is a hole."""
    chooser = random.Random(20)
    with open(path, "wb") as image:
        for piece in range(0, IMAGE_SIZE, 5 * MIB):
            if piece // (5 * MIB) % 3 != 1:
                image.seek(piece)
                image.write(chooser.randbytes(5 * MIB))
        image.truncate(IMAGE_SIZE)


def nbdinfo(daemon):
    uri = daemon.attach("info", 1 * GIB)
    info = json.loads(run("nbdinfo", "--json", uri).stdout)["exports"][0]
    expect(info["export-size"] == 1 * GIB, f"nbdinfo sees {info['export-size']} bytes")
    for feature in (
        "can_flush",
        "can_fua",
        "can_trim",
        "can_zero",
        "can_fast_zero",
        "can_multi_conn",
    ):
        expect(info[feature], f"the export does not offer {feature}")
    expect(not info["is_read_only"], "the export is read-only")
    expect(info["block_size_minimum"] == 4096, f"minimum block {info['block_size_minimum']}")
    expect(info["block_size_maximum"] == 32 * MIB, f"maximum block {info['block_size_maximum']}")
    expect("base:allocation" in info["contexts"], f"contexts {info['contexts']}")
    everything = json.loads(
        run("nbdinfo", "--list", "--json", f"nbd+unix:///?socket={daemon.nbd_socket}").stdout
    )
    names = [export["export-name"] for export in everything["exports"]]
    expect("info" in names, f"the list of exports is {names}")


def read_only_attachment(daemon):
    daemon.ctl("volume", "create", "ro", "--size", "16m")
    daemon.ctl("volume", "attach", "ro", "--read-only")
    uri = daemon.uri("ro")
    expect(
        json.loads(run("nbdinfo", "--json", uri).stdout)["exports"][0]["is_read_only"],
        "nbdinfo does not see a read-only export",
    )
    done = run("qemu-io", "-f", "raw", "-c", "write 0 4k", uri, check=False)
    expect(done.returncode != 0, "a write to a read-only attachment succeeded")


def nbdcopy(daemon, image):
    uri = daemon.attach("copy", IMAGE_SIZE)
    out = daemon.workspace / "copied.img"
    run("nbdcopy", image, uri, "--flush", timeout=120)
    run("nbdcopy", uri, out, timeout=120)
    run("cmp", image, out)
    out.unlink()
    # The image's holes are holes in the volume, and nbdinfo sees them.
    zeroes = json.loads(run("nbdinfo", "--map", "--json", uri).stdout)
    holes = sum(entry["length"] for entry in zeroes if entry["type"] & 1)
    expect(holes >= IMAGE_SIZE // 4, f"only {holes} bytes of the volume are holes")


def qemu_img(daemon, image):
    uri = daemon.attach("qemu", IMAGE_SIZE)
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, uri, timeout=120)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri, timeout=120)
    pieces = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", uri).stdout)
    holes = sum(piece["length"] for piece in pieces if piece["zero"])
    expect(
        holes >= IMAGE_SIZE // 4, f"qemu-img map shows only {holes} bytes of holes: {pieces[:5]}"
    )
    expect(any(piece["data"] for piece in pieces), "qemu-img map shows no data")


def snapshot_and_clone(daemon, image):
    """A clone holds what the snapshot held, whatever happens to its parent afterwards."""
    daemon.ctl("volume", "snapshot", "qemu", "before")
    run(
        "qemu-io",
        "-f",
        "raw",
        "-c",
        "write -P 0x55 0 8m",
        "-c",
        "discard 20m 20m",
        "-c",
        "flush",
        daemon.uri("qemu"),
    )
    daemon.ctl("volume", "clone", "qemu@before", "clone")
    uri = daemon.attach("clone")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri, timeout=120)
    done = run(
        "qemu-img", "compare", "-f", "raw", "-F", "raw", image, daemon.uri("qemu"), check=False
    )
    expect(done.returncode == 1, "the parent did not change")
    daemon.ctl("volume", "detach", "qemu")
    daemon.ctl("volume", "delete", "qemu")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri, timeout=120)


def grow(daemon):
    uri = daemon.attach("grow", 64 * MIB)
    run("qemu-io", "-f", "raw", "-c", "write -P 0x33 63m 1m", uri)
    daemon.ctl("volume", "grow", "grow", "--size", str(128 * MIB))
    run(
        "qemu-io",
        "-f",
        "raw",
        "-c",
        "read -P 0x33 63m 1m",
        "-c",
        "read -P 0 64m 64m",
        "-c",
        "write -P 0x44 127m 1m",
        uri,
    )


def require_block_devices():
    if os.geteuid() != 0:
        raise Skip("mounting needs root")
    if not os.path.exists("/dev/fuse"):
        raise Skip("this machine has no /dev/fuse")
    if not os.path.exists("/dev/loop-control"):
        raise Skip("this machine has no loop devices")


def unmount(folder):
    run("umount", folder, check=False)


def fill(folder, digests):
    """A few large files, many small ones, and a tree that was deleted again."""
    chooser = random.Random(5)
    sizes = [48 * MIB, 24 * MIB] + [chooser.randrange(1, 200_000) for _ in range(300)]
    for number, size in enumerate(sizes):
        path = folder / f"d{number % 17}" / f"file{number}"
        path.parent.mkdir(exist_ok=True)
        data = chooser.randbytes(size)
        path.write_bytes(data)
        digests[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    doomed = folder / "doomed"
    doomed.mkdir()
    for number in range(6):
        (doomed / str(number)).write_bytes(chooser.randbytes(16 * MIB))


def verify(folder, digests):
    for name, digest in digests.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        expect(found == digest, f"{name} changed")


def file_system(daemon, kind):
    require_block_devices()
    name = f"fs-{kind}"
    uri = daemon.attach(name, FS_SIZE)
    fuse, folder = daemon.workspace / f"{name}.disk", daemon.workspace / f"{name}.mnt"
    folder.mkdir()
    with harness.contextlib.ExitStack() as undo:
        fuse.write_bytes(b"")
        served = harness.start(
            daemon.workspace, "nbdfuse", fuse, uri, log=daemon.workspace / "nbdfuse.log"
        )
        undo.callback(harness.end, served)
        undo.callback(unmount, fuse)
        harness.wait_until(lambda: fuse.stat().st_size == FS_SIZE, "nbdfuse to show the volume")
        loop = run(
            "losetup", "--find", "--show", "--direct-io=on", "-b", "4096", fuse
        ).stdout.strip()
        undo.callback(run, "losetup", "-d", loop, check=False)
        check = {"ext4": ["e2fsck", "-fn", loop], "xfs": ["xfs_repair", "-n", loop]}[kind]
        run(
            *{
                "ext4": ["mkfs.ext4", "-q", "-b", "4096", loop],
                "xfs": ["mkfs.xfs", "-q", "-s", "size=4096", loop],
            }[kind]
        )
        run("mount", loop, folder)
        undo.callback(unmount, folder)
        digests = {}
        fill(folder, digests)
        run("sync", "-f", folder)
        used = daemon.pool_used()
        shutil.rmtree(folder / "doomed")
        run("sync", "-f", folder)

        def trimmed():
            # XFS frees the extents of deleted files in the background, so that a trim can come
            # before there is anything to trim: it is asked again until it has brought them back.
            run("fstrim", folder)
            return daemon.pool_used() < used - 60 * MIB

        harness.wait_until(trimmed, "fstrim to bring the space of deleted files back")
        run("umount", folder)
        run(*check)
        run("mount", loop, folder)
        verify(folder, digests)
        run("umount", folder)
        run(*check)
    daemon.ctl("volume", "detach", name)
    daemon.ctl("volume", "delete", name)


FIO_JOBS = {
    "random mix, 4 KiB to 64 KiB": ["--rw=randrw", "--bssplit=4k/60:16k/20:64k/20", "--iodepth=16"],
    "random writes with flushes": [
        "--rw=randwrite",
        "--bs=4k",
        "--iodepth=16",
        "--fsync=64",
        "--io_size=48m",
    ],
    # Trims race with writes at a depth (fio does not order them), so one at a time.
    "trim and write": ["--rw=randtrimwrite", "--bs=4k", "--iodepth=1", "--io_size=24m"],
    "sequential, 1 MiB": ["--rw=write", "--bs=1m", "--iodepth=8"],
}


def fio(daemon, name, arguments):
    uri = daemon.attach(name, 192 * MIB)
    run(
        "fio",
        "--name=verify",
        "--ioengine=nbd",
        f"--uri={uri}",
        "--size=192m",
        *arguments,
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randseed=11",
        cwd=daemon.workspace.path,
        timeout=120,
    )
    daemon.ctl("volume", "detach", name)
    daemon.ctl("volume", "delete", name)


def main():
    checks = harness.Checks()
    with harness.Workspace("clients") as workspace:
        workspace.require_free(4 * GIB)
        image = workspace / "image"
        make_image(image)
        daemon = harness.Daemon(workspace).start()
        daemon.ctl("pool", "create", workspace / "pool", "--size", "3g")
        with checks.case("nbdinfo sees what the export can do, and lists it"):
            nbdinfo(daemon)
        with checks.case("a read-only attachment refuses writes"):
            read_only_attachment(daemon)
        with checks.case("nbdcopy copies in and out, and holes stay holes"):
            nbdcopy(daemon, image)
        with checks.case("qemu-img converts, compares and maps"):
            qemu_img(daemon, image)
        with checks.case("a clone outlives its parent"):
            snapshot_and_clone(daemon, image)
        with checks.case("a grown volume keeps its data and reads zero behind it"):
            grow(daemon)
        for kind in ("ext4", "xfs"):
            with checks.case(f"{kind} lives on a volume and gives space back"):
                file_system(daemon, kind)
        for number, (title, arguments) in enumerate(FIO_JOBS.items()):
            with checks.case(f"fio verifies: {title}"):
                fio(daemon, f"fio{number}", arguments)
        with checks.case("the pool is sound afterwards"):
            daemon.ctl("pool", "check", workspace / "pool", "--verify-data")
            expect(daemon.stop() == 0, "the daemon did not end cleanly")
        if checks.failed:
            print(daemon.tail())
    return checks.exit_code()


if __name__ == "__main__":
    sys.exit(main())
