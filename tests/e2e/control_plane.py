"""A keelson-provisioner beside a harness.Cluster, and `keelctl cluster` for it."""

import json

import harness
from harness import expect, run, start, wait_until


class ControlPlane:
    def __init__(self, workspace, cluster, arguments=()):
        self.workspace = workspace
        self.cluster = cluster
        self.arguments = arguments
        self.address = f"unix:{workspace / 'provisioner.sock'}"
        self.log = workspace / "provisioner.log"
        self.process = None

    def start(self):
        self.process = start(
            self.workspace,
            self.cluster.binaries / "keelson-provisioner",
            "--listen",
            self.address,
            "--state-dir",
            self.workspace / "provisioner-state",
            *self.arguments,
            log=self.log,
        )
        wait_until(self.answers, "the provisioner to answer")
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}:\n{self.tail()}")
        return self.ctl("nodes", check=False).returncode == 0

    def tail(self):
        lines = self.log.read_text(errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if not line.endswith("code=OK\n"))[-4000:]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ctl(self, *arguments, check=True, timeout=120):
        command = [self.cluster.binaries / "keelctl", "cluster", "--provisioner", self.address]
        return run(*command, *arguments, check=check, timeout=timeout)

    def ctl_json(self, *arguments):
        return json.loads(self.ctl(*arguments, "--output", "json").stdout)

    def refuses(self, word, *arguments):
        done = self.ctl(*arguments, check=False)
        expect(done.returncode != 0, f"keelctl cluster {arguments} was accepted")
        expect(word.lower() in done.stderr.lower(), f"no '{word}' in: {done.stderr.strip()}")

    def add_nodes(self):
        for name, node in self.cluster.nodes.items():
            self.ctl("node-add", name, f"unix:{node.ctl_socket}")
        wait_until(
            lambda: all(node["state"] == "ready" for node in self.nodes().values()),
            "all nodes to be ready",
        )

    def nodes(self):
        return {node["name"]: node for node in self.ctl_json("nodes").get("nodes", [])}

    def volumes(self):
        return {one["name"]: one for one in self.ctl_json("volumes").get("volumes", [])}

    def volumes_by_id(self):
        return {one["id"]: one for one in self.ctl_json("volumes").get("volumes", [])}

    def volume(self, name):
        return self.volumes()[name]

    def copies(self, name):
        return sorted(
            place["node"] for place in self.volume(name)["replicas"] if not place["witness"]
        )

    def whole(self, name):
        """All copies have everything."""
        states = [p["state"] for p in self.volume(name)["replicas"] if not p["witness"]]
        return all(state == "InSync" for state in states)

    def print_log(self):
        print(f"--- provisioner\n{self.tail()}")


class Drivers:
    """keelson-csi as a cluster has it: one as controller, one beside each node's block store."""

    def __init__(self, workspace, cluster, plane):
        self.workspace = workspace
        self.cluster = cluster
        self.plane = plane

    def start(self):
        self._start("controller", "--mode=controller")
        for name, node in self.cluster.nodes.items():
            blockstore = f"--blockstore=unix:{node.ctl_socket}"
            self._start(name, "--mode=node", f"--node={name}", blockstore)
        wait_until(
            lambda: [node["state"] for node in self.plane.nodes().values()]
            == ["ready"] * len(self.cluster.nodes),
            "the drivers to make all nodes known",
        )
        return self

    def _start(self, name, *arguments):
        log = self.workspace / f"csi-{name}.log"
        process = start(
            self.workspace,
            self.cluster.binaries / "keelson-csi",
            f"--endpoint={self._endpoint(name)}",
            f"--provisioner={self.plane.address}",
            f"--mount-root={self.workspace.path}",
            *arguments,
            log=log,
        )
        wait_until(
            lambda: process.poll() is not None or "event=listening" in log.read_text(),
            "keelson-csi",
        )
        expect(process.poll() is None, log.read_text()[-2000:])

    def _endpoint(self, name):
        return f"unix://{self.workspace / f'csi-{name}.sock'}"

    def ctl(self, *arguments, node=None):
        command = [self.cluster.binaries / "keelctl", "csi"]
        command += ["--endpoint", self._endpoint("controller")]
        if node:
            command += ["--node-endpoint", self._endpoint(node)]
        return run(*command, *arguments)

    def create(self, name, *options):
        """Its id."""
        return self.ctl("create", name, *options).stdout.strip()

    def _at(self, volume, node):
        base = self.workspace / f"{node}-{volume}"
        base.mkdir(exist_ok=True)
        return ("--on", node, "--staging", base / "staging", "--target", base / "mounted")

    def mount(self, volume, node):
        """Attached to the node, staged, and mounted there; where."""
        at = self._at(volume, node)
        at[3].mkdir(exist_ok=True)
        self.ctl("publish", volume, *at, node=node)
        return at[5]

    def unmount(self, volume, node):
        self.ctl("unpublish", volume, *self._at(volume, node), node=node)


def start_all(workspace, count, pool_size, arguments=(), node_arguments=()):
    cluster = harness.Cluster(workspace, count, pool_size, arguments=node_arguments)
    plane = ControlPlane(workspace, cluster, arguments).start()
    plane.add_nodes()
    return cluster, plane
