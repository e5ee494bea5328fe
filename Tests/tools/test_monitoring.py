"""The alert rules, the dashboard and what is said about them fit the metrics that the service really has, and a real
Prometheus fires the alerts when their reason is caused."""

import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request

import yaml

from clickhouse_fixture import ROOT, DevelopmentClickHouse, wait_until
from service_fixture import Service, free_port

DEPLOY = os.path.join(ROOT, "deploy")
PROMETHEUS = os.path.join(DEPLOY, "prometheus")
RULES = os.path.join(PROMETHEUS, "alerts.yml")
RULE_TESTS = os.path.join(PROMETHEUS, "alerts_test.yml")
CONFIGURATION = os.path.join(PROMETHEUS, "prometheus.yml")
GRAFANA = os.path.join(DEPLOY, "grafana")
DASHBOARD = os.path.join(GRAFANA, "dashboards/ingestd.json")
RUNBOOK = "docs/operations.md"

# Metrics that a service without a broker does not have, with their labels: each has a series for an assigned partition
# only, and there is no assignment without a group.
LATER = {
    "ingest_kafka_consumer_lag": {"topic", "partition"},
    "ingest_kafka_unjournaled_events": {"topic", "partition"},
    "ingest_kafka_uncommitted_events": {"topic", "partition"},
}
# Labels of the target; prometheus.yml adds the track.
TARGET = {"job", "instance", "track"}
# Prometheus's own.
BUILT_IN = {"up": set(), "ALERTS": {"alertname", "alertstate"}}
KEYWORDS = {"and", "or", "unless", "on", "by", "ignoring", "without", "group_left", "group_right", "offset", "bool"}

has_prometheus = all(shutil.which(name) for name in ("prometheus", "promtool"))
needs_prometheus = unittest.skipUnless(has_prometheus, "Debian's package prometheus is not installed")


def load(path):
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def rules():
    return [rule for group in load(RULES)["groups"] for rule in group["rules"]]


def promtool(*arguments):
    """Exit code and output."""
    result = subprocess.run(
        ["promtool", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )
    return result.returncode, result.stdout


def selectors(expression):
    """The metrics of an expression, each with the labels that it is selected by."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    text = re.sub(r"\[[^\]]*\]|offset +\w+", "", text)
    text = re.sub(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)", "", text)
    for match in re.finditer(r"(?<![\w.])([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?", text):
        name, rest = match[1], match[2] or ""
        if rest != "(" and name not in KEYWORDS:
            yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", rest))


def panels():
    with open(DASHBOARD, encoding="utf-8") as file:
        return json.load(file)["panels"]


def dashboard_expressions():
    """Each expression of the dashboard, with Grafana's variables filled in."""
    with open(DASHBOARD, encoding="utf-8") as file:
        dashboard = json.load(file)
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    found += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found.append(re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])[1])
    return [text.replace("$instance", ".*").replace("$__rate_interval", "1m") for text in found]


class TemporaryFolder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="monitoring-")
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    def configuration(self, port, token=None):
        """prometheus.yml as an operator would change it: addresses listed, and the lines about a token in effect."""
        with open(CONFIGURATION, encoding="utf-8") as file:
            text = file.read()
        text, addresses = re.subn(r"(?m)^    dns_sd_configs:\n(?:      .*\n)+", "", text)
        text, lists = re.subn(r"(?m)^    # static_configs:\n    #   - targets: .*", self._listed(port), text)
        tokens = 1
        if token:
            text, tokens = re.subn(
                r"(?m)^    # authorization:\n    # (  type: Bearer)\n    # (  credentials_file: ).*",
                rf"    authorization:\n    \1\n    \g<2>{self.write('token', token)}",
                text,
            )
        self.assertEqual((addresses, lists, tokens), (1, 1, 1), "prometheus.yml has the lines that this test changes")
        return text

    @staticmethod
    def _listed(port):
        return f'    static_configs:\n      - targets: ["127.0.0.1:{port}"]'


