"""A block device that fails when it is told to: a loop device over a file that nbdfuse shows of an
nbdkit with its error filter. Needs root, /dev/fuse and loop devices."""

import os

import harness
from harness import Skip, run, start, wait_until


class FaultyDisk:
    """`path` is a symbolic link to the device, as those of /dev/disk are, and stays the same."""

    def __init__(self, workspace, name, size):
        if os.geteuid() != 0:
            raise Skip("a loop device needs root")
        for needed in ("/dev/fuse", "/dev/loop-control"):
            if not os.path.exists(needed):
                raise Skip(f"this machine has no {needed}")
        self._workspace = workspace
        self._image = workspace / f"{name}.image"
        self._name = name
        self._shown = None
        self._trigger = workspace / f"{name}.fails"
        self._log = workspace / f"{name}.log"
        self._size = size
        self._serving = 0
        self._device = None
        self.path = workspace / f"{name}.disk"
        self._image.touch()
        os.truncate(self._image, size)
        self.plug()

    def fail(self):
        """Reads and writes return EIO from now on."""
        self._trigger.touch()

    def mend(self):
        self._trigger.unlink(missing_ok=True)

    def plug(self):
        """The device, after `unplug` again with what it had."""
        self._serving += 1
        # The mount of one that died may go some time later.
        self._shown = self._workspace / f"{self._name}.shown.{self._serving}"
        self._shown.touch()
        socket = self._workspace / f"{self._name}.sock.{self._serving}"
        faults = ("error=EIO", "error-rate=100%", f"error-file={self._trigger}")
        command = ("nbdkit", "--foreground", "--unix", socket, "--filter=error", "file")
        self._server = start(self._workspace, *command, self._image, *faults, log=self._log)
        wait_until(socket.exists, "nbdkit to listen")
        self._fuse = start(
            self._workspace, "nbdfuse", self._shown, "--unix", socket, log=self._log
        )
        wait_until(lambda: self._shown.stat().st_size == self._size, "nbdfuse to show the disk")
        loop = ("losetup", "--find", "--show", "--direct-io=on", "-b", "4096")
        self._device = run(*loop, self._shown).stdout.strip()
        self._workspace.callback(self.unplug)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(self._device)

    def die(self):
        """Everything fails from now on, flushes too, until it is unplugged and plugged again."""
        self._server.kill()
        self._server.wait()

    def unplug(self):
        """Nobody uses it."""
        if self._device is None:
            return
        run("losetup", "-d", self._device, check=False)
        self._device = None
        run("umount", "--lazy", self._shown, check=False)
        harness.end(self._fuse)
        harness.end(self._server)
