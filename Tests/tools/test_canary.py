"""stack.canary.yml is stack.yml's service with a journal of its own, and tools/canary lets go of nothing: neither of
events that only the canary has, nor of the stable replicas. The canary is a real `ingestd`; Swarm is a stand-in."""

import http.client
import http.server
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
import urllib.parse
import urllib.request

import yaml

from clickhouse_fixture import ROOT, DevelopmentClickHouse, wait_until
from service_fixture import Service, free_port
from stack_fixture import StackToolCase, read, stack
from swarm_fixture import CANARY, STABLE, StandInSwarm

TOKEN = "watcher"
has_prometheus = shutil.which("prometheus")
needs_prometheus = unittest.skipUnless(has_prometheus, "Debian's package prometheus is not installed")


def canary_file():
    """stack.canary.yml with the defaults of its variables."""
    return yaml.safe_load(re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", read("stack.canary.yml")))


class CanaryFileTests(unittest.TestCase):
    def setUp(self):
        self.stack, self.canary = stack(), canary_file()

    def test_docker_accepts_it_alone_and_with_the_stack(self):
        if not shutil.which("docker"):
            self.skipTest("no docker")
        environment = os.environ | {"DOCKER_HOST": f"unix://{ROOT}/no-daemon-here"}

        def docker(*arguments):
            return subprocess.run(
                ["docker", "stack", *arguments], cwd=ROOT, capture_output=True, text=True, env=environment, timeout=60
            )  # fmt: skip

        for files in (["stack.canary.yml"], ["stack.yml", "stack.canary.yml"]):
            options = [option for file in files for option in ("--compose-file", file)]
            checked = docker("deploy", *options, "ingestd")
            self.assertRegex(checked.stderr, "connect to the Docker daemon at .*no-daemon-here", "got past the files")
            self.assertNotIn("gnoring", checked.stderr, "nothing in them that Swarm ignores")
            if not re.search(r"^  config ", docker("--help").stdout, re.MULTILINE):
                continue  # Docker 20.10, which is Debian 12's, has no such command
            answer = docker("config", *options)
            self.assertEqual((answer.returncode, answer.stderr), (0, ""))
            shown = yaml.safe_load(answer.stdout)
            expected = set(self.canary["services"]) | (set(self.stack["services"]) if len(files) == 2 else set())
            self.assertEqual(set(shown["services"]), expected)
            published = shown["services"]["ingestion-canary"]["ports"][0]["published"]
            self.assertEqual(published, 8081)

    def test_docker_knows_the_flags_that_drain(self):
        if not shutil.which("docker"):
            self.skipTest("no docker")
        known = subprocess.run(["docker", "service", "update", "--help"], capture_output=True, text=True).stdout
        used = re.search(r'"service", "update", (.*?)\)  # fmt', read("tools/canary"), re.DOTALL)[1]
        flags = re.findall(r'"(--[\w-]+)"', used)
        self.assertGreater(len(flags), 8)
        for flag in flags:
            self.assertRegex(known, rf"(?m)^\s+(-\w, )?{flag}\s")

    def test_it_is_the_service_with_a_name_and_a_journal_of_its_own(self):
        stable, canary = self.stack["services"]["ingestion-service"], self.canary["services"]["ingestion-canary"]
        self.assertEqual(list(self.canary["services"]), ["ingestion-canary"])
        own = {
            "image": "ingestion-service:0.1.0",
            "hostname": "ingestion-canary",
            "networks": {
                "edge": {"aliases": ["ingestd-all"]}, "data": None, "monitoring": {"aliases": ["ingestd-canary"]},
            },
            "ports": [{**stable["ports"][0], "published": "8081"}],
            "environment": {**stable["environment"], "KAFKA_GROUP_INSTANCE_ID": "ingestion-canary"},
            "volumes": [{**stable["volumes"][0], "source": "journal-canary"}],
            "deploy": {**stable["deploy"], "replicas": 1},
        }  # fmt: skip
        self.assertEqual(canary, {**stable, **own})
        self.assertNotEqual(canary["environment"], stable["environment"])
        self.assertNotIn("{{", self.canary["volumes"]["journal-canary"]["name"], "one replica, one volume")
        self.assertTrue(re.search(r"image: \$\{INGESTD_IMAGE:-.*\}:\$\{CANARY_TAG:-", read("stack.canary.yml")))

    def test_what_both_files_define_is_the_same(self):
        for kind in ("networks", "secrets"):
            self.assertTrue(self.canary[kind])
            for name, definition in self.canary[kind].items():
                self.assertEqual(definition, self.stack[kind][name], name)
        self.assertNotIn("configs", self.canary, "tools/stack names them by their content")
        variables = set(re.findall(r"\$\{[A-Z_]+:-[^}]*\}", read("stack.canary.yml")))
        own = {"${CANARY_TAG:-0.1.0}", "${CANARY_HTTP_PORT:-8081}"}
        self.assertEqual(variables - set(re.findall(r"\$\{[A-Z_]+:-[^}]*\}", read("stack.yml"))), own)

    def test_the_tracks_can_be_told_apart(self):
        aliases = {
            "stable": self.stack["services"]["ingestion-service"]["networks"],
            "canary": self.canary["services"]["ingestion-canary"]["networks"],
        }
        # Senders and proxies reach both by one name.
        self.assertEqual(aliases["stable"]["edge"]["aliases"], aliases["canary"]["edge"]["aliases"])
        stable, canary = (f"tasks.{networks['monitoring']['aliases'][0]}" for networks in aliases.values())
        job = yaml.safe_load(read("deploy/stack/prometheus.yml"))["scrape_configs"][0]
        self.assertEqual(job["dns_sd_configs"][0]["names"], [stable])
        self.assertEqual(job["static_configs"], [{"targets": [f"{canary}:8080"], "labels": {"track": "canary"}}])
        other = yaml.safe_load(read("deploy/prometheus/prometheus.yml"))["scrape_configs"][0]
        self.assertEqual(other["relabel_configs"], job["relabel_configs"])
        self.assertIn(f'"http://{canary}:8080/metrics"', read("tools/canary"))


class CanaryCase(StackToolCase):
    """A stack that was deployed with 0.1.0, in a copy of what tools/canary needs of the repository."""

    TOOL = "tools/canary"

    def setUp(self):
        super().setUp()
        self.root = f"{self.folder}/root"
        os.makedirs(f"{self.root}/tools")
        for name in ("tools/stack", "tools/canary", "stack.yml", "stack.canary.yml"):
            shutil.copy(os.path.join(ROOT, name), f"{self.root}/{name}")
        os.symlink(os.path.join(ROOT, "deploy"), f"{self.root}/deploy")
        for name in ("volumes", "mine"):
            os.mkdir(f"{self.folder}/{name}")
        self.write("mine/http_operations_token", TOKEN)
        self.write("images", self.fake("images") + "ingestion-service:0.2.0\ningestion-service-schema:0.2.0\n")
        self.swarm = StandInSwarm(self.folder, self.fake("deployed"))
        self.addCleanup(self.swarm.close)
        self.set(CLICKHOUSE_URL=f"http://127.0.0.1:{free_port()}")
        self.port = free_port()
        self.environment |= {
            "CANARY_HTTP_PORT": str(self.port), "CANARY_DRAIN_TIMEOUT": "30"
        }  # fmt: skip

    def set(self, **settings):
        """Settings of the canary's processes."""
        self.swarm.settings = {
            "KAFKA_CONSUMER_ENABLED": "false", "SHUTDOWN_TIMEOUT": "100ms", "RETRY_BACKOFF_MAX": "100ms",
            "HOLD_RETRY_INTERVAL": "100ms", "BATCH_MAX_AGE": "1ms", "ROW_MODE": "flat",
            "HTTP_OPERATIONS_TOKEN": TOKEN, **settings,
        }  # fmt: skip

    def run_tool(self, command="up", **changes):
        return subprocess.run(
            [f"{self.root}/{self.TOOL}", command], env=self.environment | changes, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip

    def succeeds(self, command="up", **changes):
        answer = self.run_tool(command, **changes)
        self.assertEqual(answer.returncode, 0, f"{answer.stdout}{answer.stderr}\n{self.swarm.log()}")
        return answer.stdout

    def calls(self):
        return "\n".join(self.swarm.calls)

    def stable_is_untouched(self):
        self.assertEqual(self.swarm.image(STABLE), "ingestion-service:0.1.0")
        for line in self.swarm.calls:
            self.assertNotRegex(line, r"^stack deploy --compose-file stack\.yml")
            self.assertNotRegex(line, f"^service (update|rm|rollback|scale) .*{STABLE}$")

    def send(self, *ids, query="", port=None):
        body = "\n".join(json.dumps({"event_id": event}) if event else "none" for event in ids)
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            connection.request("POST", f"/v1/events{query}", body, {"Content-Type": "application/x-ndjson"})
            return connection.getresponse().status
        finally:
            connection.close()


class CanaryToolTests(CanaryCase):
    def test_what_is_missing_is_named(self):
        self.refused("make canary-up TAG=")
        self.refused("no tag of an image: a b", TAG="a b")
        answer = self.refused("ingestion-service:0.3.0 is not", "make stack-image TAG=0.3.0", TAG="0.3.0")
        self.assertNotIn("stack deploy", self.calls(), answer.stderr)
        self.refused("there is no canary", command="promote")
        self.assertIn("there is no canary", self.succeeds("abort"))

        self.swarm.listed = self.swarm.listed.replace("ingestd_clickhouse\t1/1", "ingestd_clickhouse\t0/1")
        self.refused("not well", "ingestd_clickhouse: 0/1", TAG="0.2.0")
        self.swarm.listed = ""
        self.refused("make stack-up first", TAG="0.2.0")
        self.write("swarm", '{"LocalNodeState":"inactive","ControlAvailable":false}')
        self.refused("not in a Swarm", TAG="0.2.0")
        self.assertNotIn("stack deploy", self.calls())

    def test_the_tag_of_the_settings_is_not_the_canarys(self):
        os.mkdir(f"{self.root}/.stack")
        self.write("root/.stack/env", "TAG=0.2.0\n")
        self.refused("make canary-up TAG=")

    def test_it_comes_up_beside_the_stack_and_another_does_not_replace_it(self):
        said = self.succeeds(TAG="0.2.0")
        self.assertIn(f"http://127.0.0.1:{self.port}/v1/events", said)
        self.assertIn("IngestdCanaryWorse", said)
        self.assertEqual(self.send("a"), 202)
        self.assertEqual(self.swarm.image(), "ingestion-service:0.2.0")
        process = self.swarm.process()
        self.succeeds(TAG="0.2.0")
        self.assertIs(self.swarm.process(), process, "again, and nothing has changed")
        self.refused("a canary of 0.2.0 is there", "CANARY_REPLACE=1", TAG="0.1.0")
        self.assertEqual(self.swarm.image(), "ingestion-service:0.2.0")
        self.succeeds(TAG="0.1.0", CANARY_REPLACE="1")
        self.assertEqual(self.swarm.image(), "ingestion-service:0.1.0")
        self.assertIn("other than the stable replicas: KAFKA_TOPICS is 'events', theirs None", said)
        self.stable_is_untouched()

    def test_an_image_that_ends_at_once_is_noticed(self):
        self.swarm.broken = {"ingestion-service:0.2.0"}
        self.refused("ends again and again", "non-zero exit (1)", "service logs", "make canary-abort", TAG="0.2.0")
        self.swarm.broken |= {"ingestion-service:0.1.0"}
        answer = self.refused("is still there", "Nothing is lost", "ingestd_journal-canary", command="abort")
        self.assertIn("ingestion-service:0.1.0 does not deliver", answer.stdout)
        self.assertNotIn("service rm", self.calls())

    def test_without_metrics_nothing_is_decided(self):
        self.succeeds(TAG="0.2.0")
        self.refused("nothing is decided", command="promote")
        self.swarm.prometheus = ""
        self.refused("has no container here", "CANARY_DOCKER_HOST", command="promote")
        self.refused("CANARY_MINUTES is no number", command="promote", CANARY_MINUTES="ten")
        self.assertEqual(self.swarm.image(STABLE), "ingestion-service:0.1.0")
        self.assertFalse(os.path.exists(f"{self.root}/.stack/env"))
        self.assertEqual(self.send("a"), 202, "it goes on")

    def test_by_force_and_of_the_image_that_all_have(self):
        self.succeeds(TAG="0.2.0")
        said = self.succeeds("promote", CANARY_FORCE="1")
        self.assertIn("the metrics can't be read", said)
        self.assertEqual(self.swarm.image(STABLE), "ingestion-service:0.2.0")
        self.assertNotIn(CANARY, self.swarm.services)
        self.assertEqual(self.fake("root/.stack/env"), "TAG=0.2.0\n")
        self.succeeds(TAG="0.2.0")
        self.assertIn("the stable replicas have 0.2.0 already", self.succeeds("promote"))
        self.assertNotIn(CANARY, self.swarm.services)

    def test_one_on_its_way_out_can_come_back_with_its_journal(self):
        self.succeeds(TAG="0.2.0")
        self.assertEqual(self.send("a"), 202)
        self.refused("CANARY_DRAIN is auto or stable", command="abort", CANARY_DRAIN="own")
        self.refused("Nothing is lost", command="abort", CANARY_DRAIN="stable", CANARY_DRAIN_TIMEOUT="0.2")
        self.assertNotIn("--image ingestion-service:0.2.0", self.calls())
        self.refused("a canary of 0.1.0 is there", TAG="0.2.0")
        self.succeeds(TAG="0.2.0", CANARY_REPLACE="1")
        self.assertEqual(self.swarm.image(), "ingestion-service:0.2.0")
        self.assertEqual(self.send("b"), 202)
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/metrics")
        request.add_header("Authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(request) as answer:
            self.assertIn('ingest_journal_events{stream="events"} 2\n', answer.read().decode())

        # As an abort that was interrupted leaves it.
        self.swarm.update(["--env-add", "KAFKA_CONSUMER_ENABLED=false", CANARY])
        self.refused("on its way out", command="promote")
        self.assertEqual(self.swarm.image(STABLE), "ingestion-service:0.1.0")


class DeliveryCase(CanaryCase):
    """With a ClickHouse."""

    @classmethod
    def setUpClass(cls):
        cls.clickhouse = DevelopmentClickHouse("chdb")
        cls.addClassCleanup(cls.clickhouse.close)

    def setUp(self):
        super().setUp()
        for name in ("events", "hidden"):
            self.clickhouse.query(f"DROP TABLE IF EXISTS {name}")
        self.clickhouse.query("CREATE TABLE events (event_id String) ENGINE = MergeTree ORDER BY event_id")
        self.set(CLICKHOUSE_URL=f"http://127.0.0.1:{self.clickhouse.port}")

    def rows(self):
        return self.clickhouse.query("SELECT DISTINCT event_id FROM events ORDER BY event_id").split()

    def hide_table(self):
        """Events are accepted and wait from now on."""
        self.clickhouse.query("RENAME TABLE events TO hidden")

    def show_table(self):
        self.clickhouse.query("RENAME TABLE hidden TO events")


class AbortTests(DeliveryCase):
    def test_nothing_is_left_behind(self):
        self.hide_table()
        self.succeeds(TAG="0.2.0")
        ids = [f"e{number}" for number in range(5)]
        self.assertEqual(self.send(*ids), 202)

        # ClickHouse does not take them: it stays, and takes no more.
        answer = self.refused(
            "is still there", "Nothing is lost", "ingestd_journal-canary", command="abort", CANARY_DRAIN_TIMEOUT="0.5"
        )
        self.assertIn("5 events and dead letters wait", answer.stdout)
        self.assertNotIn("service rm", self.calls())
        with self.assertRaises(ConnectionRefusedError):
            self.send("late")
        spec = self.swarm.services.get(CANARY)["Spec"]
        self.assertEqual(spec["EndpointSpec"]["Ports"], [])
        self.assertEqual(spec["TaskTemplate"]["Networks"], ["ingestd_data", "ingestd_monitoring"])
        self.assertIn("KAFKA_CONSUMER_ENABLED=false", spec["TaskTemplate"]["ContainerSpec"]["Env"])

        self.show_table()
        said = self.succeeds("abort")
        self.assertIn("the canary is gone", said)
        self.assertIn("the volume ingestd_journal-canary is still there", said)
        self.assertEqual(self.rows(), ids)
        self.assertIsNone(self.swarm.services.get(CANARY))
        self.stable_is_untouched()
        self.assertNotIn("volume rm", self.calls())

    def test_the_stable_image_delivers_what_a_broken_one_has_accepted(self):
        self.hide_table()
        self.succeeds(TAG="0.2.0")
        ids = [f"e{number}" for number in range(5)]
        self.assertEqual(self.send(*ids), 202)
        self.swarm.broken = {"ingestion-service:0.2.0"}
        self.swarm.kill()
        self.show_table()
        self.assertEqual(self.rows(), [])
        said = self.succeeds("abort")
        self.assertEqual(self.rows(), ids)
        self.assertIsNone(self.swarm.services.get(CANARY))
        self.assertIn("--image ingestion-service:0.1.0", self.calls())
        self.assertIn("--label-add com.docker.stack.image=ingestion-service:0.1.0", self.calls())
        self.stable_is_untouched()
        self.assertIn("the stable replicas still have 0.1.0", said)

    def test_one_that_breaks_while_it_drains_is_replaced(self):
        self.hide_table()
        self.succeeds(TAG="0.2.0")
        self.assertEqual(self.send("a", "b"), 202)
        # Works until it is stopped for the first time.
        self.swarm.broken = {"ingestion-service:0.2.0"}
        self.swarm.when("--image ingestion-service:0.1.0", self.show_table)
        answer = self.succeeds("abort")
        self.assertIn("ingestion-service:0.2.0 does not deliver what the canary has accepted: it ends again", answer)
        self.assertEqual(self.rows(), ["a", "b"])
        self.stable_is_untouched()

    def test_a_journal_of_a_newer_format_stays_where_it_is(self):
        self.hide_table()
        self.succeeds(TAG="0.2.0")
        self.assertEqual(self.send("a"), 202)
        self.swarm.broken = {"ingestion-service:0.2.0"}
        self.swarm.kill()
        # As a version to come might write it: docs/journal-format.md.
        data = f"{self.swarm.volume()}/journal/data.mdb"
        with open(data, "r+b") as file:
            pages, old = file.read(), b"ingestd-journal\0\2\0\0\0"
            self.assertIn(old, pages)
            file.seek(0)
            newer = pages.replace(old, b"ingestd-journal\0\3\0\0\0")
            file.write(newer)
        self.show_table()
        answer = self.refused("newer format", "CANARY_REPLACE=1", "ingestd_journal-canary", command="abort")
        self.assertIn("ends again and again", answer.stdout)
        self.assertRegex(self.swarm.log(), "format")
        self.assertNotIn("service rm", self.calls())
        self.assertNotIn("volume rm", self.calls())
        with open(data, "rb") as file:
            self.assertEqual(file.read(), newer, "the stable version has refused it, and changed nothing")

    def test_dead_letters_keep_the_volume(self):
        self.succeeds(TAG="0.2.0")
        self.assertEqual(self.send("a", None, query="?on_error=dead_letter"), 202)
        wait_until(lambda: self.rows() == ["a"], "the event is delivered", 10)
        self.refused("keep or remove", command="abort", CANARY_VOLUME="yes")
        said = self.succeeds("abort", CANARY_VOLUME="remove")
        self.assertIn("1 dead letters", said)
        self.assertNotIn("volume rm", self.calls())

        shutil.rmtree(self.swarm.volume())
        self.succeeds(TAG="0.2.0")
        self.assertIn("removed the volume ingestd_journal-canary", self.succeeds("abort", CANARY_VOLUME="remove"))
        self.assertIn("volume rm ingestd_journal-canary", self.calls())


class Prometheus:
    """Debian's Prometheus with the stack's configuration, but for the addresses and its patience."""

    def __init__(self, canary, stable):
        """The ports of the two tracks, on loopback."""
        self.folder = tempfile.mkdtemp(prefix="prometheus-")
        configuration = yaml.safe_load(read("deploy/stack/prometheus.yml"))
        configuration["global"] = {"scrape_interval": "100ms", "evaluation_interval": "1m"}
        del configuration["rule_files"]
        job = configuration["scrape_configs"][0]
        del job["dns_sd_configs"]
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{canary}"]
        job["static_configs"].append({"targets": [f"127.0.0.1:{stable}"]})
        job["authorization"]["credentials_file"] = f"{self.folder}/token"
        for name, text in (("token", TOKEN), ("prometheus.yml", yaml.safe_dump(configuration))):
            with open(f"{self.folder}/{name}", "w") as file:
                file.write(text)
        self.port = free_port()
        with open(f"{self.folder}/log", "wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus", f"--config.file={self.folder}/prometheus.yml",
                    f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def query(self, expression):
        """As tools/canary's own."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            result = json.load(answer)["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    def has(self, expression):
        try:
            return self.query(expression) is not None
        except OSError:
            with open(f"{self.folder}/log") as log:
                assert self.process.poll() is None, log.read()
            return False

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder)


@needs_prometheus
class PromotionTests(DeliveryCase):
    def setUp(self):
        super().setUp()
        self.stable = Service(**(self.swarm.settings | {"BATCH_MAX_AGE": "1ms"}))
        self.addCleanup(self.stable.close)
        self.prometheus = Prometheus(self.port, self.stable.port)
        self.addCleanup(self.prometheus.close)
        self.swarm.prometheus_port = self.prometheus.port
        self.environment["CANARY_MINUTES"] = "0.01"

    def hide_table_and_send(self):
        self.hide_table()
        self.assertEqual(self.send("c3"), 202)

    def scraped(self, expression):
        wait_until(lambda: self.prometheus.has(expression), expression, 20)

    def test_it_is_promoted_when_it_is_not_worse(self):
        os.mkdir(f"{self.root}/.stack")
        self.write("root/.stack/env", "# mine\nTAG=0.1.0\nKAFKA_TOPICS=events\n")
        self.succeeds(TAG="0.2.0")
        self.scraped('up{track="canary"} == 1')
        answer = self.refused("not promoted, for: ", "events accepted", "rows inserted", command="promote")
        self.assertRegex(answer.stdout, r"(?m)^  events accepted +0 +0  > 0 +NO$")
        self.stable_is_untouched()

        self.assertEqual([self.send("c1", "c2"), self.send("s1", port=self.stable.port)], [202, 202])
        inserted = 'sum(ingest_clickhouse_insert_rows_total{track="%s"}) == %d'
        self.scraped(inserted % ("canary", 2))
        self.scraped(inserted % ("stable", 1))
        # Accepted while the stable replicas are updated, and not delivered before the canary is taken away.
        self.swarm.when("compose-file stack.yml", self.hide_table_and_send)
        self.swarm.when("--publish-rm 8080", self.show_table)
        said = self.succeeds("promote")
        self.assertRegex(said, r"(?m)^  rows inserted +2 +1  > 0 +ok$")
        self.assertIn("ingestd is up.", said)
        self.assertEqual(self.rows(), ["c1", "c2", "c3", "s1"])
        self.assertEqual(self.swarm.image(STABLE), "ingestion-service:0.2.0")
        self.assertNotIn(CANARY, self.swarm.services)
        self.assertEqual(self.fake("root/.stack/env"), "# mine\nKAFKA_TOPICS=events\nTAG=0.2.0\n")
        calls = self.calls()
        order = ["compose-file stack.yml", "--publish-rm 8080", f"service rm {CANARY}"]
        self.assertEqual(sorted(order, key=calls.index), order)
        self.assertNotIn("--image ingestion-service:0.1.0", calls)
        self.refused("there is no canary", command="promote")


def tool():
    """tools/canary as a module."""
    loader = importlib.machinery.SourceFileLoader("canary", os.path.join(ROOT, "tools/canary"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("canary", loader))
    # Dataclasses look their module up.
    sys.modules["canary"] = module
    loader.exec_module(module)
    return module


class Track:
    """Answers /metrics with what a test says."""

    def __init__(self, started):
        self.metrics = {
            "process_start_time_seconds": started,
            'ingest_events_total{stream="e",result="accepted"}': 10_000,
            'ingest_clickhouse_insert_rows_total{stream="e"}': 10_000,
            'ingest_clickhouse_insert_seconds_count{stream="e",result="ok"}': 100,
            'ingest_clickhouse_insert_seconds_sum{stream="e",result="ok"}': 5,
            'ingest_stream_held{stream="e"}': 0,
            'ingest_journal_oldest_event_age_seconds{stream="e"}': 1,
            "process_resident_memory_bytes": 1_048_576,
            "generation": 0,
        }
        self.is_well = True
        track = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if track.is_well else 500)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write("".join(f"{name} {value}\n" for name, value in track.metrics.items()).encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Deployed:
    """The canary's service, as far as the comparison asks for it."""

    def __init__(self):
        self.ended = []

    def image(self):
        return "ingestion-service:0.2.0"

    def tasks(self):
        return [{"Spec": {"ContainerSpec": {"Image": image}}, "Status": {"State": "failed"}} for image in self.ended]


@needs_prometheus
class DecisionTests(unittest.TestCase):
    """A real Prometheus compares two tracks whose metrics the test makes up."""

    def setUp(self):
        self.tool = tool()
        started = time.time() - 90
        self.canary, self.stable = Track(started), Track(started - 9_000)
        self.prometheus = Prometheus(self.canary.server.server_port, self.stable.server.server_port)
        for thing in (self.canary, self.stable, self.prometheus):
            self.addCleanup(thing.close)
        self.service = Deployed()
        self.minutes("1")

    def minutes(self, value):
        patch = unittest.mock.patch.dict(os.environ, {"CANARY_MINUTES": value})
        patch.start()
        self.addCleanup(patch.stop)

    def bad(self):
        """What speaks against the canary, once Prometheus has seen what its metrics are now."""
        for track in (self.canary, self.stable):
            track.metrics["generation"] += 1
        wanted = self.canary.metrics["generation"]
        wait_until(lambda: self.prometheus.has(f"count(generation == {wanted}) == 2"), "both tracks are scraped", 20)
        return [line.what for line in self.tool.comparison(self.prometheus, self.service) if line.good is False]

    def test_each_reason_alone(self):
        canary, stable = self.canary.metrics, self.stable.metrics
        self.assertEqual(self.bad(), [])

        held, oldest = 'ingest_stream_held{stream="e"}', 'ingest_journal_oldest_event_age_seconds{stream="e"}'
        letters = 'ingest_dead_letters_total{stream="e",reason="row_data"}'
        failures = 'ingest_clickhouse_insert_seconds_count{stream="e",result="retry"}'
        for changes, theirs, expected in (
            ({held: 1}, {}, ["held streams"]),
            # Both suffer: it is not the canary's fault, and no time to promote.
            ({held: 1}, {held: 1}, ["held streams"]),
            ({oldest: 61}, {}, []),
            ({oldest: 62}, {}, ["oldest event"]),
            ({oldest: 300}, {oldest: 290}, []),
            ({letters: 9}, {}, []),
            ({letters: 12}, {}, ["dead letters"]),
            # From here on the stable ones have counted 100 of 10,000.
            ({letters: 105}, {letters: 100}, []),
            ({letters: 120}, {letters: 100}, ["dead letters"]),
            ({failures: 1}, {}, []),
            ({failures: 2}, {}, ["inserts that failed"]),
            ({failures: 20}, {failures: 20}, []),
            ({'ingest_events_total{stream="e",result="accepted"}': 0}, {}, ["events accepted"]),
            ({'ingest_clickhouse_insert_rows_total{stream="e"}': 0}, {}, ["rows inserted"]),
        ):
            with self.subTest(changes=changes, theirs=theirs):
                before = dict(canary), dict(stable)
                canary.update(changes)
                stable.update(theirs)
                self.assertEqual(self.bad(), expected)
                for metrics, values in zip((canary, stable), before):
                    values["generation"] = metrics["generation"]
                    # Counters of the stable replicas only grow.
                    values |= {n: v for n, v in metrics.items() if "_total" in n and metrics is stable}
                    metrics.clear()
                    metrics.update(values)

        self.service.ended = ["ingestion-service:0.1.0"]
        self.assertEqual(self.bad(), [], "of another image")
        self.service.ended = ["ingestion-service:0.2.0"]
        self.assertEqual(self.bad(), ["restarts"])
        self.service.ended = []
        self.minutes("2")
        self.assertEqual(self.bad(), ["minutes since its start"])
        self.minutes("1")

        self.canary.is_well = False
        wait_until(lambda: self.prometheus.has('up{track="canary"} == 0'), "the canary does not answer", 20)
        lines = self.tool.comparison(self.prometheus, self.service)
        self.assertEqual([(line.what, line.good) for line in lines], [("seen by Prometheus", False)])
        self.canary.is_well = True
        wait_until(lambda: self.prometheus.has('up{track="canary"} == 1'), "the canary answers again", 20)
        self.assertEqual(self.bad(), ["scrapes that failed"])

    def test_counts_within_a_window(self):
        expression = self.tool.counted('m{job="j"}', "10m")
        series = {
            "long there": ("1000x60", 0),
            "growing": ("1000+3x60", 30),
            "new": ("_x25 7x35", 7),
            "new and growing": ("_x25 7x2 8x35", 8),
            "began anew": ("1000x25 5x35", 5),
            "gone": ("1000x26 1002x2 _x40", 2),
        }
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            tests = [
                {
                    "name": name, "interval": "1m",
                    "input_series": [{"series": 'm{job="j"}', "values": values}],
                    "promql_expr_test": [{
                        "expr": f"round({expression})", "eval_time": "30m",
                        "exp_samples": [{"labels": "{}", "value": value}],
                    }],
                }
                for name, (values, value) in series.items()
            ]  # fmt: skip
            yaml.safe_dump({"tests": tests}, file)
            file.flush()
            done = subprocess.run(["promtool", "test", "rules", file.name], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
