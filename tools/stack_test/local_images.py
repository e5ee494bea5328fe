"""Images under the names and tags of stack.yml's, made on this machine: no registry is reached.

The service's and the schema's are built by the project's own Dockerfile. Those of others are stand-ins, on Debian:

    apache/kafka                   librdkafka's mock broker (images/kafka.py)
    clickhouse/clickhouse-server   today's engine behind HTTP (images/clickhouse.py)
    prom/prometheus                Debian's Prometheus
    grafana/grafana                answers the health check (images/grafana.py)

They keep what stack.yml relies on: users, ports, folders of volumes, and the commands of the health checks.
"""

import glob
import hashlib
import os
import re
import shutil
import subprocess

from .laboratory import Daemon, Failure

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
HERE = os.path.dirname(os.path.realpath(__file__))
# Kept from run to run; `make clean` removes it.
CACHE = os.path.join(ROOT, ".build-stack")
RUNTIME_BASE, STAND_IN_BASE = "ingestd-test/runtime:1", "ingestd-test/stand-in:1"
# wget is what the real images' health checks call; zstandard reads the bodies of the service's inserts.
STAND_IN_PACKAGES = ["python3", "python3-zstandard", "wget"]

_DOCKERFILES = {
    "apache/kafka": """
COPY kafka-dev kafka.py /usr/local/bin/
RUN useradd --uid 1000 appuser && install --directory --owner=appuser --group=root --mode=0775 /var/lib/kafka/data
USER appuser
ENTRYPOINT ["python3", "/usr/local/bin/kafka.py"]
""",
    "clickhouse/clickhouse-server": """
COPY packages /usr/lib/python3/dist-packages
COPY clickhouse_dev /usr/local/share/clickhouse/clickhouse_dev
COPY clickhouse.py /usr/local/bin/
VOLUME /var/lib/clickhouse
ENTRYPOINT ["python3", "/usr/local/bin/clickhouse.py"]
""",
    "prom/prometheus": """
COPY prometheus /bin/prometheus
RUN install --directory --owner=nobody --group=nogroup /prometheus
VOLUME /prometheus
WORKDIR /prometheus
USER nobody
ENTRYPOINT ["/bin/prometheus"]
""",
    "grafana/grafana": """
COPY grafana.py /usr/local/bin/
RUN install --directory --owner=472 --group=0 --mode=0777 /var/lib/grafana
USER 472
ENTRYPOINT ["python3", "/usr/local/bin/grafana.py"]
""",
}


def runtime_packages() -> list[str]:
    """What the Dockerfile wants to find in a base that needs no package mirror."""
    with open(os.path.join(ROOT, "Dockerfile"), encoding="utf-8") as file:
        lists = re.findall(r"packages='([^']+)'", file.read())
    return sorted({package for words in lists for package in words.split()})


def make_bases(folder: str) -> None:
    """Makes the two base systems with debootstrap, unless those of an earlier run will do."""
    packages = runtime_packages()
    key = hashlib.sha256(" ".join([*packages, *STAND_IN_PACKAGES]).encode()).hexdigest()[:12]
    runtime, stand_in = base_archive("runtime", key), base_archive("stand-in", key)
    if os.path.exists(runtime) and os.path.exists(stand_in):
        return
    for old in glob.glob(os.path.join(CACHE, "*.tar")):
        os.remove(old)
    os.makedirs(CACHE, exist_ok=True)
    system, log = os.path.join(folder, "base"), os.path.join(folder, "logs", "debootstrap.log")
    _logged(log, "debootstrap", "--variant=minbase", f"--include={','.join(packages)}", "bookworm", system,
            "http://deb.debian.org/debian")  # fmt: skip
    _archive(system, runtime)
    _logged(log, "chroot", system, "apt-get", "install", "--yes", "--no-install-recommends", *STAND_IN_PACKAGES)
    _archive(system, stand_in)
    shutil.rmtree(system)


def base_archive(name: str, key: str = "*") -> str:
    """The path of a base system's archive."""
    path = os.path.join(CACHE, f"{name}-{key}.tar")
    return next(iter(glob.glob(path)), path)


