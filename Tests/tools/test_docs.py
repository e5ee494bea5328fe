"""The documents: links lead somewhere, named tests exist, and the Korean pages keep in step with the English ones."""

import functools
import glob
import os
import re
import subprocess
import unittest

from clickhouse_fixture import ROOT

# State words of the checklist, and which test decides: only "later" may come without a proof.
STATES = {"완료": "done", "일부": "partly", "예정": "later"}


@functools.cache
def read(path):
    """A file's text, by its path in the repository."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def documents():
    """All Markdown files of the repository; not those of what is built or installed in it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode == 0:
        return [path for path in run.stdout.splitlines() if os.path.exists(os.path.join(ROOT, path))]
    return ["README.md", "README.ko.md", *(os.path.relpath(path, ROOT) for path in glob.glob(f"{ROOT}/docs/*.md"))]


def without_code(text):
    text = re.sub(r"^( *)(```+).*?^\1\2", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+", "", text)
    return re.sub(r"`[^`\n]*`", "``", text)


def headings(text):
    """Levels and texts."""
    text = re.sub(r"^( *)(```+).*?^\1\2", "", text, flags=re.DOTALL | re.MULTILINE)
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) +(.*?) *$", text, re.MULTILINE)]


def anchors(text):
    """What can stand behind # in a link, as GitHub makes it of headings."""
    found = set()
    for _, title in headings(text):
        title = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(anchor)
    return found


