"""`ingestd top` in a real terminal, and where there is none."""

import contextlib
import fcntl
import http.server
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest
import urllib.request

from service_fixture import BINARY, Service, free_port

try:
    # A terminal by other hands: what it shows is what a person would see.
    import pyte
except ImportError:
    pyte = None

ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l"
LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"
DEADLINE_SECONDS = 20


def post(service, count, prefix):
    """Sends events."""
    body = "\n".join(json.dumps({"event_id": f"{prefix}-{number}"}) for number in range(count))
    request = urllib.request.Request(f"{service.url}/v1/events", data=body.encode())
    urllib.request.urlopen(request, timeout=10).read()


class Terminal:
    """A terminal with a shell in it that controls jobs, as a person has."""

    def __init__(self, columns, rows, **variables):
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._number = 0
        environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "PS1": "", "PS2": "", **variables}
        # Without the shell's own editing, which would change the terminal too.
        shell = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
        self._shell, self._master = pty.fork()
        if self._shell == 0:
            try:
                os.execvpe(shell[0], shell, environment)
            finally:
                os._exit(127)
        self.resize(columns, rows)
        self.write("stty -echo; echo re''ady\n")
        self.wait("ready")

    def write(self, text):
        os.write(self._master, text.encode())

    def pump(self, seconds=0.02):
        """Shows what has come."""
        if select.select([self._master], [], [], seconds)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                # How the end of a terminal looks from here.
                return
            self.raw += data
            self._stream.feed(data)

    @property
    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def shows(self, pattern):
        return re.search(pattern, "\n".join(self.lines), re.MULTILINE)

    def wait(self, pattern):
        """Waits until the screen shows this; returns the match."""
        return self.wait_until(lambda: self.shows(pattern), pattern)

    def wait_until(self, condition, what):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            if found := condition():
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"not seen: {what}\n" + "\n".join(self.lines))
            self.pump()

    def resize(self, columns, rows):
        self.screen.resize(rows, columns)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def attributes(self):
        return termios.tcgetattr(self._master)

    def run(self, *command):
        """Starts a command that ends some time; its code is what `ended` waits for."""
        self._number += 1
        self.raw = b""
        self.screen.erase_in_display(2)
        self.write(f"{shlex.join(command)}; echo ended {self._number} $?\n")

    def ended(self):
        return int(self.wait(rf"ended {self._number} (\d+)")[1])

    def process(self):
        """The id of what runs in it."""
        with open(f"/proc/{self._shell}/task/{self._shell}/children", encoding="ascii") as children:
            return int(children.read().split()[0])

    def close(self):
        # The shell and what runs in it get a SIGHUP.
        os.close(self._master)
        os.kill(self._shell, signal.SIGKILL)
        os.waitpid(self._shell, 0)


