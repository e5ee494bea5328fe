"""How the development ClickHouse tells an INSERT from its data."""

import os
import sys
import unittest

from clickhouse_fixture import ROOT

sys.path.insert(0, os.path.join(ROOT, "tools"))

from clickhouse_dev.statements import has_second_statement, output_format, parse_insert  # noqa: E402


class StatementTests(unittest.TestCase):
    """Where a statement ends and its data begin."""

    def test_insert_with_data(self):
        cases = (
            ("INSERT INTO t FORMAT JSONEachRow", "INSERT INTO t", "JSONEachRow", ""),
            ("insert into t format CSV\n1,2", "insert into t", "CSV", "1,2"),
            ("/* x */ INSERT INTO `format` (`values`) SETTINGS a = 'FORMAT x' FORMAT TSV ;\n1", None, "TSV", "1"),
            ("INSERT INTO t VALUES (1)", "INSERT INTO t", "Values", " (1)"),
            ("INSERT INTO FUNCTION file('a', 'CSV') FORMAT CSV 1", None, "CSV", "1"),
            ("INSERT INTO t (a) -- FORMAT no\nFORMAT yes", None, "yes", ""),
        )
        for text, statement, format_name, data in cases:
            insert = parse_insert(text)
            self.assertEqual((insert.format, text[insert.data_offset :]), (format_name, data))
            if statement:
                self.assertEqual(insert.statement, statement)

    def test_other_statements(self):
        for text in ("SELECT 1 FORMAT CSV", "INSERT INTO t SELECT 1", "INSERT INTO t FROM INFILE 'x' FORMAT CSV", ""):
            self.assertIsNone(parse_insert(text))
        self.assertEqual(output_format("SELECT 'FORMAT CSV' FORMAT JSON"), "JSON")
        self.assertIsNone(output_format("SELECT 'FORMAT CSV'"))
        self.assertTrue(has_second_statement("SELECT 1; SELECT 2"))
        self.assertFalse(has_second_statement("SELECT ';' ; -- done; really"))


if __name__ == "__main__":
    unittest.main()
