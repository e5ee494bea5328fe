"""What is checked, in order. Each check says in one line what it saw, or raises `Failure`."""

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from .laboratory import Failure
from .local_images import ROOT, RUNTIME_BASE, STAND_IN_BASE
from .pipeline import ONE_SHOTS, REPLICAS, RUNNING, SERVICE, STACK, Load, Pipeline, wait_for

CANARY_PORT = 8081
Check = Callable[[Pipeline], str]
# Without these there is nothing to look at. All others stand alone.
_first: list[Check] = []
_others: list[Check] = []


def first(check: Check) -> Check:
    """A check that the others need."""
    _first.append(check)
    return check


def other(check: Check) -> Check:
    """A check after the deployment, on healthy services, which it leaves healthy."""
    _others.append(check)
    return check


def names() -> list[str]:
    """The checks that can be asked for."""
    return [check.__name__ for check in _others]


@dataclass
class Count:
    """How many checks did what."""

    passed: int = 0
    failed: int = 0


def run_all(pipeline: Pipeline, count: Count, only: list[str]) -> None:
    """Runs the checks and prints a line for each; those that can't be run any more count as failed."""
    others = [check for check in _others if not only or check.__name__ in only]
    for check in _first:
        if not _run(pipeline, count, check):
            count.failed += len(_first) - _first.index(check) - 1 + len(others)
            return
    for check in others:
        # What a failed check has left must not fail the next one.
        if not _run(pipeline, count, check):
            with contextlib.suppress(Failure):
                wait_for("healthy services", pipeline.is_healthy, 120)