@unittest.skipUnless(os.access(BINARY, os.X_OK), "no build")
@unittest.skipUnless(pyte, "no pyte: tools/setup installs it")
class ScreenTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Nobody is where its ClickHouse should be.
        cls.service = Service(SHUTDOWN_TIMEOUT="0s")
        cls.addClassCleanup(cls.service.close)

    def open(self, columns=100, rows=30, service=None, interval="0.1", **variables):
        terminal = Terminal(columns, rows, **variables)
        self.addCleanup(terminal.close)
        self.before = terminal.attributes()
        port = (service or self.service).port
        terminal.run(BINARY, "top", "--interval", interval, "--http-port", str(port))
        return terminal

    def check_restored(self, terminal):
        """The terminal is as it was, in all that a shell would notice."""
        self.assertEqual(terminal.attributes(), self.before)
        self.assertEqual(terminal.raw.count(ENTER), terminal.raw.count(LEAVE))
        self.assertGreater(terminal.raw.rindex(LEAVE), terminal.raw.rindex(b"q quits"), "nothing is drawn afterwards")
        self.assertFalse(terminal.screen.cursor.hidden)
        self.assertIn(pyte.modes.DECAWM, terminal.screen.mode)

    def test_a_growing_backlog_and_a_changing_window(self):
        terminal = self.open()
        terminal.wait(r"^ingestd \S+  connected  .*  up \d+s  http://127")
        self.assertTrue(terminal.raw.rpartition(ENTER)[1], "on the alternate screen")
        self.assertTrue(terminal.screen.cursor.hidden)
        self.assertNotEqual(terminal.attributes(), self.before)
        before = int(terminal.wait(r"^events +\w+ +(\d+)")[1])
        post(self.service, 300, "grow")
        # The backlog, its age, and the rates of stream and source.
        terminal.wait(rf"^events  retrying +{before + 300} +[\d.]+s +[1-9]\d* +0 +0$")
        terminal.wait(r"^http +events +[1-9]\d* +\d+ +0 +0$")
        terminal.wait(rf"^sources [1-9]\d*/s  ->  journal, waiting {before + 300}  ->  ClickHouse 0/s$")
        terminal.wait(r"^journal \[#\.+\] .* of 8.00 GiB \(0%\)")
        terminal.wait(r"^ClickHouse: .*onnect")
        self.assertEqual(terminal.lines[-1], "every 100ms, q quits")

        terminal.resize(40, 20)
        terminal.wait(r"^STREAM +STATE +BACKLOG +OLDEST +OUT/S$")
        terminal.wait(rf"^in \S+ > wait {before + 300} > out 0/s$")
        self.assertEqual(terminal.lines[-1], "every 100ms, q quits")
        terminal.resize(120, 8)
        terminal.wait_until(lambda: terminal.lines[7] == "every 100ms, q quits", "the last line of eight")
        terminal.resize(120, 40)
        terminal.wait_until(lambda: terminal.lines[39] == "every 100ms, q quits", "the last line of forty")
        terminal.wait(r"^STREAM +STATE +BACKLOG +OLDEST +IN/S +OUT/S +DEAD$")
        self.assertEqual(sum("q quits" in line for line in terminal.lines), 1, "nothing of the old picture is left")

        # A cursor key is no q; neither is one that holds a letter.
        terminal.write("\x1b[A\x1bOq")
        frames = terminal.raw.count(b"q quits")
        terminal.wait_until(lambda: terminal.raw.count(b"q quits") > frames + 2, "it goes on")
        terminal.write("q")
        self.assertEqual(terminal.ended(), 0)
        self.check_restored(terminal)

    def test_a_changed_window_is_drawn_at_once(self):
        terminal = self.open(interval="1h")
        terminal.wait("^events")
        terminal.resize(90, 12)
        terminal.wait_until(lambda: terminal.lines[11] == "every 1h, q quits", "the last line of twelve")
        terminal.screen.erase_in_display(2)
        terminal.write("\x0c")
        terminal.wait("^events")

    def test_each_way_out_restores_the_terminal(self):
        terminal = self.open()
        terminal.wait("q quits")
        terminal.write("\x03")
        self.assertEqual(terminal.ended(), 0)
        self.check_restored(terminal)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            terminal.run(BINARY, "top", "--http-port", str(self.service.port))
            terminal.wait("q quits")
            os.kill(terminal.process(), number)
            self.assertEqual(terminal.ended(), 128 + number)
            self.check_restored(terminal)

    def test_ctrl_z_gives_the_terminal_back_for_a_while(self):
        terminal = self.open()
        terminal.wait("q quits")
        terminal.write("\x1a")
        self.assertEqual(terminal.ended(), 128 + signal.SIGTSTP)
        self.assertEqual(terminal.attributes(), self.before)
        self.assertEqual(terminal.raw.count(LEAVE), 1)
        self.assertFalse(terminal.screen.cursor.hidden)
        terminal.run("fg")
        terminal.wait("q quits")
        self.assertEqual(terminal.raw.count(ENTER), 1)
        terminal.raw = ENTER + terminal.raw.partition(ENTER)[2]
        terminal.write("q")
        self.assertEqual(terminal.ended(), 0)
        self.check_restored(terminal)

    def test_a_terminal_that_takes_nothing_keeps_nobody(self):
        terminal = self.open(columns=300, rows=100)
        terminal.wait("q quits")
        process = terminal.process()
        # Nobody reads; frames fill the terminal's buffer up.
        deadline = time.monotonic() + DEADLINE_SECONDS

        def waits_for_terminal():
            terminal.write("\x0c" * 20)  # Ctrl-L: draw it again
            for task in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{task}/syscall", encoding="ascii") as call:
                    # write(1, ...), and not for a moment only
                    if call.read().split()[:2] == ["1", "0x1"]:
                        return True
            return False

        seen = 0
        while seen < 3:
            seen = seen + 1 if waits_for_terminal() else 0
            self.assertLess(time.monotonic(), deadline, "its output does not block")
            time.sleep(0.02)
        os.kill(process, signal.SIGTERM)
        while os.path.exists(f"/proc/{process}/exe") and terminal_state(process) != "Z":
            self.assertLess(time.monotonic(), deadline, "it hangs")
            time.sleep(0.05)
        self.assertEqual(terminal.attributes(), self.before)

    def test_a_service_that_goes_away_and_comes_back(self):
        service = Service(SHUTDOWN_TIMEOUT="0s")
        self.addCleanup(service.close)
        post(service, 7, "away")
        terminal = self.open(service=service)
        terminal.wait(r"^events +\w+ +7 .* 0 +0 +0$")
        service.stop()
        terminal.wait(r"^ingestd \S+  not connected since \d\d:\d\d:\d\d \(")
        terminal.wait(r"^no service answers at http://127.0.0.1:\d+ .*Connection refused$")
        # The last answer stays, without rates that nobody knows.
        terminal.wait(r"^events +\w+ +7 +\S+ +- +- +0$")
        service.start()
        terminal.wait(r"^ingestd \S+  connected ")
        terminal.wait(r"^events +\w+ +7 .* 0 +0 +0$")
        self.assertFalse(terminal.shows("Connection refused$"))
        self.assertFalse(terminal.shows(r" -\d"), "a restart makes no negative rates")
        terminal.write("q")
        self.assertEqual(terminal.ended(), 0)

    def test_held_streams_with_a_strangers_words(self):
        class Refusing(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                text = "Code: 516. DB::Exception: 비밀번호가 \x1b[2J\x1b]0;evil\x07틀렸습니다: Authentication failed\n"
                self.send_response(403)
                self.send_header("X-ClickHouse-Exception-Code", "516")
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                # Whoever asked may not wait for all of it.
                with contextlib.suppress(OSError):
                    self.wfile.write(text.encode())

            do_GET = do_POST

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        self.addCleanup(server.shutdown)
        service = Service(
            CLICKHOUSE_URL=f"http://127.0.0.1:{server.server_port}", STREAMS="aaa=aaa,zzz=zzz", SHUTDOWN_TIMEOUT="0s"
        )
        self.addCleanup(service.close)
        request = urllib.request.Request(f"{service.url}/v1/events/zzz", data=b"{}")
        urllib.request.urlopen(request, timeout=10).read()
        terminal = self.open(columns=46, rows=40, service=service)
        held = terminal.wait(r"^zzz +held +1 .*\n((?:  .*\n)+)aaa +running +0 ")
        self.assertTrue(terminal.shows("^1 stream held$"))
        # Another terminal than ours has counted the columns, and each line of the reason is whole.
        reason = "".join(line[2:].rstrip() for line in held[1].splitlines())
        self.assertIn("비밀번호가", reason.replace(" ", ""))
        self.assertIn("\ufffd[2J\ufffd]0;evil\ufffd", reason.replace(" ", ""))
        self.assertNotIn(b"\x1b]", terminal.raw)
        row = next(number for number, line in enumerate(terminal.lines) if line.startswith("zzz"))
        self.assertEqual({terminal.screen.buffer[row + 1][column].fg for column in range(2, 6)}, {"red"})
        self.assertEqual(terminal.screen.buffer[row][0].fg, "red")

    def test_no_color(self):
        terminal = self.open(NO_COLOR="1")
        terminal.wait("^events")
        terminal.write("q")
        terminal.ended()
        self.assertEqual(set(re.findall(rb"\x1b\[([\d;]*)m", terminal.raw)), {b"", b"1"}, "bold is no color")
        # And with an empty one there is color, as for everyone.
        colored = self.open(NO_COLOR="")
        colored.wait("^events")
        self.assertIn(b"\x1b[33m", colored.raw)

    def test_once_and_a_terminal_that_can_do_nothing(self):
        terminal = self.open()
        terminal.wait("q quits")
        terminal.write("q")
        terminal.ended()
        for command in (
            [BINARY, "top", "--once", "--http-port", str(self.service.port)],
            ["env", "TERM=dumb", BINARY, "top", "--http-port", str(self.service.port)],
        ):
            terminal.write("clear\n")
            terminal.run(*command)
            self.assertEqual(terminal.ended(), 0)
            text = terminal.raw.split(b"ingestd", 1)[1]
            self.assertIn(b"since the start", text)
            self.assertNotIn(b"\x1b", text)


def terminal_state(process):
    """A process's state, such as Z for one that has ended and waits for its parent."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        with open(f"/proc/{process}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    return "Z"


@unittest.skipUnless(os.access(BINARY, os.X_OK), "no build")
class LineTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service(SHUTDOWN_TIMEOUT="0s")
        cls.addClassCleanup(cls.service.close)
        post(cls.service, 5, "lines")

    def top(self, *arguments, port=None, **settings):
        environment = {"PATH": os.environ["PATH"], "HTTP_PORT": str(port or self.service.port), **settings}
        return subprocess.run(
            [BINARY, "top", *arguments], env=environment, capture_output=True, text=True, timeout=30,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def test_one_picture_with_totals(self):
        for arguments in ([], ["--once"]):
            answer = self.top(*arguments)
            self.assertEqual(answer.returncode, 0, answer.stderr)
            self.assertNotIn("\x1b", answer.stdout)
            self.assertRegex(answer.stdout, r"(?m)^sources 5  ->  journal, waiting 5  ->  ClickHouse 0  since the start$")
            self.assertRegex(answer.stdout, r"(?m)^events +\w+ +5 +[\d.]+s +0 +0$")
            self.assertEqual(answer.stdout.count("ingestd "), 1)

    def test_some_pictures_with_rates(self):
        answer = self.top("--count", "2", "--interval", "100ms")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertNotIn("\x1b", answer.stdout)
        self.assertEqual(len(re.findall(r"^sources 0/s  ->", answer.stdout, re.MULTILINE)), 2)
        self.assertEqual(len(re.findall(r"^ingestd ", answer.stdout, re.MULTILINE)), 2)

    def test_json(self):
        answer = self.top("--json", "--count", "3", "--interval", "0.1")
        lines = [json.loads(line) for line in answer.stdout.splitlines()]
        self.assertEqual(len(lines), 3)
        for line in lines:
            self.assertTrue(line["connected"])
            self.assertEqual(line["service"], self.service.url)
            self.assertEqual(line["rates"]["accepted_events"], 0)
            self.assertGreater(line["rates"]["seconds"], 0)
            self.assertEqual(line["status"]["streams"][0]["pending_events"], 5)
            self.assertEqual(line["rates"]["streams"][0]["stream"], "events")
        once = json.loads(self.top("--json", "--once").stdout)
        self.assertIsNone(once["rates"])

    def test_json_without_end_lasts_as_long_as_somebody_reads(self):
        port = free_port()
        process = subprocess.Popen(
            [BINARY, "top", "--json", "--interval", "0.1", "--http-port", str(port)], stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.kill)
        line = json.loads(process.stdout.readline())
        self.assertEqual(line["connected"], False)
        self.assertIn("Connection refused", line["error"])
        process.stdout.close()
        self.assertEqual(process.wait(10), 0)

    def test_nobody_there(self):
        for arguments in (["--once"], [], ["--count", "2"], ["--json", "--once"]):
            answer = self.top(*arguments, port=free_port())
            self.assertEqual(answer.returncode, 1)
            self.assertEqual(answer.stdout, "")
            self.assertRegex(answer.stderr, r"^Error: no service answers at http://127.0.0.1:\d+ .*: Connection refused$")
        self.assertIn("HTTP_PORT is 0", self.top("--once", "--http-port", "0").stderr)

    def test_somebody_else_there(self):
        class Other(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            answer = self.top("--once", port=server.server_port)
            thread.join()
        self.assertEqual(answer.returncode, 1)
        self.assertIn("shows no status of ingestd", answer.stderr)

    def test_wrong_usage(self):
        for arguments in (
            ["--interval", "0"], ["--interval", "x"], ["--interval", "2h"], ["--count", "0"], ["--once", "--count", "2"],
        ):  # fmt: skip
            self.assertEqual(self.top(*arguments).returncode, 64, arguments)


@unittest.skipUnless(os.access(BINARY, os.X_OK), "no build")
class TokenTests(unittest.TestCase):
    """Where a command that asks the service takes its token from."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="top-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        tokens = cls.write("tokens", "# ours\nevents ingest\nboth\tingest:events operations\nlate operations\n")
        cls.service = Service(HTTP_TOKEN="general", HTTP_TOKENS_PATH=tokens)
        cls.addClassCleanup(cls.service.close)
        cls.tokens = tokens

    @classmethod
    def write(cls, name, text):
        path = os.path.join(cls.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def top(self, **settings):
        environment = {"PATH": os.environ["PATH"], "HTTP_PORT": str(self.service.port), **settings}
        return subprocess.run(
            [BINARY, "top", "--once"], env=environment, capture_output=True, text=True, timeout=30,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def refused(self, **settings):
        answer = self.top(**settings)
        self.assertEqual(answer.returncode, 1)
        self.assertIn("the service wants its token: HTTP_OPERATIONS_TOKEN", answer.stderr)
        for token in ("events", "both", "late", "general"):
            self.assertNotRegex(answer.stderr, rf"\b{token}\b")
        return answer.stderr

    def test_the_files_token_for_operations(self):
        self.assertEqual(self.top(HTTP_TOKENS_PATH=self.tokens).returncode, 0)
        # The general token may not operate where one for operations is.
        self.assertEqual(self.top(HTTP_TOKENS_PATH=self.tokens, HTTP_TOKEN="general").returncode, 0)
        self.refused(HTTP_TOKEN="general")
        # What was set for this goes before the file.
        self.refused(HTTP_TOKENS_PATH=self.tokens, HTTP_OPERATIONS_TOKEN="wrong")
        self.assertEqual(self.top(HTTP_TOKENS_PATH="/nowhere", HTTP_OPERATIONS_TOKEN="late").returncode, 0)

    def test_files_that_do_not_help_are_named(self):
        only = self.write("only", "events ingest\n")
        self.assertIn(f'(no token in {only} has the right "operations")', self.refused(HTTP_TOKENS_PATH=only))
        broken = self.write("broken", "late operations\nboth everything\n")
        self.assertIn(f"({broken} line 2: right 1 is none of", self.refused(HTTP_TOKENS_PATH=broken))
        self.assertIn("(/nowhere can't be read: No such file", self.refused(HTTP_TOKENS_PATH="/nowhere"))


if __name__ == "__main__":
    unittest.main()