class AlertTests(TemporaryFolder):
    def test_each_alert_says_what_to_do(self):
        with open(os.path.join(ROOT, RUNBOOK), encoding="utf-8") as file:
            section = re.search(r"^## Alerts\n(.*?)(?=^## |\Z)", file.read(), re.MULTILINE | re.DOTALL)[1]
        headings = re.findall(r"^### (\w+)$", section, re.MULTILINE)
        names = [rule["alert"] for rule in rules()]
        self.assertEqual(headings, names, "the runbook has an entry for each alert, in the rules' order")
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
                self.assertEqual(rule["annotations"].keys(), {"summary", "description", "runbook_url"})
                self.assertEqual(rule["annotations"]["runbook_url"], f"{RUNBOOK}#{rule['alert'].lower()}")
                self.assertIn("$value", rule["annotations"]["description"])
                self.assertIn("First: ", rule["annotations"]["description"])

    def test_the_runbook_names_the_severity(self):
        with open(os.path.join(ROOT, RUNBOOK), encoding="utf-8") as file:
            entries = dict(re.findall(r"^### (\w+)\n\n\*(\w+)\.\*", file.read(), re.MULTILINE))
        self.assertEqual(entries, {rule["alert"]: rule["labels"]["severity"] for rule in rules()})

    def test_links_of_the_runbook_lead_somewhere(self):
        with open(os.path.join(ROOT, RUNBOOK), encoding="utf-8") as file:
            links = re.findall(r"\]\(([\w.-]*)(?:#([\w-]+))?\)", file.read())
        for name, anchor in links:
            with open(os.path.join(ROOT, "docs", name or os.path.basename(RUNBOOK)), encoding="utf-8") as file:
                headings = re.findall(r"^#+ (.+)$", file.read(), re.MULTILINE)
            # As GitHub makes anchors of headings.
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            if anchor:
                self.assertIn(anchor, anchors, name)

    def test_each_alert_is_tested(self):
        fires, keeps_quiet = set(), set()
        for group in load(RULE_TESTS)["tests"]:
            for test in group["promql_expr_test"]:
                match = re.fullmatch(r'ALERTS\{alertname="(\w+)", alertstate="firing"\}', test["expr"])
                if match:
                    (fires if test["exp_samples"] else keeps_quiet).add(match[1])
        names = {rule["alert"] for rule in rules()}
        self.assertEqual(fires, names)
        self.assertEqual(keeps_quiet, names)

    @needs_prometheus
    def test_promtool_accepts_them(self):
        for arguments in (["check", "rules", RULES], ["check", "config", CONFIGURATION], ["test", "rules", RULE_TESTS]):
            with self.subTest(arguments):
                code, output = promtool(*arguments)
                self.assertEqual(code, 0, output)

    @needs_prometheus
    def test_the_commented_lines_of_the_configuration_are_right(self):
        shutil.copy(RULES, self.folder)
        text = self.configuration(8080, token="secret")
        # Blocks of settings in comments; sentences begin with a capital letter.
        text = re.sub(r"(?m)^( *)# ((?:alerting|scheme|tls_config|  .*):?.*)$", r"\1\2", text)
        for name in ("ca.pem", "operations_token"):
            text = text.replace(f"/run/secrets/ingestd_{name}", self.write(name, ""))
        loaded = yaml.safe_load(text)
        self.assertEqual(loaded["scrape_configs"][0]["scheme"], "https")
        self.assertIn("alertmanagers", loaded["alerting"])
        code, output = promtool("check", "config", self.write("prometheus.yml", text))
        self.assertEqual(code, 0, output)

    @needs_prometheus
    def test_annotations_are_filled_in(self):
        # promtool shows the alerts that it did not expect: each, where its test has it firing.
        groups = []
        for group in load(RULE_TESTS)["tests"]:
            firing = [test for test in group.pop("promql_expr_test") if test["exp_samples"]]
            expected = [
                {"alertname": re.search(r'"(\w+)"', test["expr"])[1], "eval_time": test["eval_time"], "exp_alerts": []}
                for test in firing[:1]
            ]
            if expected:
                groups.append({**group, "alert_rule_test": expected})
        path = self.write("t.yml", {"rule_files": [RULES], "evaluation_interval": "1m", "tests": groups})
        code, output = promtool("test", "rules", path)
        self.assertEqual(code, 1)
        got = dict(re.findall(r'Labels:\{alertname="(\w+)".*\n +Annotations:\{(.*)\}', output))
        self.assertEqual(got.keys(), {rule["alert"] for rule in rules()}, output)
        for name, annotations in got.items():
            with self.subTest(name):
                # An unknown label is left out without a word, which leaves two blanks or one at the end.
                self.assertNotRegex(annotations, r'error expanding|<no value>|\{\{|  | [",:;]|NaN|Inf')
                self.assertRegex(annotations, r"\d")