def _run(pipeline: Pipeline, count: Count, check: Check) -> bool:
    started = time.monotonic()
    try:
        words, mark = check(pipeline), "ok    "
        count.passed += 1
    except (Failure, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
        words, mark = f"{type(error).__name__}: {error}" if not isinstance(error, Failure) else str(error), "FAILED"
        count.failed += 1
    print(f"{mark} {time.monotonic() - started:6.1f} s  {check.__name__}: {words}", flush=True)
    return mark != "FAILED"


# Deployment


@first
def images(pipeline: Pipeline) -> str:
    """The project's Dockerfile builds without a registry."""
    for tag in ("0.1.0", "0.1.1", "0.1.2"):
        pipeline.must("stack-image", TAG=tag, RUNTIME_IMAGE=RUNTIME_BASE)
    docker = pipeline.docker
    alone = ("--rm", "--read-only", "--cap-drop=ALL", "--network=none")
    shown = docker.run("run", *alone, f"{SERVICE}:0.1.0", "--version")
    user = docker.run("image", "inspect", "--format", "{{.Config.User}}", f"{SERVICE}:0.1.0")
    if user != "10001:10001":
        raise Failure(f"the image's user is {user}")
    return f"`make stack-image` built service and schema; the program runs as {user}: {shown}"


@first
def refusals(pipeline: Pipeline) -> str:
    """What keeps a deployment from being tried is said, and nothing is changed by it."""
    pipeline.refused("not in a Swarm")
    pipeline.settings["STACK_SWARM_INIT"] = "1"
    with socket.create_server(("0.0.0.0", 8080)):
        pipeline.refused("port 8080 is in use by another program")
    # From here on it is a Swarm: an already initialised one is no obstacle.
    pipeline.refused("ingestion-service:9.9 is not on this machine", TAG="9.9")
    if pipeline.docker.run("service", "ls", "--quiet") or pipeline.docker.run("secret", "ls", "--quiet"):
        raise Failure("something was deployed")
    return "no Swarm, a port in use and a missing image are named"


@first
def deployment(pipeline: Pipeline) -> str:
    """A deployment that was given up half-way can be gone on with; in the end all is healthy."""
    pipeline.refused("not there after 3 s", STACK_TIMEOUT="3")
    text = pipeline.must("stack-up")
    if "ingestd is up." not in text:
        raise Failure(f"it does not say where things are:\n{text}")
    wait_for("healthy services", pipeline.is_healthy, 30)
    return f"given up after 3 s, gone on with: {', '.join(RUNNING)} are healthy, {' and '.join(ONE_SHOTS)} are done"


@first
def http_to_clickhouse(pipeline: Pipeline) -> str:
    """Events through the published port, rows out of ClickHouse."""
    for token, expected in ((None, 401), ("http_operations_token", 403)):
        status, text = pipeline.request("POST", "/v1/events", b"{}", token=token)
        if status != expected:
            raise Failure(f"with the token {token} it answered {status}: {text}")
    prefix = f"http-{secrets.token_hex(4)}-"
    ids = [f"{prefix}{number}" for number in range(1000)]
    for start in range(0, len(ids), 100):
        status, text = pipeline.send(ids[start : start + 100])
        if status != 202:
            raise Failure(f"answered {status}: {text}")
    status, text = pipeline.send([f"{prefix}inserted"], "?ack=inserted&timeout=20s", seconds=30)
    if status != 200:
        raise Failure(f"ack=inserted answered {status}: {text}")
    pipeline.wait_for_rows({*ids, f"{prefix}inserted"}, prefix)
    return f"{len(ids) + 1} events sent with the token, {len(pipeline.rows(prefix))} rows counted"


# What runs


@other
def kafka_to_clickhouse(pipeline: Pipeline) -> str:
    """The topics are as asked for, and both replicas consume them."""
    made = pipeline.docker.run("service", "logs", "--raw", f"{STACK}_kafka")
    for topic, partitions in (("events", 6), ("events.dlq", 1)):
        if f"created {topic} with {partitions} partitions" not in made:
            raise Failure(f"{topic} was not created by kafka-init:\n{made}")
    prefix = f"kafka-{secrets.token_hex(4)}-"
    ids = [f"{prefix}{number}" for number in range(600)]
    lines = "".join(json.dumps({"event_id": name}) + "\n" for name in ids).encode()
    produced = pipeline.execute(
        "kafka", "kafka-dev", "produce", "--bootstrap-servers", "kafka:9092", "--topic", "events",
        "--key-field", "event_id", given=lines,
    )  # fmt: skip
    if produced.split()[-1] != "600":
        raise Failure(f"produced: {produced}")
    pipeline.wait_for_rows(set(ids), prefix, 90)
    partitions = pipeline.query(f"SELECT uniqExact(partition) FROM events WHERE startsWith(event_id, '{prefix}')")
    return f"{len(ids)} messages of {partitions} partitions, all in ClickHouse"


@other
def deployed_again(pipeline: Pipeline) -> str:
    """`stack-up` once more changes nothing."""
    before = {name: pipeline.tasks(name) for name in RUNNING}
    text = pipeline.must("stack-up")
    after = {name: pipeline.tasks(name) for name in RUNNING}
    if before != after:
        raise Failure(f"tasks were replaced: {before} {after}")
    if "created the secret" in text:
        raise Failure(f"it made secrets anew:\n{text}")
    return "all tasks are the same as before"


@other
def networks(pipeline: Pipeline) -> str:
    """Who is not meant to be reached is not."""
    code = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    probe, docker = ("python3", "-c", code), pipeline.docker
    scraper = pipeline.containers("prometheus")[0]

    def reaches(network: str, host: str, port: int) -> bool:
        return docker.succeeds("run", "--rm", "--network", network, STAND_IN_BASE, *probe, host, str(port))

    edge = f"{STACK}_edge"
    if not reaches(edge, SERVICE, 8080):
        raise Failure("the service can't be reached in the network edge")
    for host, port in (("clickhouse", 8123), ("kafka", 9092), ("prometheus", 9090)):
        if reaches(edge, host, port):
            raise Failure(f"{host} can be reached from the network edge")
        if port != 9090 and docker.succeeds("exec", scraper, *probe, host, str(port)):
            raise Failure(f"{host} can be reached from Prometheus")
    if reaches(f"{STACK}_data", "clickhouse", 8123):
        raise Failure("anybody can be attached to the network data")
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 8123), 2):
        raise Failure("ClickHouse is published")
    return "edge reaches the service only; ClickHouse and Kafka are reached from data only"