def _logged(log: str, *command: str) -> None:
    with open(log, "ab") as output:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command[:4])} failed: see {log}")


def _archive(system: str, path: str) -> None:
    subprocess.run(
        [
            "tar", "--create", "--one-file-system", "--file", f"{path}.new", "--directory", system,
            "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "--exclude=./dev/*", ".",
        ],
        check=True,
    )  # fmt: skip
    os.replace(f"{path}.new", path)


def make_programs() -> tuple[str, str]:
    """The paths of the service and of Kafka's stand-in; builds them first unless they are named."""
    named = os.environ.get("STACK_BINARY"), os.environ.get("STACK_KAFKA_BINARY")
    built = os.path.join(ROOT, ".build-image/release/ingestd"), os.path.join(ROOT, ".build-image/release/kafka-dev")
    for product, name in zip(("ingestd", "kafka-dev"), named, strict=True):
        if name:
            continue
        swift = subprocess.run([os.path.join(ROOT, "tools/find-swift")], stdout=subprocess.PIPE, text=True)
        if swift.returncode != 0:
            raise Failure("there is no Swift to build with; or name programs: STACK_BINARY=, STACK_KAFKA_BINARY=")
        command = [swift.stdout.strip(), "build", "-c", "release", "--product", product, "--static-swift-stdlib",
                   "--scratch-path", ".build-image"]  # fmt: skip
        print(f"building {product} (minutes, the first time) ...", flush=True)
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            raise Failure(f"{' '.join(command)} failed")
    paths = [os.path.abspath(name) if name else path for name, path in zip(named, built, strict=True)]
    for path in paths:
        if not os.access(path, os.X_OK):
            raise Failure(f"{path} is no program")
    return paths[0], paths[1]


def python_packages() -> list[str]:
    """What ClickHouse's stand-in needs of the project's virtual environment; it works in any Python 3.9 to 3.14."""
    found = []
    for name in ("chdb", "chdb_core.libs"):
        paths = glob.glob(os.path.join(ROOT, ".venv/lib/python3.*/site-packages", name))
        if not paths:
            raise Failure("there is no chdb in .venv: run tools/setup stack")
        found.append(paths[0])
    return found


def import_bases(docker: Daemon) -> None:
    """Makes images of the base systems."""
    for name, image in (("runtime", RUNTIME_BASE), ("stand-in", STAND_IN_BASE)):
        docker.run("import", base_archive(name), image, seconds=300)


def build_stand_ins(docker: Daemon, folder: str, kafka: str) -> None:
    """Builds the stand-ins, under the very names and tags of stack.yml."""
    with open(os.path.join(ROOT, "stack.yml"), encoding="utf-8") as file:
        images = re.findall(r"^    image: ([^$\s]+)$", file.read(), re.MULTILINE)
    names = {image.rpartition(":")[0] for image in images}
    if names != set(_DOCKERFILES):
        raise Failure(f"stack.yml has images without a stand-in, or the other way round: {names ^ set(_DOCKERFILES)}")
    for image in images:
        name = image.rpartition(":")[0]
        context = os.path.join(folder, "context", name.replace("/", "-"))
        os.makedirs(context)
        with open(os.path.join(context, "Dockerfile"), "w") as file:
            file.write(f"FROM {STAND_IN_BASE}\n{_DOCKERFILES[name].lstrip()}")
        for script in glob.glob(os.path.join(HERE, "images", "*.py")):
            shutil.copy(script, context)
        if name == "apache/kafka":
            shutil.copy(kafka, os.path.join(context, "kafka-dev"))
        if name == "prom/prometheus":
            shutil.copy(shutil.which("prometheus"), context)
        if name == "clickhouse/clickhouse-server":
            shutil.copytree(os.path.join(ROOT, "tools/clickhouse_dev"), os.path.join(context, "clickhouse_dev"))
            for path in python_packages():
                shutil.copytree(path, os.path.join(context, "packages", os.path.basename(path)))
        docker.run("build", "--quiet", "--tag", image, context, seconds=600)
        shutil.rmtree(context)
