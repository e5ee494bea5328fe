"""As much of Swarm as tools/canary asks for: the canary's tasks are real processes of `ingestd`.

A `docker` that is a script asks it, through a socket in the test's folder. What it does not know goes to the script of
stack_fixture.py. An image that is in `broken` ends at once, and is started again. While the canary publishes its port,
its process listens there; else only `docker exec` finds it.
"""

import http.server
import json
import os
import re
import socketserver
import subprocess
import threading
import traceback
import urllib.error
import urllib.request
import uuid

import yaml

from service_fixture import BINARY, free_port

CANARY, STABLE = "ingestd_ingestion-canary", "ingestd_ingestion-service"
# What Swarm remembers of a service.
HISTORY = 5
# curl costs a tenth of what an interpreter does, and there are many calls. The variables are those of the stack files.
DOCKER = r"""#!/bin/sh
code=$(printf '%s\0' "$@" "" "HERE=$(pwd -P)" "TAG=$TAG" "CANARY_TAG=$CANARY_TAG" "CANARY_HTTP_PORT=$CANARY_HTTP_PORT" |
    curl -s -H Expect: --unix-socket "$FAKE/swarm.sock" -o "$FAKE/answer-$$" -w '%{http_code}' --data-binary @- \
    http://swarm/)
[ "$code" != 404 ] || exec "$FAKE/bin/docker-base" "$@"
[ "$code" = 200 ] || { cat "$FAKE/answer-$$" >&2; exit 1; }
exec cat "$FAKE/answer-$$"
"""


class Refusal(Exception):
    """What docker says when it fails."""