@other
def containers(pipeline: Pipeline) -> str:
    """Each replica has a name and a journal of its own, and may do little."""
    docker, seen = pipeline.docker, set()
    for container in pipeline.containers(SERVICE):
        shown = json.loads(docker.run("inspect", container))[0]
        mounts = {mount["Destination"]: mount["Name"] for mount in shown["Mounts"] if mount["Type"] == "volume"}
        environment = dict(line.split("=", 1) for line in shown["Config"]["Env"])
        seen.add((shown["Config"]["Hostname"], mounts["/var/lib/ingestd"], environment["KAFKA_GROUP_INSTANCE_ID"]))
        if not shown["HostConfig"]["ReadonlyRootfs"] or shown["Config"]["User"] != "10001:10001":
            raise Failure(f"{container} may write, or is root")
    expected = {
        (f"{SERVICE}-{slot}", f"{STACK}_journal-{slot}", f"{SERVICE}-{slot}") for slot in range(1, REPLICAS + 1)
    }  # fmt: skip
    if seen != expected:
        raise Failure(f"{seen}")
    return ", ".join(volume for _, volume, _ in sorted(seen)) + " with names and Kafka instances of the same numbers"


@other
def prometheus(pipeline: Pipeline) -> str:
    """Prometheus finds and scrapes both replicas, and has the alert rules."""

    def ask(path: str) -> dict:
        url = f"http://127.0.0.1:9090/api/v1/{path}"
        return json.loads(pipeline.execute("prometheus", "wget", "-q", "-O", "-", url))

    def scraped() -> list:
        # A canary is a target also while there is none.
        targets = [
            target for target in ask("targets")["data"]["activeTargets"] if target["labels"]["track"] == "stable"
        ]  # fmt: skip
        if len(targets) != REPLICAS or any(target["health"] != "up" for target in targets):
            raise Failure(str([(target["scrapeUrl"], target["health"], target["lastError"]) for target in targets]))
        return targets

    targets = wait_for("targets of Prometheus", scraped, 60)
    rules = [rule for group in ask("rules")["data"]["groups"] for rule in group["rules"]]
    with open(os.path.join(ROOT, "deploy/prometheus/alerts.yml"), encoding="utf-8") as file:
        wanted = len(re.findall(r"^\s*- alert:", file.read(), re.MULTILINE))
    alerts = [rule for rule in rules if rule["type"] == "alerting"]
    unwell = [rule["name"] for rule in rules if rule.get("lastError")]
    if len(alerts) != wanted or unwell:
        raise Failure(f"{len(alerts)} alerts of {wanted}; in error: {unwell}")
    firing = sorted({rule["name"] for rule in alerts if rule["state"] == "firing"})
    if firing:
        raise Failure(f"alerts fire: {firing}")
    return f"{len(targets)} replicas are scraped, {len(alerts)} alerts are loaded and none fires"


# Updates


@other
def rolling_update(pipeline: Pipeline) -> str:
    """An update under load loses nothing."""
    before = pipeline.version()
    with Load(pipeline) as load:
        wait_for("first answers", lambda: len(load.acknowledged) > 50, 30)
        pipeline.must("stack-up", TAG="0.1.1")
    pipeline.settings["TAG"] = "0.1.1"
    if pipeline.version() != {"0.1.1"}:
        raise Failure(f"the version is {pipeline.version()}")
    return f"{before.pop()} to 0.1.1: {load.check()}"


def _rolled_back(pipeline: Pipeline, tag: str, dockerfile: str) -> str:
    pipeline.docker.run("build", "--quiet", "--tag", f"{SERVICE}:{tag}", "-", given=dockerfile.encode())
    before = pipeline.version()
    with Load(pipeline) as load:
        text = pipeline.refused("failed, and it was rolled back", TAG=tag)
        wait_for("healthy services", pipeline.is_healthy, 120)
        if pipeline.version() != before:
            raise Failure(f"the version is {pipeline.version()}")
        count = len(load.acknowledged)
        wait_for("events after it", lambda: len(load.acknowledged) > count + 50, 30)
    # As it says; the service is as it was, so this is for what runs once.
    tasks = pipeline.tasks(SERVICE)
    pipeline.must("stack-up")
    if pipeline.tasks(SERVICE) != tasks:
        raise Failure("the next stack-up replaced the service's tasks")
    reason = re.search(r"was rolled back\.\n\s+(.*)", text)
    return f"back at {before.pop()} ({reason[1] if reason else 'no reason'}); {load.check()}"


