"""What the end-to-end tests and the benchmark share: a place to work in, processes ended by their
id, a Keelson daemon, and counted checks. Python's standard library only."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB = 1 << 20
GIB = 1 << 30


class Skip(Exception):
    """This check cannot run here; the message says why."""


class Checks:
    """Counts named checks in the form tests/runner.py reads: "ok", "FAILED" and "skipped" lines."""

    def __init__(self):
        self.failed = 0

    @contextlib.contextmanager
    def case(self, name):
        started = time.monotonic()
        try:
            yield
        except Skip as why:
            print(f"skipped {name}: {why}", flush=True)
        except Exception as error:  # pylint: disable=broad-except: the next check still runs
            self.failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        else:
            print(f"ok {name} ({time.monotonic() - started:.1f} s)", flush=True)

    def exit_code(self):
        return 1 if self.failed else 0


def expect(condition, message):
    if not condition:
        raise AssertionError(message)


class Workspace(contextlib.ExitStack):
    """A temporary folder and what must be undone before it goes, in reverse order.

    The folder is made under KEELSON_TEST_DIR, or /var/tmp: a real disk, where O_DIRECT works.
    """

    def __init__(self, name, base=None, keep=False):
        super().__init__()
        base = base or os.environ.get("KEELSON_TEST_DIR", "/var/tmp")
        # A signal becomes an exception, so that daemons end and file systems are unmounted.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, _: sys.exit(128 + received))
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"keelson-{name}-", dir=base))
        if not keep:
            self.callback(shutil.rmtree, self.path, ignore_errors=True)

    def __truediv__(self, name):
        return self.path / name

    def require_free(self, size_bytes):
        free = shutil.disk_usage(self.path).free
        if free < size_bytes:
            raise Skip(
                f"{self.path} has {free // MIB} MiB free, {size_bytes // MIB} MiB are needed"
            )


def run(*command, check=True, timeout=300, **options):
    """Runs a command to its end; its output is in the exception when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=timeout,
        **options,
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(map(str, command))}: exit status {done.returncode}\n"
            f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done


def start(workspace, *command, log):
    """Starts a process that is ended, by its id, when the workspace is left."""
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    workspace.callback(end, process)
    return process


def end(process, timeout=20):
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)  # a test may have stopped it
    process.terminate()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(condition, what, timeout=30):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_binaries():
    """KEELSON_BIN, or the newest build in the tree that has both programs."""
    if "KEELSON_BIN" in os.environ:
        return pathlib.Path(os.environ["KEELSON_BIN"])
    found = [path.parent for path in ROOT.glob("build/*/bin/keelson-blockstore")]
    if not found:
        raise SystemExit("no keelson-blockstore under build/: run tests/run or set KEELSON_BIN")
    return max(found, key=lambda path: (path / "keelson-blockstore").stat().st_mtime)


_FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"


