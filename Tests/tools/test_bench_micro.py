"""The micro-benchmarks: whether every one of them is held to a threshold. They are built and run by `make bench-micro`."""

import glob
import importlib.machinery
import importlib.util
import json
import os
import tempfile
import unittest
import unittest.mock

from clickhouse_fixture import ROOT

LOADER = importlib.machinery.SourceFileLoader("bench_micro", os.path.join(ROOT, "tools/bench-micro"))
TOOL = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_micro", LOADER))
LOADER.exec_module(TOOL)


class MicroTests(unittest.TestCase):
    def test_every_benchmark_has_a_threshold_and_the_reverse(self):
        self.assertEqual(TOOL.without_threshold(), [])
        names = TOOL.names()
        self.assertIn("entry-append", names)
        self.assertIn("journal-append-event", names)
        self.assertEqual(len(names), len(set(names)))
        files = {os.path.basename(path) for path in glob.glob(os.path.join(TOOL.THRESHOLDS, "*"))}
        self.assertEqual(files, {f"Micro.{name}.p90.json" for name in names})

    def test_a_benchmark_without_a_threshold_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "New.swift"), "w") as file:
                file.write('Benchmark(\n    "new-one", closure: {})\n    Benchmark("entry-append") { _ in }\n')
            with unittest.mock.patch.object(TOOL, "SOURCES", folder):
                self.assertEqual(TOOL.without_threshold(), ["new-one"])

    def test_thresholds_are_of_allocations_only(self):
        for path in glob.glob(os.path.join(TOOL.THRESHOLDS, "*")):
            with open(path) as file:
                self.assertEqual(list(json.load(file)), ["allocations"], path)

    def test_what_touches_each_event_alone_allocates_nothing(self):
        for name in ("entry-append", "entry-pack", "scan-body", "scan-event-http", "scan-event-kafka", "rows-envelope",
                     "rows-flat"):  # fmt: skip
            with open(os.path.join(TOOL.THRESHOLDS, f"Micro.{name}.p90.json")) as file:
                self.assertEqual(json.load(file), {"allocations": 0}, name)

    def test_a_file_of_the_other_builds_stays_as_it_was(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "Package.resolved")
            with TOOL.kept(path), open(path, "w") as file:
                file.write("new")
            self.assertFalse(os.path.exists(path))
            with open(path, "w") as file:
                file.write("before")
            with self.assertRaises(SystemExit), TOOL.kept(path):
                with open(path, "w") as file:
                    file.write("after")
                raise SystemExit
            with open(path) as file:
                self.assertEqual(file.read(), "before")


if __name__ == "__main__":
    unittest.main()
