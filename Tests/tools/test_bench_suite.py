"""benchmarks/run and benchmarks/compare: whether they report what was measured. Nothing here is about speed."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import xml.etree.ElementTree

from clickhouse_fixture import ROOT
from service_fixture import BINARY

sys.path.insert(0, os.path.join(ROOT, "benchmarks"))

from suite import plot  # noqa: E402
from suite.bench import Bench  # noqa: E402
from suite.results import TARGETS, Results, table  # noqa: E402
from suite.servers import Failure  # noqa: E402
from suite.settings import Settings  # noqa: E402

IMKAFKA = "/usr/lib/x86_64-linux-gnu/rsyslog/imkafka.so"


class ReportTests(unittest.TestCase):
    def test_targets_are_met_missed_or_not_measured(self):
        results = Results()
        results.add("journal_1mib_ratio", 0.7, "ratio")
        results.add("http_16x1000_events", 1_799_999, "events/s")
        results.add("http_256x1_p99", 15.1, "ms", "lower")
        results.add("http_16x1_p99", 2.9, "ms", "lower")
        results.add("ingest_cpu", 1.5, "us", "lower")
        lines = table(results).splitlines()
        self.assertEqual(len(lines), 1 + len(TARGETS))
        verdicts = {line.split("  ")[0] + line[:1]: line.split()[-1] for line in lines[1:] if not line.startswith(" ")}
        found = {target.name: target.is_met(results) for target in TARGETS}
        self.assertEqual(found["journal_1mib_ratio"], True)
        self.assertEqual(found["http_16x1000_events"], False)
        self.assertEqual(found["http_256x1_p99"], False)
        self.assertEqual(found["http_16x1_p99"], True)
        self.assertIsNone(found["ingest_cpu"])
        self.assertIsNone(found["drain_ratio"])
        self.assertEqual(sorted(set(verdicts.values())), ["MISSED", "measured", "met", "us"])

    def test_the_table_says_which_backlog_and_which_server(self):
        results = Results()
        self.assertIn("start with a backlog of 10 GB until ready", table(results))
        results.add("backlog_size", 10, "GB")
        self.assertIn("start with a backlog of 10 GB until ready", table(results))
        results.add("backlog_size", 0.1, "GB")
        self.assertIn("start with a backlog of 0.1 GB (not 10) until ready", table(results))
        self.assertIn("0.1 GB (not 10)", json.dumps(results.document()["targets"]))
        # The targets are for Hummingbird; bare NIO is reported beside it.
        results.add("http_256x1_hummingbird_ratio", 0.79, "ratio")
        results.add("http_256x1_nio_ratio", 0.5, "ratio")
        lines = table(results).splitlines()
        [index] = [n for n, line in enumerate(lines) if "256 connections / body-only Hummingbird" in line]
        self.assertTrue(lines[index].endswith("0.79 ratio  MISSED"), lines[index])
        self.assertRegex(lines[index + 1], r"the same / body-only bare NIO +reported +0\.5 ratio$")

    def test_every_figure_and_curve_is_in_the_document(self):
        results = Results()
        results.add("a", 1.5, "ms", "lower")
        results.curve("C", "x", "y", [(1, 2), (10, 3)])
        document = json.loads(json.dumps(results.document()))
        self.assertEqual(document["values"], {"a": {"value": 1.5, "unit": "ms", "better": "lower"}})
        self.assertEqual(document["curves"]["C"]["points"], [[1, 2], [10, 3]])
        self.assertEqual(len(document["targets"]), len(TARGETS))

    def test_the_plot_has_every_point_in_its_panel(self):
        curves = {
            "A <b>": {"x": "events", "y": "events/s", "points": [(1, 10_000), (10, 90_000), (1_000, 1_800_000)]},
            "flat": {"x": "GB", "y": "s", "points": [(0.5, 0), (1, 0)]},
            "one": {"x": "GB", "y": "s", "points": [(5, 0.25)]},
            "none": {"x": "GB", "y": "s", "points": []},
        }
        drawing = xml.etree.ElementTree.fromstring(plot.svg(curves))
        panels = drawing.findall("{*}g")
        self.assertEqual([len(panel.findall("{*}circle")) for panel in panels], [3, 2, 1, 0])
        for panel in panels:
            for circle in panel.findall("{*}circle"):
                self.assertTrue(0 <= float(circle.get("cx")) <= 420 and 0 <= float(circle.get("cy")) <= 260)
        # The axis is logarithmic: from 1 to 10 is a third of the way from 1 to 1,000; and y counts from 0.
        x = [float(circle.get("cx")) for circle in panels[0].findall("{*}circle")]
        self.assertAlmostEqual((x[1] - x[0]) / (x[2] - x[0]), 1 / 3, 2)
        y = [215 - float(circle.get("cy")) for circle in panels[0].findall("{*}circle")]
        self.assertAlmostEqual(y[1] / y[2], 0.05, 2)

    def test_a_missing_event_fails_the_part(self):
        bench = Bench(Settings.load(), Results(), "/nowhere")
        found = {"acknowledged": 5, "found": 4, "missing": 1, "copies": 0, "missing_ids": ["gone-1"]}
        with unittest.mock.patch.object(bench, "run", return_value=[found]), unittest.mock.patch.object(bench, "say"):
            with self.assertRaisesRegex(Failure, "gone-1"):
                bench.verify("ledger", "url", "a part")
        # An empty ledger proves nothing.
        found = dict(found, acknowledged=0, found=0, missing=0, missing_ids=[])
        with unittest.mock.patch.object(bench, "run", return_value=[found]), unittest.mock.patch.object(bench, "say"):
            self.assertRaises(Failure, bench.verify, "ledger", "url", "a part")

    def test_refused_load_fails_the_part(self):
        bench = Bench(Settings.load(), Results(), "/nowhere")
        sent = {"refused": {"503": 2}, "unsent": 0, "events": 10, "requests": 10, "seconds": 1}
        with unittest.mock.patch.object(bench, "run", return_value=[sent]):
            self.assertRaisesRegex(Failure, "503", bench.load, 1, 1, 1)


class CompareTests(unittest.TestCase):
    def test_says_what_became_better(self):
        def document(**values):
            return {
                "format": 1, "time": "t", "quick": False, "machine": {"commit": "c", "processor": "p", "disk": "d"},
                "values": {name: {"value": value, "unit": "u", "better": better} for name, (value, better) in
                           values.items()},
            }  # fmt: skip

        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("before", "after")]
            for path, content in zip(paths, (
                document(rate=(100, "higher"), time=(10, "lower"), gone=(1, "higher")),
                document(rate=(90, "higher"), time=(5, "lower"), new=(7, "higher")),
            )):  # fmt: skip
                with open(path, "w") as file:
                    json.dump(content, file)
            run = subprocess.run(
                [os.path.join(ROOT, "benchmarks/compare"), *paths], capture_output=True, text=True, check=True, timeout=30)
        lines = {line.split()[0]: line.split() for line in run.stdout.splitlines() if line}
        self.assertEqual(lines["rate"][-1], "-10.0%")
        self.assertEqual(lines["time"][-1], "+50.0%")
        self.assertIn("-", lines["gone"])
        self.assertIn("new", lines)


@unittest.skipUnless(os.access(BINARY, os.X_OK), "no build")
class RunTests(unittest.TestCase):
    def run_parts(self, folder, parts):
        out = os.path.join(folder, "out", "results.json")
        run = subprocess.run(
            [os.path.join(ROOT, "benchmarks/run")], capture_output=True, text=True, timeout=60,
            env=dict(os.environ, BENCH_QUICK="1", BENCH_SECONDS="0.1", BENCH_DIR=folder, BENCH_ONLY=parts, BENCH_OUT=out,
                     BENCH_BINARIES=os.path.dirname(BINARY), BENCH_BACKLOG_GB=self.backlog),
        )  # fmt: skip
        self.assertEqual(os.listdir(folder), ["out"], "nothing is left behind")
        with open(out) as file:
            return run, json.load(file)

    backlog = "0.01"

    def test_measures_and_writes_what_it_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            run, document = self.run_parts(folder, "journal,backlog")
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
            self.assertTrue(os.path.exists(os.path.join(folder, "out", "results.svg")))
        self.assertTrue(document["quick"])
        self.assertGreater(document["values"]["journal_1mib_ratio"]["value"], 0)
        self.assertGreater(document["values"]["memory_backlog"]["value"], 1)
        self.assertEqual([x for x, _ in document["curves"]["Start"]["points"]], [0.0005, 0.005, 0.01])
        self.assertEqual(document["values"]["backlog_size"]["value"], 0.005)
        self.assertGreater(document["values"]["backlog_rate_ratio"]["value"], 0)
        self.assertIn("backlog of 0.005 GB (not 10)", run.stdout)
        self.assertIn("not measured", run.stdout)

    @unittest.skipUnless(shutil.which("rsyslogd") and os.path.exists(IMKAFKA), "no rsyslogd with its Kafka module")
    def test_rsyslogd_is_measured_with_and_without_flushing(self):
        with tempfile.TemporaryDirectory() as folder:
            run, document = self.run_parts(folder, "peers")
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        for name in ("rsyslogd_kafka_events", "rsyslogd_kafka_unflushed_events"):
            self.assertGreater(document["values"][name]["value"], 0)

    def test_a_part_that_fails_is_reported_and_the_others_run(self):
        self.backlog = "1000000"
        with tempfile.TemporaryDirectory() as folder:
            run, document = self.run_parts(folder, "backlog,journal")
        self.assertEqual(run.returncode, 1)
        self.assertIn("backlog: a backlog of 1e+06 GB needs", document["failures"][0])
        self.assertIn("journal_1mib_ratio", document["values"])


if __name__ == "__main__":
    unittest.main()
