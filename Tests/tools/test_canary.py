"""stack.canary.yml is stack.yml's service with a journal of its own, and tools/canary lets go of nothing: neither of
events that only the canary has, nor of the stable replicas. The canary is a real `ingestd`; Swarm is a stand-in."""

import http.client
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import unittest
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
        for path in ("deploy/stack/prometheus.yml", "deploy/prometheus/prometheus.yml"):
            job = yaml.safe_load(read(path))["scrape_configs"][0]
            names = job["dns_sd_configs"][0]["names"]
            self.assertEqual(
                names, [f"tasks.{networks['monitoring']['aliases'][0]}" for networks in aliases.values()], path
            )
            default, canary = job["relabel_configs"]
            self.assertEqual(default, {"target_label": "track", "replacement": "stable"})
            self.assertEqual((canary["target_label"], canary["replacement"]), ("track", "canary"))
            self.assertEqual([bool(re.fullmatch(canary["regex"], name)) for name in names], [False, True])
        self.assertIn(f'"http://{names[1]}:8080/metrics"', read("tools/canary"))


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
            "CANARY_HTTP_PORT": str(self.port), "CANARY_FORGET_TIMEOUT": "0", "CANARY_DRAIN_TIMEOUT": "30"
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
            self.assertNotRegex(line, r"^stack deploy --compose-file stack\.yml|^service (update|rm|rollback|scale) .*ion-service$")

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
        for command in ("promote", "abort"):
            self.run_tool(command)
            self.assertNotIn("service update", self.calls())
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
        self.refused("ends again and again", "non-zero exit (1)", "docker service logs", "make canary-abort", TAG="0.2.0")
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
        self.show_table_when("--image ingestion-service:0.1.0")
        answer = self.succeeds("abort")
        self.assertIn("ingestion-service:0.2.0 does not deliver what the canary has accepted: it ends again", answer)
        self.assertEqual(self.rows(), ["a", "b"])
        self.stable_is_untouched()

    def show_table_when(self, called):
        """ClickHouse takes events again once docker was called like this."""

        def wait():
            wait_until(lambda: called in self.calls(), called, 30)
            self.show_table()

        thread = threading.Thread(target=wait)
        thread.start()
        self.addCleanup(thread.join)

    def test_a_journal_of_a_newer_format_stays_where_it_is(self):
        self.hide_table()
        self.succeeds(TAG="0.2.0")
        self.assertEqual(self.send("a"), 202)
        self.swarm.broken = {"ingestion-service:0.2.0"}
        self.swarm.kill()
        # As a version to come might write it: docs/journal-format.md.
        data = f"{self.swarm.volume()}/journal/data.mdb"
        with open(data, "r+b") as file:
            pages, old = file.read(), b"ingestd-journal\0\1\0\0\0"
            self.assertIn(old, pages)
            file.seek(0)
            file.write(pages.replace(old, b"ingestd-journal\0\2\0\0\0"))
        self.show_table()
        answer = self.refused("newer format", "CANARY_REPLACE=1", "ingestd_journal-canary", command="abort")
        self.assertIn("ends again and again", answer.stdout)
        self.assertRegex(self.swarm.log(), "format")
        self.assertNotIn("service rm", self.calls())
        self.assertNotIn("volume rm", self.calls())

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
