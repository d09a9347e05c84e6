"""Block devices of the frontend loop, as end-to-end tests find, judge and clean them up: loop
devices, the FUSE mounts below them, and the keelson-fuse-keeper processes.

A folder is a daemon's run directory or a whole workspace. Only what lies below it is ever touched,
and since a workspace has a name of its own, that is only what its test made.
"""

import contextlib
import os
import pathlib
import signal
import subprocess

from harness import expect, wait_until


def missing():
    """Why there can be no devices here; empty: there can."""
    if os.geteuid() != 0:
        return "it needs root"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(path, os.R_OK | os.W_OK):
            return f"it needs {path}"
    return ""


def keepers(folder):
    """The ids of the keelson-fuse-keeper processes of the daemons below the folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(word.startswith(f"{folder}/") for word in words) and any(
                word.endswith("/fuse-keeper.sock") for word in words
            ):
                found.append(int(entry.name))
    return found


def loops(folder):
    """The loop devices on files below the folder."""
    found = []
    for entry in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if entry.read_text().startswith(f"{folder}/"):
                found.append(f"/dev/{entry.parts[3]}")
    return found


def mounts(folder, kind=""):
    """The mount points below the folder, the newest first; of one kind of file system, or all."""
    points = []
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        for line in lines:
            point = line.split()[4]
            if point.startswith(f"{folder}/") and line.partition(" - ")[2].startswith(kind):
                points.insert(0, point)
    return points


def left_over(run_dir):
    """What the daemon of this run directory has of devices, in words; empty: nothing."""
    files = list((run_dir / "loop").glob("*")) if (run_dir / "loop").exists() else []
    found = {
        "loop devices": loops(run_dir),
        "mounts": mounts(run_dir),
        "files": [str(path) for path in files],
    }
    return ", ".join(f"{what} {which}" for what, which in found.items() if which)


def expect_nothing_left(run_dir):
    """A daemon that was told to detach is done with it when it answers; its keeper soon after."""
    wait_until(lambda: not keepers(run_dir), "the keeper to end", 10)
    expect(not left_over(run_dir), f"this is left: {left_over(run_dir)}")


def _quietly(*command):
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=20
        )


def clean_up(folder):
    """Takes away what a failed check left below the folder. Its daemons must have ended: one that
    runs makes a device again that it should have."""
    # First whatever waits for a daemon that is not there any more gets errors, so that nobody,
    # this function included, waits for it for ever.
    ours = mounts(folder, "fuse.keelson")
    for point in ours:
        _quietly("umount", "-f", point)
    for pid in keepers(folder):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for point in mounts(folder):
        if point not in ours:
            _quietly("umount", "-l", point)
    # While its file is mounted: without that a loop device does not say any more whose it is.
    for device in loops(folder):
        _quietly("losetup", "-d", device)
    for point in ours:
        _quietly("umount", "-l", point)


def clean_up_after(workspace):
    """To be called before a daemon is started in the workspace: it comes after they have ended."""
    workspace.callback(clean_up, workspace.path)
