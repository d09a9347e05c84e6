"""A network for daemons on this machine: each in a namespace of its own, on a bridge in another,
where any of them can be cut off from any other, in both directions or in one. Needs root and `ip`.

Nobody asks who has an address: every namespace is told its neighbours. What is cut is told a
neighbour that nobody is, so that packets leave and are lost, silently, as in a broken switch;
connections stay established, and the other direction works.
"""

import os
import shutil

from harness import Skip, run

_NOBODY = "02:00:00:00:ff:ff"


class Network:
    """Namespaces for nodes of these names (one letter each); gone when the workspace is left."""

    def __init__(self, workspace, names):
        if os.geteuid() != 0:
            raise Skip("network namespaces need root")
        if shutil.which("ip") is None:
            raise Skip("network namespaces need ip (package iproute2)")
        self.names = names
        self._id = f"keelson-{os.getpid()}"
        self._hub = f"{self._id}-hub"
        self._limited = set()
        self._add_namespace(workspace, self._hub)
        self._in_hub("link", "add", "bridge", "type", "bridge")
        self._in_hub("link", "set", "bridge", "up")
        for name in names:
            self._add_node(workspace, name)
        self.heal()

    def address(self, name):
        return f"10.77.0.{self._number(name)}"

    def prefix(self, name):
        """What a command begins with that runs on this node."""
        return ("nsenter", f"--net=/run/netns/{self._namespace(name)}", "--")

    def cut(self, sender, receiver):
        """What the one sends does not reach the other; the other way it does."""
        self._neighbour(sender, receiver, _NOBODY)

    def isolate(self, name):
        """Nothing reaches it, and nothing that it sends reaches anybody."""
        for other in self.names:
            if other != name:
                self.cut(name, other)
                self.cut(other, name)

    def heal(self):
        for sender in self.names:
            for receiver in self.names:
                if sender != receiver:
                    self._neighbour(sender, receiver, self._mac(receiver))

    def limit(self, name, megabit):
        """What it is sent arrives at no more than so many Mbit/s; None: as fast as it goes."""
        device = ("dev", f"to-{name}", "root")
        if name in self._limited:
            run("tc", "-n", self._hub, "qdisc", "del", *device)
            self._limited.discard(name)
        if megabit is not None:
            rate = ("tbf", "rate", f"{megabit}mbit", "burst", "128k", "latency", "50ms")
            run("tc", "-n", self._hub, "qdisc", "add", *device, *rate)
            self._limited.add(name)

    def _number(self, name):
        return self.names.index(name) + 1

    def _mac(self, name):
        return f"02:00:00:00:00:{self._number(name):02x}"

    def _namespace(self, name):
        return f"{self._id}-{name}"

    def _in_hub(self, *arguments):
        run("ip", "-n", self._hub, *arguments)

    @staticmethod
    def _add_namespace(workspace, namespace):
        run("ip", "netns", "add", namespace)
        workspace.callback(run, "ip", "netns", "delete", namespace, check=False)
        run("ip", "-n", namespace, "link", "set", "lo", "up")

    def _add_node(self, workspace, name):
        namespace = self._namespace(name)
        self._add_namespace(workspace, namespace)
        self._in_hub(
            *("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0"),
            *("address", self._mac(name), "netns", namespace),
        )
        self._in_hub("link", "set", f"to-{name}", "master", "bridge", "up")
        here = ("ip", "-n", namespace)
        run(*here, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
        run(*here, "link", "set", "eth0", "up")

    def _neighbour(self, sender, receiver, mac):
        run(
            *("ip", "-n", self._namespace(sender), "neigh", "replace", self.address(receiver)),
            *("lladdr", mac, "dev", "eth0", "nud", "permanent"),
        )
