"""tools/check-imports finds what it is there to find."""

import os
import subprocess
import tempfile
import unittest

from clickhouse_fixture import ROOT


class CheckImportsTests(unittest.TestCase):
    def check(self, files):
        """Exit code and messages for a project of these files."""
        with tempfile.TemporaryDirectory() as root:
            os.mkdir(os.path.join(root, "Sources"))
            for path, text in files.items():
                os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
                with open(os.path.join(root, path), "w") as file:
                    file.write(text)
            run = subprocess.run([os.path.join(ROOT, "tools/check-imports"), root], capture_output=True, text=True)
            self.assertEqual(run.stdout, "")
            return run.returncode, run.stderr.splitlines()

    def assertRefused(self, path, text, line, words):
        code, messages = self.check({path: text})
        self.assertEqual((code, len(messages)), (1, 1), messages)
        self.assertTrue(messages[0].startswith(f"{path}:{line}: "), messages)
        self.assertIn(words, messages[0])

    def test_what_is_allowed_passes(self):
        files = {
            "Sources/IngestCore/A.swift": "import Crypto\npublic import Synchronization\n",
            "Sources/Journal/A.swift": "internal import CLMDB\n@preconcurrency import IngestCore; import Logging\n",
            "Sources/HTTPIngest/Deep/A.swift": "import NIOCore\nimport NIOHTTP1\nimport struct HTTPTypes.HTTPField\n",
            "Sources/ingestd/A.swift": "import Pipeline\nimport ArgumentParser\n",
            "tools/kafka-dev/main.swift": "import CKafka\n",
            "Tests/JournalTests/A.swift": "import CLMDB\n@testable import Journal\nimport Testing\n",
            "Tests/CrashTests/A.swift": "import CKafka\n",
            "Sources/CLMDB/module.modulemap": "import CKafka\n",
        }
        self.assertEqual(self.check(files), (0, []))

    def test_what_is_not_allowed_is_named(self):
        self.assertRefused(
            "Sources/IngestCore/A.swift", "import Crypto\n\nimport Logging\n", 3, "IngestCore may not import Logging"
        )
        self.assertRefused("Sources/Pipeline/A.swift", "import CLMDB\n", 1, "Pipeline may not import CLMDB")
        self.assertRefused("Sources/Kafka/A.swift", "import ClickHouse\n", 1, "Kafka may not import ClickHouse")
        self.assertRefused("Sources/ClickHouse/A.swift", "import Pipeline\n", 1, "ClickHouse may not import Pipeline")
        self.assertRefused("Sources/Pipeline/A.swift", "import Kafka\n", 1, "Pipeline may not import Kafka")
        self.assertRefused("Sources/Observability/A.swift", "import IngestCore\n", 1, "Observability may not")
        self.assertRefused("Sources/Journal/A.swift", "import NIOCore\n", 1, "Journal may not import NIOCore")
        self.assertRefused("Sources/ingestd/A.swift", "import CKafka\n", 1, "ingestd may not import CKafka")
        self.assertRefused("tools/kafka-dev/main.swift", "import Kafka\n", 1, "kafka-dev may not import Kafka")
        self.assertRefused("Tests/PipelineTests/A.swift", "import CLMDB\n", 1, "PipelineTests may not import CLMDB")

    def test_every_way_to_write_an_import_is_seen(self):
        for text in (
            "public import Logging",
            "@_implementationOnly import Logging",
            "@_spi(Internals) @preconcurrency public import Logging",
            "  import struct Logging.Logger",
            "import Crypto; import Logging",
            "#if true\nimport Logging\n#endif",
            "/* here */ import Logging // there",
        ):
            code, messages = self.check({"Sources/IngestCore/A.swift": text})
            self.assertEqual((text, code, len(messages)), (text, 1, 1))

    def test_comments_and_strings_are_no_imports(self):
        text = (
            '// import Logging\n/*\nimport Logging\n*/\nlet text = """\nimport Logging\n"""\n'
            'let url = "http://x"; let imported = 1\nlet quote = "import Logging"\nimport Crypto\n'
        )
        self.assertEqual(self.check({"Sources/IngestCore/A.swift": text}), (0, []))
        self.assertRefused("Sources/IngestCore/A.swift", text + "import Logging", 11, "Logging")

    def test_a_module_without_a_line_in_the_table_is_refused(self):
        code, messages = self.check({"Sources/Newcomer/A.swift": "let x = 1\n"})
        self.assertEqual((code, len(messages)), (1, 1))
        self.assertIn("Sources/Newcomer: not in the table", messages[0])


if __name__ == "__main__":
    unittest.main()