class StandInSwarm:
    """Has the stack of `services`, deployed with the image 0.1.0, and no canary yet."""

    def __init__(self, folder, services):
        self.folder = folder
        # Lines as of `docker service ls`: name, tab, replicas.
        self.listed = services
        container = {"Image": "ingestion-service:0.1.0", "Env": [], "Mounts": []}
        self.services = {STABLE: {"Spec": {"TaskTemplate": {"ContainerSpec": container}}}}
        # Newest first.
        self.tasks = []
        self.calls = []
        self.broken = set()
        self.settings = {}
        self.events = {}
        self.prometheus = "prometheus-container"
        self.prometheus_port = free_port()
        self._processes = {}
        self._lock = threading.Lock()
        self._put_docker()
        self._server = Server(os.path.join(folder, "swarm.sock"), Handler)
        self._server.swarm = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def _put_docker(self):
        programs = os.path.join(self.folder, "bin")
        os.rename(f"{programs}/docker", f"{programs}/docker-base")
        with open(os.open(f"{programs}/docker", os.O_WRONLY | os.O_CREAT, 0o755), "w") as file:
            file.write(DOCKER)
        # What Prometheus's image has; curl stands in, which the tests need anyway.
        os.mkdir(f"{self.folder}/container-bin")
        with open(os.open(f"{self.folder}/container-bin/wget", os.O_WRONLY | os.O_CREAT, 0o755), "w") as file:
            file.write(
                '#!/bin/sh\nwhile [ $# -gt 1 ]; do case $1 in --header) header=$2; shift 2 ;; -T|-O) shift 2 ;; '
                '*) shift ;; esac; done\nexec curl -sf ${header:+-H "$header"} "$1"\n'
            )

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for process in self._processes.values():
            process.kill()
            process.wait()

    def when(self, words, action):
        """What else happens, once, when docker is called with these words."""
        self.events[words] = action

    def log(self):
        """What the canary's processes have said."""
        try:
            with open(os.path.join(self.folder, "log")) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def image(self, name=CANARY):
        return self.services[name]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]

    def process(self):
        """That of the canary."""
        return self._processes[self.current()["ID"]]

    def kill(self):
        self.process().kill()
        self.process().wait()

    def volume(self):
        return os.path.join(self.folder, "volumes", "ingestd_journal-canary")

    def current(self):
        """The canary's task that is to run, if there is one."""
        return next((task for task in self.tasks if task["DesiredState"] == "running"), None)

    def start(self):
        spec = self.services[CANARY]["Spec"]
        container = spec["TaskTemplate"]["ContainerSpec"]
        task = {
            "ID": uuid.uuid4().hex, "Spec": {"ContainerSpec": container}, "DesiredState": "running",
            "Status": {"State": "starting"}, "port": 0,
        }  # fmt: skip
        if container["Image"] not in self.broken:
            ports = spec["EndpointSpec"]["Ports"]
            task["port"] = ports[0]["PublishedPort"] if ports else free_port()
            volume = os.path.join(self.folder, "volumes", container["Mounts"][0]["Source"])
            os.makedirs(volume, exist_ok=True)
            environment = self.settings | {
                "PATH": os.environ["PATH"], "HTTP_PORT": str(task["port"]), "JOURNAL_PATH": f"{volume}/journal",
            }  # fmt: skip
            with open(os.path.join(self.folder, "log"), "ab") as log:
                self._processes[task["ID"]] = subprocess.Popen(
                    [BINARY, "serve"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
                )
        self.tasks[:0] = [task]
        del self.tasks[HISTORY:]

    def stop(self):
        task = self.current()
        if not task:
            return
        task["DesiredState"] = "shutdown"
        process = self._processes.get(task["ID"])
        if process:
            process.terminate()
            process.wait(20)
        if task["Status"]["State"] in ("running", "starting"):
            task["Status"] = {"State": "shutdown"}

    def refresh(self):
        task = self.current()
        if not task:
            return
        process = self._processes.get(task["ID"])
        if not process or process.poll() is not None:
            task["DesiredState"] = "shutdown"
            task["Status"] = {
                "State": "failed", "Err": "task: non-zero exit (1)", "Timestamp": "2026-01-01T00:00:00Z"
            }  # fmt: skip
            self.start()
            return
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{task['port']}/livez", timeout=5):
                task["Status"] = {"State": "running"}
        except OSError:
            pass

    def deploy(self, environment):
        """The canary, as stack.canary.yml has it."""

        def value(match):
            return environment.get(match[1]) or match[2]

        with open(os.path.join(environment["HERE"], "stack.canary.yml")) as file:
            text = re.sub(r"\$\{([A-Z_]+):-([^}]*)\}", value, file.read())
        stack = yaml.safe_load(text)
        service = stack["services"]["ingestion-canary"]
        container = {
            "Image": service["image"],
            "Env": [f"{name}={value}" for name, value in service["environment"].items()],
            "Mounts": [
                {"Type": "volume", "Source": stack["volumes"][mount["source"]]["name"], "Target": mount["target"]}
                for mount in service["volumes"]
            ],
        }
        ports = [
            {"TargetPort": port["target"], "PublishedPort": int(port["published"])} for port in service["ports"]
        ]  # fmt: skip
        networks = [f"ingestd_{name}" for name in service["networks"]]
        self.replace({
            "Labels": {"com.docker.stack.image": service["image"]}, "EndpointSpec": {"Ports": ports},
            "TaskTemplate": {"ContainerSpec": container, "Networks": networks},
        })  # fmt: skip

    def replace(self, spec):
        if self.services.get(CANARY, {}).get("Spec") != spec:
            self.stop()
            self.services[CANARY] = {"Spec": spec}
            self.start()

    def update(self, arguments):
        assert arguments.pop() == CANARY, "nothing but the canary is updated"
        spec = json.loads(json.dumps(self.services[CANARY]["Spec"]))
        template = spec["TaskTemplate"]
        container = template["ContainerSpec"]
        while arguments:
            match arguments:
                case ["--detach" | "--with-registry-auth" | "--no-resolve-image", *rest]:
                    pass
                case ["--update-failure-action" | "--update-order", _, *rest]:
                    pass
                case ["--image", image, *rest]:
                    container["Image"] = image
                case ["--label-add", label, *rest]:
                    spec["Labels"].update([label.split("=", 1)])
                case ["--publish-rm", port, *rest]:
                    ports = spec["EndpointSpec"]
                    ports["Ports"] = [entry for entry in ports["Ports"] if entry["TargetPort"] != int(port)]
                case ["--network-rm", network, *rest]:
                    template["Networks"] = [name for name in template["Networks"] if name != network]
                case ["--env-add", entry, *rest]:
                    name = entry.partition("=")[0]
                    container["Env"] = [e for e in container["Env"] if e.partition("=")[0] != name] + [entry]
                case _:
                    raise Refusal(f"unknown flag: {arguments[0]}")
            arguments = rest
        self.replace(spec)

    def execute(self, container, script, url):
        """`sh -c SCRIPT URL` in Prometheus's container."""
        if container != self.prometheus:
            raise Refusal(f"No such container: {container}")
        task = self.current()
        names = {"127.0.0.1:9090": self.prometheus_port}
        if task and task["Status"]["State"] == "running":
            names["tasks.ingestd-canary:8080"] = task["port"]
        name = re.match("http://([^/]+)", url)[1]
        if name not in names:
            raise Refusal(f"wget: bad address '{name}'")
        url = url.replace(name, f"127.0.0.1:{names[name]}", 1)
        if script == 'exec wget -q -T 10 -O - "$0"':
            # Most calls are like this.
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        script = script.replace("/run/secrets/", f"{self.folder}/mine/")
        done = subprocess.run(
            ["sh", "-c", script, url], env={"PATH": f"{self.folder}/container-bin:{os.environ['PATH']}"},
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise Refusal(f"wget: exit code {done.returncode} {done.stderr}")
        return done.stdout

    def ask(self, arguments, environment):
        """What docker prints; `None` if this is not for Swarm.

        Raises `Refusal` where docker would fail.
        """
        with self._lock:
            self.refresh()
            answer = self.answer(arguments, environment)
            self.calls.append(" ".join(arguments))
            for words in [words for words in self.events if words in self.calls[-1]]:
                self.events.pop(words)()
        return answer

    def answer(self, arguments, environment):
        match arguments:
            case ["service", "ls", *_, form] if "Ports" in form:
                canary = self.services.get(CANARY)
                lines = [
                    f"{CANARY}\t*:{port['PublishedPort']}->{port['TargetPort']}/tcp"
                    for port in (canary["Spec"]["EndpointSpec"]["Ports"] if canary else [])
                ]
            case ["service", "ls", *_, form]:
                lines = self.listed.splitlines()
                if CANARY in self.services:
                    task = self.current()
                    lines.append(f"{CANARY}\t{int(bool(task) and task['Status']['State'] == 'running')}/1")
                lines = [line if "Replicas" in form else line.partition("\t")[0] for line in lines]
            case ["service", "inspect", name] if name in self.services:
                lines = [json.dumps([self.services[name]])]
            case ["service", "inspect", "--format", "{{json .UpdateStatus}}", _]:
                lines = ["null"]
            case ["service", "ps", *_, name] if name.endswith("-init"):
                lines = ["Complete 1 second ago\t"]
            case ["service", "ps", "--quiet", "--no-trunc", name]:
                lines = [task["ID"] for task in self.tasks] if name == CANARY else []
            case ["inspect", "--type", "task", *names]:
                lines = [json.dumps([task for task in self.tasks if task["ID"] in names])]
            case ["service", "update", *rest]:
                lines = []
                self.update(rest)
            case ["service", "rm", name]:
                assert name == CANARY
                self.stop()
                self.tasks.clear()
                del self.services[CANARY]
                lines = [name]
            case ["stack", "deploy", "--compose-file", "stack.canary.yml", *_]:
                lines = []
                self.deploy(environment)
            case ["stack", "deploy", *_]:
                image = f"ingestion-service:{environment['TAG']}"
                self.services[STABLE]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] = image
                return None
            case ["exec", container, "sh", "-c", script, url]:
                return self.execute(container, script, url)
            case ["ps", *rest]:
                lines = [self.prometheus] if any("ingestd_prometheus" in argument for argument in rest) else []
            case ["volume", "ls", *_]:
                lines = os.listdir(os.path.join(self.folder, "volumes"))
            case _:
                return None
        return "".join(f"{line}\n" for line in lines)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        arguments, _, environment = self.rfile.read(int(self.headers["Content-Length"])).decode().partition("\0\0")
        variables = dict(entry.partition("=")[::2] for entry in environment.split("\0"))
        try:
            answer = self.server.swarm.ask(arguments.split("\0"), variables)
            code, text = (404, "") if answer is None else (200, answer)
        except (Refusal, urllib.error.URLError) as refusal:
            code, text = 500, f"{refusal}\n"
        except Exception:
            code, text = 500, traceback.format_exc()
        self.send_response(code)
        self.end_headers()
        # Never empty: curl makes no file then, and an older one may be there.
        self.wfile.write((text or "\n").encode())

    def log_message(self, *_):
        pass