class DashboardTests(TemporaryFolder):
    def test_it_is_laid_out(self):
        taken = set()
        for panel in panels():
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            taken |= cells
        ids = [panel["id"] for panel in panels()]
        self.assertEqual(len(ids), len(set(ids)))

    def test_it_asks_the_provisioned_data_source(self):
        provisioned = load(os.path.join(GRAFANA, "provisioning/datasources/prometheus.yml"))["datasources"]
        self.assertEqual([source["type"] for source in provisioned], ["prometheus"])
        interval = load(CONFIGURATION)["global"]["scrape_interval"]
        self.assertEqual(provisioned[0]["jsonData"]["timeInterval"], interval)
        for panel in panels():
            for target in panel.get("targets", []):
                self.assertEqual(target["datasource"], {"type": "prometheus", "uid": "${datasource}"})
        provider = load(os.path.join(GRAFANA, "provisioning/dashboards/ingestd.yml"))["providers"][0]
        self.assertEqual(os.path.basename(provider["options"]["path"]), os.path.basename(os.path.dirname(DASHBOARD)))

    @needs_prometheus
    def test_its_expressions_parse(self):
        expressions = dashboard_expressions()
        self.assertGreater(len(expressions), 40)
        recorded = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(expressions)]
        path = self.write("panels.yml", {"groups": [{"name": "panels", "rules": recorded}]})
        code, output = promtool("check", "rules", path)
        self.assertEqual(code, 0, output)


class MetricNameTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # With the consumer, but without a broker: nothing that needs an assignment.
        cls.service = Service(KAFKA_CONSUMER_ENABLED="true", KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
        cls.addClassCleanup(cls.service.close)
        request = urllib.request.Request(
            f"{cls.service.url}/v1/events?on_error=dead_letter",
            b'{"event_id": "good"}\nnone\n',
            {"content-type": "application/x-ndjson"},
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 202
        wait_until(lambda: "ingest_kafka_errors_total{" in cls.text(), "the consumer finds no broker", 10)
        cls.labels = {}
        for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", cls.text(), re.MULTILINE):
            cls.labels.setdefault(name, set(TARGET)).update(re.findall(r'(\w+)="', labels))

    @classmethod
    def text(cls):
        with urllib.request.urlopen(f"{cls.service.url}/metrics") as answer:
            return answer.read().decode()

    def check(self, expressions):
        known = {**self.labels}
        for name, labels in (LATER | BUILT_IN).items():
            known[name] = labels | TARGET
        for text in expressions:
            found = list(selectors(text))
            self.assertTrue(found, text)
            for name, labels in found:
                with self.subTest(name):
                    self.assertIn(name, known, text)
                    self.assertLessEqual(labels, known.get(name, labels), text)

    def test_rules_name_metrics_that_exist(self):
        self.check(rule["expr"] for rule in rules())

    def test_the_dashboard_names_metrics_that_exist(self):
        self.check(dashboard_expressions())

    def test_the_dashboard_shows_every_metric(self):
        shown = {name for text in dashboard_expressions() for name, _ in selectors(text)}
        families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in (self.labels.keys() | LATER.keys())}
        self.assertEqual(families - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}, set())

    def test_metrics_that_come_later_are_in_the_sources(self):
        source = ""
        for path in glob.glob(os.path.join(ROOT, "Sources/Kafka/*.swift")):
            with open(path, encoding="utf-8") as file:
                source += file.read()
        for name in LATER:
            self.assertIn(f'label: "{name}"', source)
            self.assertNotIn(name, self.labels, "no longer later: take it out of the list")
        self.assertIn('dimensions = [("topic", partition.topic), ("partition", ', source)

    def test_the_reader_of_expressions_finds_names(self):
        self.assertEqual(
            list(selectors('sum by (a) (rate(x_total{b="c{", d!~"e"}[5m] offset 1h)) / on (f) y > bool 2 * 1e3')),
            [("x_total", {"b", "d"}), ("y", set())],
        )


