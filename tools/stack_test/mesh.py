"""What Swarm's load balancer does, with iptables, for kernels without IPVS (CONFIG_IP_VS).

Swarm gives each service a virtual address in each of its networks, and has IPVS hand connections to it, and to
published ports, to the running tasks. Where the kernel has no IPVS, Docker logs an error and those connections go
nowhere; everything else works. This stand-in watches services and tasks and sets address-translation rules instead, in
the same network namespaces and by the same paths. Where there is IPVS it is not used.
"""

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
from urllib.parse import quote

_POLL_SECONDS = 0.25
_COMMENT = "ingestd-stack-test"


def kernel_has_ipvs() -> bool:
    """Whether Swarm's own load balancer can work."""
    if not os.path.exists("/proc/net/ip_vs") and shutil.which("modprobe"):
        subprocess.run(["modprobe", "ip_vs"], capture_output=True, check=False)
    return os.path.exists("/proc/net/ip_vs")


class API:
    """Docker's, by its socket: a process for each question would cost too much."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str) -> list | dict:
        """The answer to a GET request."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("docker", timeout=30)
            self._connection.sock = socket.socket(socket.AF_UNIX)
            self._connection.sock.settimeout(30)
            self._connection.sock.connect(self._path)
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection = None
            raise
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status} {body.decode('utf-8', 'replace')}")
        return json.loads(body)


class Mesh:
    """Keeps the rules as services and tasks are."""

    def __init__(self, docker_socket: str, exec_root: str) -> None:
        self._api = API(docker_socket)
        self._namespaces = os.path.join(exec_root, "netns")
        self._set: dict[str, str] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.last_error = ""

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Ends to watch; the rules go with their namespaces."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_POLL_SECONDS):
            try:
                self._update()
            except (OSError, http.client.HTTPException, subprocess.CalledProcessError) as error:
                # A namespace may go while it is looked at. What lasts shows in the checks, with this as its cause.
                self.last_error = f"{error} {getattr(error, 'stderr', '')}"

    def _update(self) -> None:
        running = quote(json.dumps({"desired-state": ["running"]}))
        tasks = [task for task in self._api.get(f"/tasks?filters={running}") if task["Status"]["State"] == "running"]
        wanted: dict[str, list] = {}
        for service in self._api.get("/services"):
            endpoint = service.get("Endpoint", {})
            for virtual in endpoint.get("VirtualIPs", []):
                network = virtual["NetworkID"]
                if "Addr" not in virtual:
                    continue
                targets = sorted(
                    address.split("/")[0]
                    for task in tasks if task["ServiceID"] == service["ID"]
                    for attachment in task.get("NetworksAttachments", []) if attachment["Network"]["ID"] == network
                    for address in attachment.get("Addresses", [])
                )  # fmt: skip
                published = [port for port in endpoint.get("Ports", []) if port["PublishMode"] == "ingress"]
                ports = [port["PublishedPort"] for port in published]
                wanted.setdefault(network, []).append((virtual["Addr"].split("/")[0], targets, ports))
        ingress = next((network["Id"] for network in self._api.get("/networks") if network.get("Ingress")), None)
        for network, services in wanted.items():
            if network == ingress:
                self._set_ingress(services)
            else:
                self._set_internal(network, services)

    def _set_internal(self, network: str, services: list) -> None:
        namespace = f"lb_{network[:9]}"
        rules, commands = [], []
        for address, targets, _ in sorted(services):
            # Whoever asks for the address must be answered also while there is no task, as by IPVS.
            commands.append(f"ip address replace {address}/32 dev eth0")
            rules += _spread(f"-d {address}", targets, "")
        rules.append("-A POSTROUTING -o eth0 -j MASQUERADE")
        commands.append("echo 1 >/proc/sys/net/ipv4/ip_forward")
        self._apply(namespace, commands, rules)

    def _set_ingress(self, services: list) -> None:
        inside, outside = [], []
        sandbox = self._ingress_address()
        for _, targets, ports in sorted(services):
            for port in ports:
                inside += _spread(f"-p tcp --dport {port}", targets, f":{port}")
                for chain in ("PREROUTING", "OUTPUT"):
                    outside.append(f"-A {chain} -p tcp --dport {port} -m addrtype --dst-type LOCAL "
                                   f"-j DNAT --to-destination {sandbox}:{port}")  # fmt: skip
        inside.append("-A POSTROUTING -o eth0 -j MASQUERADE")
        self._apply("ingress_sbox", ["echo 1 >/proc/sys/net/ipv4/ip_forward"], inside)
        outside.append("-A POSTROUTING -o docker_gwbridge -m addrtype --src-type LOCAL -j MASQUERADE")
        self._apply("", ["echo 1 >/proc/sys/net/ipv4/conf/docker_gwbridge/route_localnet",
                         "iptables -C FORWARD -o docker_gwbridge -j ACCEPT 2>/dev/null || "
                         "iptables -I FORWARD -o docker_gwbridge -j ACCEPT"], outside)  # fmt: skip

    def _ingress_address(self) -> str:
        bridge = self._api.get("/networks/docker_gwbridge")
        for container in bridge["Containers"].values():
            if container["Name"] == "gateway_ingress-sbox":
                return container["IPv4Address"].split("/")[0]
        raise OSError("docker_gwbridge has no ingress sandbox")

    def _apply(self, namespace: str, commands: list[str], rules: list[str]) -> None:
        """Replaces our rules in a namespace, where they have changed."""
        text = "\n".join(commands + rules)
        path = os.path.join(self._namespaces, namespace)
        key = f"{namespace} {os.stat(path).st_ino if namespace else ''}"
        if self._set.get(key) == text:
            return
        script = "\n".join([
            "set -e",
            *commands,
            "{ echo '*nat'; iptables-save -t nat | grep -e '--comment " + _COMMENT + "' | sed 's/^-A/-D/'",
            *(f"echo '{rule} -m comment --comment {_COMMENT}'" for rule in rules),
            "echo COMMIT; } | iptables-restore --noflush",
        ])  # fmt: skip
        enter = ["nsenter", f"--net={path}"] if namespace else []
        subprocess.run([*enter, "sh", "-c", script], check=True, capture_output=True, text=True)
        self._set[key] = text


def _spread(match: str, targets: list[str], port: str) -> list[str]:
    """Rules that hand one connection after the other to the targets in turn."""
    rules = []
    for index, target in enumerate(targets):
        left = len(targets) - index
        turn = f" -m statistic --mode nth --every {left} --packet 0" if left > 1 else ""
        tcp = "" if "-p tcp" in match else " -p tcp"
        rules.append(f"-A PREROUTING {match}{tcp}{turn} -j DNAT --to-destination {target}{port}")
    return rules