def links(text):
    """Targets of links within the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(text))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def code_blocks(text):
    """Fenced and indented blocks, without the comments at the ends of lines: those are translated."""
    fenced = [block for _, block in re.findall(r"^(```+)[^\n]*\n(.*?)^\1", text, re.DOTALL | re.MULTILINE)]
    text = re.sub(r"^(```+).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+", text)
    return [re.sub(r" {2,}#.*", "", block) for block in fenced + indented]


def rows(text):
    """The cells of all rows of tables, without the rows of dashes and those above them."""
    found = []
    for line in text.splitlines():
        if re.fullmatch(r"\|[-|]+\|", line):
            found.pop()
        elif line.startswith("|"):
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def code(text):
    return re.findall(r"`([^`]*)`", text)


def is_test_name(text):
    return re.fullmatch(r"(\w+\.)?\w+", text) is not None and (text.startswith("test_") or text.lower() != text)


class LinkTests(unittest.TestCase):
    def test_links_lead_to_files_and_headings(self):
        count = 0
        for document in documents():
            for target in links(read(document)):
                with self.subTest(document=document, target=target):
                    path, _, anchor = target.partition("#")
                    path = os.path.normpath(os.path.join(os.path.dirname(document), path)) if path else document
                    self.assertTrue(os.path.exists(os.path.join(ROOT, path)), "there is no such file")
                    if anchor:
                        self.assertIn(anchor, anchors(read(path)), "there is no such heading")
                    count += 1
        self.assertGreater(count, 100)

    def test_the_reader_of_markdown(self):
        text = "# A b\n\n## It's `x`, ok?\n\n## A b\n\n[a](b.md#c) `[d](e)` [f](https://g)\n\n    [h](i)\n\n```\n# j\n```\n"
        self.assertEqual(anchors(text), {"a-b", "its-x-ok", "a-b-1"})
        self.assertEqual(links(text), ["b.md#c"])
        self.assertEqual(code_blocks("```sh\nx\n```\n\n    y  # z\n\nt\n"), ["x\n", "    y\n"])
        self.assertEqual(rows("| h | i |\n|---|---|\n| a \\| b | `c` |\n"), [["a \\| b", "`c`"]])


class NameTests(unittest.TestCase):
    """What the pages name exists."""

    @classmethod
    def setUpClass(cls):
        cls.texts = {path: read(path) for path in documents()}
        cls.files = {}
        patterns = ("Sources/**/*.swift", "Tests/**/*.swift", "tools/*", "tools/*/*", "deploy/debian/*", "stack*.yml")
        for pattern in patterns:
            for path in glob.glob(pattern, root_dir=ROOT, recursive=True):
                if os.path.isfile(os.path.join(ROOT, path)) and not path.endswith(".pyc"):
                    cls.files[path] = read(path)

    def test_settings(self):
        sections = "HTTP|KAFKA|CLICKHOUSE|JOURNAL|BATCH|INSERT|RETRY|HOLD|SHUTDOWN|LOG|EVENTS?|ROW|INGESTD|STACK|CANARY"
        reference = self.texts["docs/configuration.md"]
        elsewhere = "".join(text for path, text in self.files.items() if not path.startswith("Sources/"))
        count = 0
        for path, text in self.texts.items():
            for name in set(re.findall(rf"\b(?:{sections})_[A-Z_]*[A-Z]\b", text)):
                with self.subTest(document=path, setting=name):
                    known = f"`{name.removesuffix('_FILE')}`" in reference
                    self.assertTrue(known or re.search(rf"\b{name}\b", elsewhere), "there is no such setting")
                    count += 1
        self.assertGreater(count, 200)

    def test_metrics(self):
        sources = "".join(text for path, text in self.files.items() if path.startswith("Sources/"))
        for path, text in self.texts.items():
            for name in set(re.findall(r"\bingest_[a-z_]*[a-z]\b", text)):
                with self.subTest(document=path, metric=name):
                    self.assertIn(re.sub(r"_(bucket|sum|count)$", "", name), sources)

    def test_commands_parse(self):
        count = 0
        for path, text in self.texts.items():
            for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
                run = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
                self.assertEqual((run.returncode, run.stderr), (0, ""), f"{path}: {block}")
                count += 1
        self.assertGreater(count, 10)


class ChecklistTests(unittest.TestCase):
    def test_named_tests_and_files_exist(self):
        count = 0
        for line, where, proof, state in rows(read("docs/checklist.md")):
            with self.subTest(line):
                self.assertIn(state.partition(":")[0], STATES.values())
                if state == "done":
                    self.assertTrue(code(proof), "done without a proof")
                for path in code(where):
                    if "/" in path and " " not in path and not path.startswith("/") and "://" not in path:
                        self.assertTrue(glob.glob(os.path.join(ROOT, path)), path)
                file = None
                for name in code(proof):
                    if re.fullmatch(r"[\w/.]+\.(swift|py|yml)", name):
                        file = name if os.path.exists(os.path.join(ROOT, name)) else f"Tests/{name}"
                        self.assertTrue(os.path.exists(os.path.join(ROOT, file)), name)
                    elif is_test_name(name):
                        self.find(name, [file] if file else code(where))
                        count += 1
        self.assertGreater(count, 80)

    def find(self, name, files):
        """Fails unless one of the files has the test, or the class of tests."""
        owner, _, function = name.rpartition(".")
        for file in files:
            text = read(file)
            if (not owner or f"class {owner}" in text) and re.search(rf"\b(func|def|class) {function}\b", text):
                return
        self.fail(f"{name} is not in {files}")

    def test_the_korean_list_has_the_same_lines(self):
        english, korean = read("docs/checklist.md"), read("docs/checklist.ko.md")
        self.assertEqual([level for level, _ in headings(english)], [level for level, _ in headings(korean)])
        self.assertEqual(len(rows(english)), len(rows(korean)))
        for (line, where, proof, state), other in zip(rows(english), rows(korean), strict=True):
            with self.subTest(line):
                self.assertEqual(sorted(code(where)), sorted(code(other[1])))
                self.assertEqual(sorted(code(proof)), sorted(code(other[2])))
                self.assertEqual(state.partition(":")[0], STATES.get(other[3].partition(":")[0]), other[3])
                self.assertEqual(":" in state, ":" in other[3], "what is missing is told in both")


class ReadmeTests(unittest.TestCase):
    def test_the_korean_page_is_in_step(self):
        english, korean = read("README.md"), read("README.ko.md")
        self.assertEqual([level for level, _ in headings(english)], [level for level, _ in headings(korean)])
        self.assertEqual(code_blocks(english), code_blocks(korean))
        self.assertEqual([code(row[0]) for row in rows(english)], [code(row[0]) for row in rows(korean)])

        def targets(text):
            return {target.replace(".ko.md", ".md") for target in links(text)} - {"README.md"}

        self.assertEqual(targets(english), targets(korean))
        items = [len(re.findall(r"^- ", without_code(text), re.MULTILINE)) for text in (english, korean)]
        self.assertEqual(*items, "items of lists")


if __name__ == "__main__":
    unittest.main()
