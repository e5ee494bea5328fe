"""A Docker of the test's own: its daemon, with all that it makes, in namespaces of its own.

Network, mounts and processes of the daemon are in new namespaces, and its files in a temporary folder. So it can't meet
another Docker (bridges, address ranges, firewall rules, ports and mounts are apart), its containers reach nothing but
each other, and everything is gone when the first process of the namespaces ends, however it ends.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from clickhouse_dev.server_process import die_with_parent

# For documentation only, and in a network without a way out: nobody else has it.
ADDRESS = "192.0.2.1"


class Failure(Exception):
    """Why it can't go on, in words for the user."""


def enter(folder: str, arguments: list[str]) -> subprocess.Popen:
    """Starts this program again as the first process of new namespaces; killing it ends everything inside."""
    return subprocess.Popen(
        [
            "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc",
            sys.executable, os.path.abspath(sys.argv[0]), "--inside", folder, *arguments,
        ],
        # Ctrl-C is for the parent, which ends it in order; should that be killed, everything inside is as well.
        start_new_session=True, preexec_fn=die_with_parent(signal.SIGKILL),
    )  # fmt: skip


def leave(process: subprocess.Popen) -> None:
    """Ends what `enter` started: asks, then kills."""
    if process.poll() is None:
        try:
            # `unshare` itself passes no signal on; the group is all that we started.
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answer_names() -> None:
    """A name server that knows no name (RFC 1035)."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((ADDRESS, 53))
    while True:
        query, sender = listener.recvfrom(4096)
        end = 12
        while end < len(query) and query[end]:
            end += query[end] + 1
        question = query[12 : end + 5]
        # An answer, of which recursion was asked and is done; code 3: no such name. One question, nothing else.
        listener.sendto(query[:2] + b"\x81\x83" + b"\0\1" + bytes(6) + question, sender)


def remove_cgroups(name: str) -> None:
    """Removes the control groups of ended containers, which belong to no namespace; `name` is the folder's."""
    for base, folders, _ in os.walk("/sys/fs/cgroup"):
        if name not in folders:
            if base.count("/") > 4:
                folders.clear()
            continue
        folders.clear()
        for folder, _, _ in os.walk(os.path.join(base, name), topdown=False):
            for _ in range(50):
                try:
                    os.rmdir(folder)
                    break
                except OSError:  # the last process of it is still ending
                    time.sleep(0.1)


class Daemon:
    """dockerd, in the namespaces that this process is in."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.exec_root = os.path.join(folder, "exec")
        self.socket = os.path.join(folder, "docker.sock")
        self.log = os.path.join(folder, "logs", "dockerd.log")
        self.environment = os.environ | {
            "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": os.path.join(folder, "docker-config"),
        }  # fmt: skip
        for name in ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_DEFAULT_PLATFORM"):
            self.environment.pop(name, None)
        os.makedirs(self.environment["DOCKER_CONFIG"], exist_ok=True)

    def start(self) -> None:
        """Makes a network of one node, and starts the daemon in it."""
        for command in (
            "mount --make-rprivate /",
            "ip link set lo up",
            # A bridge without ports is an interface that every kernel has.
            "ip link add node0 type bridge",
            f"ip address add {ADDRESS}/24 dev node0",
            "ip link set node0 up",
            "sysctl --quiet --write net.ipv4.ip_forward=1",
        ):
            subprocess.run(command.split(), check=True)
        # As on any machine a name server answers, also that there is no such name: without one each look-up of a
        # registry, or of a task that has gone, would wait and then fail.
        threading.Thread(target=_answer_names, daemon=True).start()
        resolver = os.path.join(self.folder, "resolv.conf")
        with open(resolver, "w") as file:
            file.write(f"nameserver {ADDRESS}\n")
        subprocess.run(["mount", "--bind", resolver, os.path.realpath("/etc/resolv.conf")], check=True)
        self.launch()

    def launch(self) -> None:
        """Starts the daemon, for the first time or again."""
        # Not the machine's own configuration.
        configuration = os.path.join(self.folder, "daemon.json")
        with open(configuration, "w") as file:
            file.write("{}\n")
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                [
                    "dockerd", "--data-root", os.path.join(self.folder, "data"), "--exec-root", self.exec_root,
                    "--pidfile", os.path.join(self.folder, "docker.pid"), "--host", f"unix://{self.socket}",
                    "--config-file", configuration,
                    "--exec-opt", "native.cgroupdriver=cgroupfs",
                    "--cgroup-parent", f"/{os.path.basename(self.folder)}",
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while not self.succeeds("version"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log, encoding="utf-8", errors="replace") as file:
                    raise Failure("dockerd does not start:\n" + "".join(file.readlines()[-10:]))
            time.sleep(0.2)

    def stop(self, seconds: float = 30) -> None:
        """Ends the daemon, which ends its containers; what is left then is ended with the namespaces."""
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def run(self, *arguments: str, given: bytes | None = None, seconds: float = 120) -> str:
        """What a docker command prints; raises `Failure` with its own words."""
        done = subprocess.run(
            ["docker", *arguments], input=given, capture_output=True, env=self.environment, timeout=seconds
        )  # fmt: skip
        if done.returncode != 0:
            words = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
            raise Failure(f"docker {' '.join(arguments[:3])}: {words}")
        return done.stdout.decode("utf-8", "replace").strip()

    def succeeds(self, *arguments: str) -> bool:
        """Whether a docker command does."""
        return subprocess.run(["docker", *arguments], capture_output=True, env=self.environment).returncode == 0


def require(*commands: str) -> None:
    """Raises `Failure` if a command is missing."""
    missing = [command for command in commands if not shutil.which(command)]
    if missing:
        raise Failure(f"missing: {', '.join(missing)}. `tools/setup stack` installs them on Debian")