class Daemon:
    """One keelson-blockstore with its own state, sockets and log, all under the workspace."""

    def __init__(self, workspace, binaries=None, name="daemon", arguments=(), prefix=()):
        self.workspace = workspace
        self.binaries = binaries or find_binaries()
        self.arguments = arguments
        self.prefix = prefix  # a command that becomes the daemon, in another network namespace
        self.state = workspace / f"{name}-state"
        self.run_dir = workspace / f"{name}-run"
        self.log = workspace / f"{name}.log"
        self.port = free_port()
        self.process = None
        for folder in (self.state, self.run_dir):
            folder.mkdir(exist_ok=True)

    def start(self, wait=True):
        self.process = start(
            self.workspace,
            *self.prefix,
            self.binaries / "keelson-blockstore",
            "--state-dir",
            self.state,
            "--run-dir",
            self.run_dir,
            "--metrics",
            f"127.0.0.1:{self.port}",
            *self.arguments,
            log=self.log,
        )
        if wait:
            wait_until(self.answers, "the daemon to answer")
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.tail()}")
        return self.ctl("volume", "list", check=False).returncode == 0

    def tail(self):
        """The end of its log, without the requests of keelctl that went well."""
        lines = self.log.read_text(errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if not line.endswith("code=OK\n"))[-3000:]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, timeout=10):
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(timeout)

    def ctl(self, *arguments, check=True, timeout=120):
        return run(
            self.binaries / "keelctl",
            "--socket",
            self.ctl_socket,
            *arguments,
            check=check,
            timeout=timeout,
        )

    def ctl_json(self, *arguments):
        return json.loads(self.ctl("--output", "json", *arguments).stdout)

    def refuses(self, word, *arguments):
        """The command fails, and says something with `word` in it."""
        done = self.ctl(*arguments, check=False)
        expect(done.returncode != 0, f"keelctl {' '.join(map(str, arguments))} was accepted")
        expect(
            word.lower() in done.stderr.lower(),
            f"keelctl {' '.join(map(str, arguments))}: no '{word}' in: {done.stderr.strip()}",
        )

    def attach(self, volume, size=None):
        """Makes the volume if a size is given, attaches it and returns its URI."""
        if size is not None:
            self.ctl("volume", "create", volume, "--size", str(size))
        self.ctl("volume", "attach", volume)
        return self.uri(volume)

    def uri(self, volume):
        return f"nbd+unix:///{volume}?socket={self.nbd_socket}"

    @property
    def ctl_socket(self):
        return self.run_dir / "blockstore.sock"

    def pause(self):
        """SIGSTOP: it lives and does not answer."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    @property
    def nbd_socket(self):
        return self.run_dir / "nbd.sock"

    def pool_used(self):
        return sum(int(pool["used_bytes"]) for pool in self.ctl_json("pool", "list"))

    def replica_count(self):
        """In its pools; `volume list` shows only what is attached here, and single copies."""
        return sum(pool["volume_count"] for pool in self.ctl_json("pool", "list"))

    def metrics(self):
        """name{labels} -> value"""
        url = f"http://127.0.0.1:{self.port}/metrics"
        if self.prefix:
            text = run(*self.prefix, sys.executable, "-c", _FETCH, url, timeout=20).stdout
        else:
            with urllib.request.urlopen(url, timeout=10) as page:
                text = page.read().decode()
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line and not line.startswith("#")
        }

    def metric(self, name):
        """The sum over all labels."""
        return sum(value for key, value in self.metrics().items() if key.partition("{")[0] == name)


class Cluster:
    """Daemons with a data port each, as the nodes a, b, c, ... of one keelctl.

    `pools` has what `pool create` is told for a node other than the size of all others. With a
    `network` (tests/e2e/network.py) each daemon is in a namespace of its own, else on loopback.
    `names` begins the names of its files, for a second cluster in one workspace. `arguments` are
    for each daemon; in them {port} is a free port of its own.
    """

    def __init__(
        self,
        workspace,
        count,
        pool_size="256m",
        binaries=None,
        network=None,
        pools=None,
        names="",
        arguments=(),
    ):
        self.binaries = binaries or find_binaries()
        self.nodes = {}
        self.unreachable = set()  # nodes that keelctl finds nobody at
        for name in "abcdefgh"[:count]:
            address = f"127.0.0.1:{free_port()}"
            prefix = ()
            if network:
                address, prefix = f"{network.address(name)}:9760", network.prefix(name)
            own = [argument.replace("{port}", str(free_port())) for argument in arguments]
            own = ("--data-listen", address, *own)
            node = Daemon(workspace, self.binaries, f"{names}{name}", own, prefix).start()
            node.data_address = address
            node.pool = workspace / f"{names}{name}-pool"
            options = (pools or {}).get(name, ("--size", pool_size))
            node.ctl("pool", "create", node.pool, *options, timeout=900)
            self.nodes[name] = node

    def __getitem__(self, name):
        return self.nodes[name]

    def ctl(self, *arguments, check=True, timeout=120):
        named = [
            f"--node={name}={node.ctl_socket}{'.gone' if name in self.unreachable else ''}"
            for name, node in self.nodes.items()
        ]
        return run(self.binaries / "keelctl", *named, *arguments, check=check, timeout=timeout)

    def ctl_json(self, *arguments):
        return json.loads(self.ctl("--output", "json", *arguments).stdout)

    def refuses(self, word, *arguments):
        """The command fails, and says something with `word` in it."""
        done = self.ctl(*arguments, check=False)
        expect(done.returncode != 0, f"keelctl {' '.join(map(str, arguments))} was accepted")
        expect(word.lower() in done.stderr.lower(), f"no '{word}' in: {done.stderr.strip()}")
        return done.stderr.strip()

    def end_soundly(self):
        """Every daemon ends cleanly, and leaves a sound pool."""
        for name, node in self.nodes.items():
            expect(node.stop() == 0, f"node {name}:\n{node.tail()}")
            check = ("pool", "check", node.pool, "--offline", "--verify-data")
            report = run(self.binaries / "keelctl", *check)
            expect("sound" in report.stdout, report.stdout)

    def print_logs(self):
        for name, node in self.nodes.items():
            print(f"--- node {name}\n{node.tail()}")

    def create(self, volume, size, replicas):
        self.ctl("volume", "create", volume, "--size", size, "--replicas", replicas)

    def attach(self, volume, node, *options):
        """The URI."""
        return self.ctl("volume", "attach", volume, "--on", node, *options).stdout.strip()

    def uri(self, volume, node):
        return self.nodes[node].uri(volume)

    def status(self, volume):
        return self.ctl_json("volume", "status", volume)

    def member(self, volume, node):
        for member in self.status(volume)["members"]:
            if member["node"] == node:
                return member
        raise AssertionError(f"volume {volume} has no member on node {node}")

    def in_sync(self, volume):
        status = self.status(volume)
        return status["in_sync"] == status["copies"]

    def wait_in_sync(self, volume, timeout=30):
        wait_until(lambda: self.in_sync(volume), f"all copies of {volume} to be in sync", timeout)
