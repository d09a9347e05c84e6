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


def start_all(workspace, count, pool_size, arguments=(), node_arguments=()):
    cluster = harness.Cluster(workspace, count, pool_size, arguments=node_arguments)
    plane = ControlPlane(workspace, cluster, arguments).start()
    plane.add_nodes()
    return cluster, plane