@other
def rollback_of_a_crash(pipeline: Pipeline) -> str:
    """Swarm itself takes back an image that ends at once."""
    image = f"FROM {SERVICE}:0.1.1\nENTRYPOINT [\"/bin/false\"]\n"
    # schema-init and kafka-init are of the same tag.
    pipeline.docker.run("tag", f"{SERVICE}-schema:0.1.1", f"{SERVICE}-schema:9.1")
    return _rolled_back(pipeline, "9.1", image)


@other
def rollback_of_an_unhealthy_image(pipeline: Pipeline) -> str:
    """Swarm itself takes back an image that runs and is not healthy."""
    image = f"FROM {SERVICE}:0.1.1\nENTRYPOINT [\"/bin/sh\", \"-c\", \"trap exit TERM; sleep 1000000 & wait\"]\n"
    pipeline.docker.run("tag", f"{SERVICE}-schema:0.1.1", f"{SERVICE}-schema:9.2")
    return _rolled_back(pipeline, "9.2", image)


# Faults


@other
def killed_tasks(pipeline: Pipeline) -> str:
    """Each service's task is killed in turn, under load: all come back, and nothing is lost."""
    took = []
    with Load(pipeline) as load:
        wait_for("first answers", lambda: len(load.acknowledged) > 50, 30)
        for service in RUNNING:
            for container in pipeline.containers(service):
                started = time.monotonic()
                if service == SERVICE:
                    # What is killed then has events that are nowhere but in its journal.
                    with pipeline.paused("clickhouse"):
                        count = len(load.acknowledged)
                        wait_for("events in journals", lambda: len(load.acknowledged) > count + 200, 30)
                        pipeline.docker.run("kill", "--signal", "KILL", container)
                else:
                    pipeline.docker.run("kill", "--signal", "KILL", container)
                wait_for(f"another task for {service}", lambda: container not in pipeline.containers(service), 30)
                wait_for(f"{service} and all others healthy", pipeline.is_healthy, 150)
                took.append(f"{service} {time.monotonic() - started:.0f} s")
        count = len(load.acknowledged)
        wait_for("events after it", lambda: len(load.acknowledged) > count + 50, 30)
    return f"healthy again: {', '.join(took)}; {load.check()}"


@other
def restarted_node(pipeline: Pipeline) -> str:
    """Docker is restarted with all its containers, as when the machine is: all come back, and nothing is lost."""
    with Load(pipeline) as load:
        wait_for("first answers", lambda: len(load.acknowledged) > 50, 30)
        started = time.monotonic()
        # stop_grace_period is up to 90 s.
        pipeline.docker.stop(100)
        count = len(load.acknowledged)
        pipeline.docker.launch()
        wait_for("healthy services", pipeline.is_healthy, 240)
        took = time.monotonic() - started
        wait_for("events after it", lambda: len(load.acknowledged) > count + 50, 60)
    return f"healthy again after {took:.0f} s; {load.check()}"


# Canary


@other
def canary_promoted(pipeline: Pipeline) -> str:
    """A canary takes part, is compared, and all get its image."""
    prefix = f"canary-{secrets.token_hex(4)}-"
    with Load(pipeline) as load:
        pipeline.must("canary-up", TAG="0.1.2")
        ids = {f"{prefix}{number}" for number in range(300)}
        status, text = pipeline.send(sorted(ids), port=CANARY_PORT)
        if status != 202:
            raise Failure(f"the canary answered {status}: {text}")
        pipeline.refused("not promoted, for: ", "canary-promote", CANARY_MINUTES="60")
        wait_for("promotion", lambda: pipeline.must("canary-promote", CANARY_MINUTES="1"), 300)
    pipeline.settings["TAG"] = "0.1.2"
    pipeline.wait_for_rows(ids, prefix)
    if pipeline.version() != {"0.1.2"} or pipeline.containers("ingestion-canary", all_of_them=True):
        raise Failure(f"the version is {pipeline.version()}; canary: {pipeline.containers('ingestion-canary', True)}")
    return f"all replicas have 0.1.2, the canary has gone with nothing left; {load.check()}"


