"""tools/test counts honestly: from real outputs of the runners, and never green when something broke."""

import contextlib
import importlib.machinery
import importlib.util
import io
import os
import sys
import tempfile
import unittest

from clickhouse_fixture import ROOT


def load_script(path):
    """A script without the ending .py, as a module; leaves no compiled copy beside it."""
    loader = importlib.machinery.SourceFileLoader("tools_test", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module  # where dataclasses look for it
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = keep
    return module


totals = load_script(os.path.join(ROOT, "tools/test"))

PASSED = """\
✔ Test crash() passed after 0.001 seconds.
✔ Test param(n:) with 3 test cases passed after 0.001 seconds.
➜ Test off() skipped: "why"
✔ Test "with a name: failed after" passed after 0.001 seconds.
✔ Suite S passed after 0.001 seconds.
✔ Test run with 4 tests in 1 suite passed after 0.001 seconds.
"""
PASSED_REPORT = """<testsuites><testsuite tests="3" failures="0" skipped="1">
<testcase name="crash()" /><testcase name="param(n:)" /><testcase name="named()" />
<testcase name="off()"><skipped>why</skipped></testcase></testsuite></testsuites>"""
FAILED = """\
✘ Test param(n:) recorded an issue with 1 argument n → 1 at a.swift:6:54: Expectation failed
✔ Test good() passed after 0.001 seconds.
✘ Test param(n:) with 3 test cases failed after 0.001 seconds with 2 issues.
✘ Suite S failed after 0.002 seconds with 3 issues.
✘ Test run with 2 tests in 1 suite failed after 0.002 seconds with 3 issues.
"""
FAILED_REPORT = """<testsuites><testsuite tests="2" failures="2" skipped="0"><testcase name="good()" />
<testcase name="param(n:)"><failure message="a" /><failure message="b" /></testcase></testsuite></testsuites>"""
CRASHED = """\
✔ Test good() passed after 0.001 seconds.
XTests/a.swift:9: Fatal error: x
error: Process 'X.xctest' exited with unexpected signal code 4
"""


class TotalsTests(unittest.TestCase):
    def swift(self, code, output, report):
        with tempfile.TemporaryDirectory() as root:
            os.mkdir(os.path.join(root, ".build"))
            if report is not None:
                with open(os.path.join(root, ".build/tests.xml"), "w") as file:
                    file.write(report)
            totals.ROOT, keep = root, totals.ROOT
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    return str(totals.count_swift(code, output))
            finally:
                totals.ROOT = keep

    def test_swift(self):
        self.assertEqual(self.swift(0, PASSED, PASSED_REPORT), "3 passed, 0 failed, 1 skipped")
        self.assertEqual(self.swift(1, FAILED, FAILED_REPORT), "1 passed, 1 failed")

    def test_swift_crash(self):
        for report in ("<?xml version='1.0'?><testsuites>", "", None):
            self.assertEqual(self.swift(1, CRASHED, report), "1 passed, 1 failed")
        self.assertEqual(self.swift(-9, "", None), "0 passed, 1 failed")

    def test_swift_contradictions_are_failures(self):
        # All reported tests passed, and yet the runner failed.
        self.assertEqual(self.swift(1, PASSED, PASSED_REPORT), "3 passed, 1 failed")
        # Fewer tests in the report than were run.
        self.assertEqual(self.swift(0, PASSED, "<testsuites />"), "3 passed, 1 failed")
        # No test at all.
        self.assertEqual(self.swift(0, "", None), "0 passed, 1 failed")

    def test_python(self):
        cases = (
            (0, "Ran 12 tests in 0.1s\n\nOK\n", "12 passed, 0 failed"),
            (0, "Ran 12 tests in 0.1s\n\nOK (skipped=2)\n", "10 passed, 0 failed, 2 skipped"),
            (1, "Ran 12 tests in 0.1s\n\nFAILED (failures=1, errors=2, skipped=3)\n", "6 passed, 3 failed, 3 skipped"),
            (1, "Ran 0 tests in 0.1s\n\nFAILED (errors=1)\n", "0 passed, 1 failed"),
            (5, "Ran 0 tests in 0.0s\n\nNO TESTS RAN\n", "0 passed, 1 failed"),
            (1, "Traceback (most recent call last):\n", "0 passed, 1 failed"),
            (-11, "Ran 3 tests in 0.1s\n\nOK\n", "3 passed, 1 failed"),
        )
        for code, output, expected in cases:
            self.assertEqual(str(totals.count_python(code, output)), expected)


if __name__ == "__main__":
    unittest.main()