@needs_prometheus
class PrometheusTests(TemporaryFolder):
    """Debian's Prometheus scrapes the service with a token, and evaluates the rules five times a second."""

    TOKEN = "watcher"

    def setUp(self):
        super().setUp()
        self.clickhouse = DevelopmentClickHouse("chdb")
        self.addCleanup(self.clickhouse.close)
        self.create_table()
        self.service = Service(
            CLICKHOUSE_URL=f"http://{self.clickhouse.host}:{self.clickhouse.port}",
            ROW_MODE="flat", BATCH_MAX_AGE="1ms", RETRY_BACKOFF_MAX="200ms", HOLD_RETRY_INTERVAL="200ms",
            JOURNAL_MAX_BYTES="16MiB", HTTP_MAX_BODY_BYTES="4MiB", HTTP_OPERATIONS_TOKEN=self.TOKEN,
        )  # fmt: skip
        self.addCleanup(self.service.close)
        self.write("alerts.yml", {"groups": self.hurried_rules()})
        text = self.configuration(self.service.port, self.TOKEN)
        text, count = re.subn(r"(scrape|evaluation)_interval: 15s", r"\1_interval: 200ms", text)
        self.assertEqual(count, 2)
        self.port = free_port()
        self.log = os.path.join(self.folder, "log")
        with open(self.log, "wb") as log:
            self.prometheus = subprocess.Popen(
                [
                    "prometheus", f"--config.file={self.write('prometheus.yml', text)}",
                    f"--storage.tsdb.path={os.path.join(self.folder, 'data')}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.addCleanup(self.end_prometheus)

    def end_prometheus(self):
        self.prometheus.terminate()
        try:
            self.prometheus.wait(10)
        except subprocess.TimeoutExpired:
            self.prometheus.kill()
            self.prometheus.wait()

    @staticmethod
    def hurried_rules():
        """The rules, with less patience: seconds for minutes."""
        groups = load(RULES)["groups"]
        for group in groups:
            group["rules"] = [rule for rule in group["rules"] if " offset " not in rule["expr"]]
            for rule in group["rules"]:
                rule["expr"] = re.sub(r"\[\d+[mh]\]", "[2s]", rule["expr"])
                if rule["alert"] == "IngestdOldestEventRising":
                    assert "> 300" in rule["expr"]
                    rule["expr"] = rule["expr"].replace("> 300", "> 2")
                if "for" in rule:
                    rule["for"] = "400ms"
        return groups

    def create_table(self):
        columns = "event_id String, filler String"
        self.clickhouse.query(f"CREATE TABLE events ({columns}) ENGINE = MergeTree ORDER BY event_id")

    def send(self, filler=""):
        """The status that the service answers an event with."""
        event = json.dumps({"event_id": "e", "filler": filler}).encode()
        request = urllib.request.Request(f"{self.service.url}/v1/events", event, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def ask(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}") as answer:
                return json.load(answer)["data"]
        except (urllib.error.URLError, ConnectionError):
            with open(self.log, encoding="utf-8") as log:
                self.assertIsNone(self.prometheus.poll(), log.read())
            return {}

    def firing(self):
        alerts = self.ask("alerts").get("alerts", [])
        return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}

    def is_scraped(self):
        targets = self.ask("targets?state=active").get("activeTargets", [])
        return [target["health"] for target in targets] == ["up"]

    def sample_count(self):
        result = self.ask("query?query=count_over_time(up[1m])").get("result")
        return int(result[0]["value"][1]) if result else 0

    def wait_for_alert(self, name):
        wait_until(lambda: name in self.firing(), f"{name} fires", 10)
        return self.firing()[name]

    def test_alerts_fire_when_their_reason_is_caused(self):
        wait_until(self.is_scraped, "Prometheus scrapes the service, with its token", 10)
        self.assertEqual(self.send(), 202)
        wait_until(lambda: self.clickhouse.query("SELECT count() FROM events") != "0", "the event is delivered", 10)
        # For longer than it takes an alert to fire, and quiet.
        wait_until(lambda: self.sample_count() >= 10, "there are two seconds of samples", 10)
        self.assertEqual(self.firing(), {})

        self.clickhouse.query("DROP TABLE events")
        self.assertEqual(self.send(), 202)
        held = self.wait_for_alert("IngestdStreamHeld")
        self.assertEqual(held["labels"]["reason"], "configuration")
        self.assertEqual(held["labels"]["severity"], "critical")
        self.assertIn("Nothing of events is inserted", held["annotations"]["description"])
        self.assertEqual(held["annotations"]["runbook_url"], f"{RUNBOOK}#ingestdstreamheld")
        self.create_table()
        wait_until(lambda: not self.firing(), "the table is back, and all is quiet", 10)

        self.clickhouse.kill()
        self.assertEqual(self.send(), 202)
        self.wait_for_alert("IngestdInsertsFailing")
        rising = self.wait_for_alert("IngestdOldestEventRising")
        self.assertGreater(float(rising["value"]), 2)

        wait_until(lambda: self.send("x" * 3_000_000) == 503, "the journal is full", 10)
        self.assertEqual(self.wait_for_alert("IngestdBackpressure")["labels"]["source"], "http")
        # It is the journal that is full, and not the disk.
        self.assertNotIn("IngestdDiskLow", self.firing())
        self.assertNotIn("IngestdDown", self.firing())

        self.service.process.terminate()
        self.wait_for_alert("IngestdDown")


if __name__ == "__main__":
    unittest.main()
