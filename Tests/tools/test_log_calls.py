"""Each line of the service's log is written through EventLog, whose calls name an event."""

import glob
import os
import re
import unittest

from clickhouse_fixture import ROOT

# swift-log's own methods, which know no event. The rooms hold an EventLog, which has none of them; this finds a call on
# the logger that a room's public initializer is given, or that EventLog keeps for libraries.
CALL = re.compile(r"\b[lL]ogger\w*(?:\([^)]*\))?[?!]?\s*\.(?:trace|debug|info|notice|warning|error|critical|log)\(")


def calls(root):
    found = []
    for path in sorted(glob.glob(os.path.join(root, "**/*.swift"), recursive=True)):
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"//[^\n]*", "", file.read())
        found += [f"{os.path.relpath(path, root)}: {match[0]}" for match in CALL.finditer(text)]
    return found


class LogCallTests(unittest.TestCase):
    def test_every_line_names_its_event(self):
        found = calls(os.path.join(ROOT, "Sources"))
        # The one call that writes what EventLog was given.
        self.assertEqual(found, ["ServiceLog/EventLog.swift: logger.log("])

    def test_events_are_all_used(self):
        with open(os.path.join(ROOT, "Sources/ServiceLog/LoggedEvent.swift"), encoding="utf-8") as file:
            names = set(re.findall(r"^    case (\w+)", file.read(), re.MULTILINE))
        used = set()
        for path in glob.glob(os.path.join(ROOT, "Sources/**/*.swift"), recursive=True):
            if not path.endswith("LoggedEvent.swift"):
                with open(path, encoding="utf-8") as file:
                    used |= set(re.findall(r"\.(\w+)", file.read()))
        self.assertGreater(len(names), 40)
        self.assertEqual(names - used, set())


if __name__ == "__main__":
    unittest.main()