@other
def canary_aborted(pipeline: Pipeline) -> str:
    """A canary that works is taken away with nothing left behind; one that does not is said to end."""
    tasks = pipeline.tasks(SERVICE)
    prefix = f"aborted-{secrets.token_hex(4)}-"
    pipeline.must("canary-up", TAG="0.1.1")
    ids = {f"{prefix}{number}" for number in range(500)}
    with pipeline.paused("clickhouse"):
        status, text = pipeline.send(sorted(ids), port=CANARY_PORT)
        if status != 202:
            raise Failure(f"the canary answered {status}: {text}")
    pipeline.must("canary-abort")
    pipeline.wait_for_rows(ids, prefix)
    pipeline.docker.run("build", "--quiet", "--tag", f"{SERVICE}:9.3", "-",
                        given=f"FROM {SERVICE}:0.1.1\nENTRYPOINT [\"/bin/false\"]\n".encode())  # fmt: skip
    pipeline.refused("the canary ends again and again", "canary-up", TAG="9.3")
    pipeline.must("canary-abort")
    if pipeline.containers("ingestion-canary", all_of_them=True):
        raise Failure("a canary is left")
    if pipeline.tasks(SERVICE) != tasks:
        raise Failure("the stable replicas were replaced")
    return f"{len(ids)} events of the aborted canary are in ClickHouse; a broken one is named; the stable replicas stay"


# Secrets


@other
def changed_secrets(pipeline: Pipeline) -> str:
    """Another SECRETS_VERSION makes new secrets, and everybody gets them."""
    old = pipeline.secret("http_token")
    text = pipeline.must("stack-up", SECRETS_VERSION="2")
    pipeline.settings["SECRETS_VERSION"] = "2"
    pipeline.secrets = os.path.join(os.path.dirname(pipeline.secrets), "secrets-2")
    if text.count("created the secret") != 5 or pipeline.secret("http_token") == old:
        raise Failure(f"no new secrets:\n{text}")
    prefix = f"secrets-{secrets.token_hex(4)}-"
    status, answer = pipeline.send([f"{prefix}1"], "?ack=inserted&timeout=20s", seconds=30)
    if status != 200:
        raise Failure(f"with the new token it answered {status}: {answer}")
    with open(os.path.join(pipeline.secrets, "old"), "w") as file:
        file.write(old)
    status, answer = pipeline.request("POST", "/v1/events", b"{}", token="old")
    if status != 403:
        raise Failure(f"with the old token it answered {status}: {answer}")
    pipeline.wait_for_rows({f"{prefix}1"}, prefix)
    return "new tokens and a new password of ClickHouse are in use; the old token is refused"


# The end


@other
def removal(pipeline: Pipeline) -> str:
    """`stack-down` leaves volumes and secrets, and the next `stack-up` has the rows; then volumes go when asked."""
    docker = pipeline.docker
    prefix = f"down-{secrets.token_hex(4)}-"
    ids = {f"{prefix}{number}" for number in range(200)}
    status, text = pipeline.send(sorted(ids))
    if status != 202:
        raise Failure(f"answered {status}: {text}")
    volumes = set(docker.run("volume", "ls", "--quiet", "--filter", f"name={STACK}_").split())
    kept = docker.run("secret", "ls", "--format", "{{.Name}}").split()
    pipeline.must("stack-down")
    if len(kept) < 5 or docker.run("secret", "ls", "--format", "{{.Name}}").split() != kept:
        raise Failure(f"secrets were {kept} and are {docker.run('secret', 'ls', '--format', '{{.Name}}').split()}")
    left = set(docker.run("volume", "ls", "--quiet", "--filter", f"name={STACK}_").split())
    if docker.run("ps", "--all", "--quiet", "--filter", f"label=com.docker.stack.namespace={STACK}"):
        raise Failure("containers are left")
    # A canary's is there as well, if there was one.
    names = {"kafka", "clickhouse", "prometheus", "grafana", *(f"journal-{slot}" for slot in range(1, REPLICAS + 1))}
    if left != volumes or not {f"{STACK}_{name}" for name in names} <= volumes:
        raise Failure(f"volumes were {volumes} and are {left}")
    pipeline.must("stack-up")
    # The last events before the end were acknowledged, perhaps not inserted yet.
    pipeline.wait_for_rows(ids, prefix)
    pipeline.must("stack-down", STACK_VOLUMES="remove")
    left = docker.run("volume", "ls", "--quiet", "--filter", f"name={STACK}_").split()
    if left:
        raise Failure(f"volumes are left: {left}")
    pipeline.must("stack-down")
    return f"{len(volumes)} volumes and {len(kept)} secrets stayed, and all rows; then the volumes were removed"
