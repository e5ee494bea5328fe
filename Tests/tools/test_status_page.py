"""The status page in a browser, against a real service, and against scripted answers for what is hard to cause.

With INGESTD_SCREENSHOTS=FOLDER the page is also photographed there, to be looked at.
"""

import copy
import http.server
import json
import os
import threading
import time
import unittest
import urllib.request

from browser_fixture import Browser, find_browser
from clickhouse_fixture import DevelopmentClickHouse, wait_until
from service_fixture import Service

SCREENSHOTS = os.environ.get("INGESTD_SCREENSHOTS")
ATTACK = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
# The page waits 2 s between its questions; a test need not.
HURRY = "(wait => window.setTimeout = (work, ms) => wait(work, ms === 2000 ? window.pause ?? 200 : ms))"
HURRY += "(window.setTimeout)"


def post(service: Service, body: str, path: str = "/v1/events") -> None:
    request = urllib.request.Request(
        service.url + path, data=body.encode(), headers={"Content-Type": "application/x-ndjson"}
    )
    with urllib.request.urlopen(request) as response:
        assert response.status == 202, response.status


def events(numbers: range) -> str:
    return "".join(f'{{"event_id":"e{n}","text":"{n}"}}\n' for n in numbers)


HTML = "<b onclick=alert(1)>bold</b>"


class ScriptedService:
    """Answers as it is told; the page is the real one."""

    def __init__(self, page: bytes, policy: str):
        self.journals = ["a"]
        self.trouble = 0
        self.uptime = 1_000.0
        self.asked = 0
        self.status = {
            "version": HTML,
            "host": HTML,
            "journal": {"max_bytes": 10 << 30, "disk_free_bytes": None, "file_bytes": 0, "dead_letters": 1},
            "sources": [
                {"source": "kafka", "stream": HTML, "accepted_events": 0, "rejected_events": 0, "dead_letter_events": 0}
            ],
            "streams": [
                {
                    "stream": HTML, "state": "held", "reason": HTML, "pending_events": 5, "oldest_event_age_seconds": 7200,
                    "inserted_events": 0, "dead_letters": 1, "inserts_in_flight": 0,
                }
            ],
            "dead_letters": {
                "stored": 1, "stored_bytes": 4096, "store_full": False, "forwarding": True, "awaiting_forwarding": 1
            },
            "clickhouse": {"healthy": True, "detail": HTML},
            "kafka": {
                "enabled": True,
                "healthy": True,
                "detail": HTML,
                "partitions": [
                    {"topic": HTML, "partition": n, "lag": n, "uncommitted": n, "paused": n == 999} for n in range(1_000)
                ],
            },
        }
        script = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                code, kind, body = script.answer(self.path)
                data = page if body is None else body.encode()
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Content-Security-Policy", policy)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, path: str) -> tuple[int, str, str | None]:
        if path == "/":
            return 200, "text/html; charset=utf-8", None
        if self.trouble:
            return self.trouble, "text/html", "<h1>Bad gateway</h1>"
        document = {"components": [{"component": HTML, "healthy": False, "required": False, "detail": HTML}]}
        if path == "/v1/status":
            # Time passes as it is asked, 2 s and 20 events each time; the journal fills at 1 MiB a second.
            self.asked += 1
            self.uptime += 2
            document = copy.deepcopy(self.status)
            document["uptime_seconds"] = self.uptime
            document["time"] = "2026-11-23T12:00:00.000Z"
            document["journal"] |= {
                "id": self.journals[self.asked % len(self.journals)], "stored_bytes": int(self.uptime * (1 << 20))
            }
            document["sources"][0]["accepted_events"] = int(self.uptime * 10)
        elif path.startswith("/v1/dead-letters"):
            letter = {
                "id": 7, "state": "kept", "event_id": HTML, "failed_at": "2026-11-23T11:00:00.000Z", "stream": HTML,
                "error": {"kind": HTML, "message": HTML},
                "source": {"kind": "kafka", "topic": HTML, "partition": 0, "offset": 3},
            }
            document = {"dead_letters": [letter]}
        return 200, "application/json", json.dumps(document)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@unittest.skipUnless(find_browser(), "there is no Chromium")
class StatusPageTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)
        cls.browser.call("Page.addScriptToEvaluateOnNewDocument", source=HURRY)

    def setUp(self):
        self.browser.open("about:blank")
        self.browser.look(1280, 900)
        self.browser.complaints.clear()
        self.browser.requests.clear()

    def photograph(self, name: str) -> None:
        """The page as it is, in all the ways that it is looked at."""
        if not SCREENSHOTS:
            return
        for kind, look in {
            "light": (1280, 900, "light"), "dark": (1280, 900, "dark"), "phone": (390, 844, "light"),
            "small": (360, 640, "dark"),
        }.items():
            self.browser.look(*look)
            time.sleep(0.3)
            self.browser.screenshot(os.path.join(SCREENSHOTS, f"{name}-{kind}.png"))
        self.browser.look(1280, 900)

    def assert_quiet(self, service_url: str, expected: str = "") -> None:
        """Nothing was complained of but what is expected, nothing was asked elsewhere, and nothing sticks out."""
        complaints = [line for line in self.browser.complaints if not expected or expected not in line]
        self.assertEqual(complaints, [])
        elsewhere = [
            url for url in self.browser.requests if not url.startswith((service_url + "/", "data:", "about:"))
        ]
        self.assertEqual(elsewhere, [])
        for width in (360, 1280):
            self.browser.look(width, 800)
            self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), width)

    # Against the real service.

    def test_flow_held_stream_and_dead_letters(self):
        clickhouse = DevelopmentClickHouse("chdb")
        self.addCleanup(clickhouse.close)
        clickhouse.query("CREATE TABLE events (event_id String, text String) ENGINE = MergeTree ORDER BY event_id")
        clickhouse.query("CREATE TABLE strict (event_id String, n Int32) ENGINE = MergeTree ORDER BY event_id")
        port = clickhouse.port
        clickhouse.kill()
        service = Service(
            CLICKHOUSE_URL=f"http://{clickhouse.host}:{port}",
            ROW_MODE="flat",
            STREAMS="missing=missing,strict=strict",
            BATCH_MAX_AGE="10ms",
            RETRY_BACKOFF_MAX="100ms",
            HOLD_RETRY_INTERVAL="10m",
        )
        self.addCleanup(service.close)
        browser = self.browser
        browser.open(service.url + "/")
        browser.wait_for_text("#connection", "Live")
        browser.wait_for_text("#verdict-text", "All is well")
        self.assertIn("version 0.", browser.text("#version"))
        self.assertNotEqual(browser.text("#host"), "")

        # ClickHouse is down: the backlog rises, at the rate that comes in.
        post(service, events(range(1_200)))
        browser.wait_for_text("#backlog", "1,200")
        browser.wait_for_text("#accepted-total", "1,200")
        wait_until(lambda: self.number("#in-rate") > 1, "the events come in at a rate")
        self.assertEqual(browser.text("#out-rate"), "0")
        browser.wait_for_text("#verdict", "Inserts fail")
        self.assertIn("retrying", browser.text("#stream-rows"))
        self.assertEqual(browser.run("document.querySelector('#out-arrow').dataset.flows"), "no")

        # It is back: the backlog drains.
        clickhouse.start(port)
        browser.wait_for_text("#inserted-total", "1,200")
        self.assertEqual(browser.text("#backlog"), "0")
        wait_until(lambda: self.number("#out-rate") > 1, "they go out at a rate")
        browser.wait_for_text("#verdict-text", "All is well")

        # A stream without its table is held, and says why; a bad event becomes a dead letter.
        post(service, events(range(7)), "/v1/events/missing")
        post(service, json.dumps({"event_id": "bad", "n": ATTACK}), "/v1/events/strict")
        browser.wait_for_text("#verdict", "Stream missing is held.")
        self.assertEqual(browser.run("document.querySelector('#verdict').dataset.level"), "bad")
        self.assertTrue(browser.run("document.title").startswith("(!) "))
        reason = browser.run("document.querySelector('tr[data-level=bad] .reason').innerText")
        self.assertIn("missing", reason)
        browser.wait_for_text("#letter-rows", "row_data")
        self.assertEqual(browser.text("#letters-stored"), "1")
        # Its payload is not there before it is asked for, and is text.
        self.assertEqual(browser.run("document.querySelectorAll('pre').length"), 0)
        self.click_button("Show payload")
        browser.wait_for_text("pre", ATTACK)
        self.assertEqual(browser.run("document.querySelectorAll('main img, main script').length"), 0)
        self.photograph("trouble")

        # Mended, and tried again by the button.
        clickhouse.query("CREATE TABLE missing (event_id String, text String) ENGINE = MergeTree ORDER BY event_id")
        browser.run("document.querySelector('tr[data-level=bad] button').focus()")
        browser.press("Enter", 13, "\r")
        wait_until(lambda: clickhouse.query("SELECT count() FROM missing") == "7", "the stream goes on")
        browser.wait_for_text("#verdict-text", "All is well")
        self.assertEqual(browser.run("document.querySelectorAll('#stream-rows button').length"), 0)
        self.assertEqual(browser.run("document.activeElement.id"), "streams", "keyboards go on from there")

        # Sent again in vain it comes back as another letter; after the table is mended it arrives.
        self.click_button("Retry")
        browser.wait_for_text("#toast", "goes to strict again")
        wait_until(lambda: self.letter_names() == ["dead letter 2"], "the next letter is shown")
        clickhouse.query("ALTER TABLE strict MODIFY COLUMN n String")
        self.click_button("Retry")
        wait_until(lambda: clickhouse.query("SELECT n FROM strict FORMAT TSVRaw") == ATTACK, "the event arrives")
        browser.wait_for_text("#letters-note", "None.")

        # Discarding asks first.
        post(service, "{broken\n", "/v1/events?on_error=dead_letter")
        browser.wait_for_text("#letter-rows", "invalid_json")
        self.click_button("Retry")
        browser.wait_for_text("#toast", "can't be sent again")
        self.click_button("Discard")
        browser.wait_for_text("#confirm", "Nothing brings it back")
        browser.press("Escape", 27)
        wait_until(lambda: not browser.run("document.querySelector('#confirm').open"), "the question is gone")
        self.assertEqual(len(self.letter_names()), 1)
        self.click_button("Discard")
        self.assertEqual(browser.run("document.activeElement.value"), "cancel", "what is safe has the focus")
        browser.press("Tab", 9)
        browser.press("Enter", 13, "\r")
        browser.wait_for_text("#letters-note", "None.")
        self.assertEqual(browser.run("document.activeElement.id"), "letters")
        self.assertNotIn("owned", browser.run("document.title"))
        self.assert_quiet(service.url, expected="409 (Conflict)")

        # The service goes away, and comes back.
        browser.look(1280, 900)
        service.process.kill()
        service.process.wait(10)
        browser.wait_for_text("#connection", "Not connected since")
        self.assertEqual(browser.run("document.querySelector('#verdict').dataset.level"), "bad")
        self.photograph("lost")

    def number(self, selector: str) -> float:
        return float(self.browser.text(selector).replace(",", "").replace("–", "0"))

    def click_button(self, words: str) -> None:
        self.browser.click(f"#letter-rows button[aria-label^='{words}:']")

    def letter_names(self) -> list[str]:
        return self.browser.run(
            "[...document.querySelectorAll('#letter-rows button:first-child')]"
            ".map(one => one.getAttribute('aria-label').split(': ')[1])"
        )

    def test_token(self):
        service = Service(HTTP_TOKEN="bring", HTTP_OPERATIONS_TOKEN="operate")
        self.addCleanup(service.close)
        browser = self.browser
        browser.open(service.url + "/")
        browser.wait_for_text("#token", "asks for a token")
        self.assertEqual(browser.run("document.activeElement.id"), "token-value")
        self.assertEqual(browser.text("#backlog"), "–")
        self.photograph("token")
        # One that may only bring events.
        browser.type("bring")
        browser.press("Enter", 13, "\r")
        browser.wait_for_text("#token", "needs a token with the right \"operations\"")
        browser.type("operate")
        browser.press("Enter", 13, "\r")
        browser.wait_for_text("#connection", "Live")
        self.assertEqual(browser.text("#backlog"), "0")
        # Of this tab: it is there after loading again, in no address, and in no other storage.
        self.assertEqual(browser.run("[localStorage.length, document.cookie]"), [0, ""])
        self.assertFalse([url for url in browser.requests if "operate" in url])
        browser.open(service.url + "/")
        browser.wait_for_text("#connection", "Live")
        browser.click("#token-open")
        browser.click("#token-forget")
        browser.wait_for_text("#connection", "Needs a token")
        self.assertEqual(browser.run("sessionStorage.length"), 0)
        self.assert_quiet(service.url, expected="/v1/status")
        self.assertTrue(all("401" in line or "403" in line for line in browser.complaints), browser.complaints)

    # Against a script.

    def scripted(self) -> ScriptedService:
        service = Service()
        try:
            request = urllib.request.Request(service.url + "/", headers={"Accept": "text/html"})
            with urllib.request.urlopen(request) as response:
                script = ScriptedService(response.read(), response.headers["content-security-policy"])
        finally:
            service.close()
        self.addCleanup(script.close)
        return script

    def test_texts_of_the_service_stay_texts_and_lists_stay_short(self):
        script = self.scripted()
        browser = self.browser
        browser.open(script.url + "/")
        browser.wait_for_text("#letter-rows", HTML)
        self.assertEqual(browser.run("document.querySelectorAll('b[onclick], main img').length"), 0)
        for place in ("#host", "#version", "#troubles", "#stream-rows", "#letter-rows", "#partition-rows", "#component-rows"):
            self.assertIn(HTML, browser.text(place))
        self.assertEqual(browser.run("document.querySelectorAll('#partition-rows tr').length"), 20)
        self.assertIn("999", browser.text("#partition-rows tr:first-child"))
        self.assertIn("paused", browser.text("#partition-rows tr:first-child"))
        self.assertEqual(browser.text("#partitions-more"), "and 980 more, with a lag of 480K together")
        self.assertIn("1 not in the dead-letter topic yet", browser.text("#letters-note"))
        self.assertEqual(browser.text("#oldest"), "2 h 0 min")
        # 10 events and 1 MiB a second, 9 GiB of room.
        browser.wait_for_text("#kafka-rate", "10 /s")
        browser.wait_for_text("#time-to-full", "2 h 3")
        self.assertEqual(browser.text("#disk-free"), "not known")
        self.photograph("full")
        script.status["kafka"]["partitions"] = []
        browser.run("window.pause = 1")
        wait_until(lambda: script.asked > 160, "more was seen than is kept")
        points = browser.run("document.querySelector('#in-spark .line').getAttribute('d').split('L').length")
        self.assertEqual(points, 150)
        self.assert_quiet(script.url)

    def test_restart_other_instances_and_a_proxys_page(self):
        script = self.scripted()
        browser = self.browser
        browser.open(script.url + "/")
        browser.wait_for_text("#in-rate", "10")
        # A restarted service counts from zero again: that is no rate.
        script.uptime = 0
        wait_until(lambda: browser.text("#uptime").startswith("up 2.0"), "the restart is seen", 5)
        self.assertEqual(browser.text("#in-rate"), "–")
        browser.wait_for_text("#in-rate", "10")
        script.trouble = 502
        browser.wait_for_text("#connection", "Not connected since")
        self.assertIn("The service answered 502.", browser.text("#troubles"))
        script.trouble = 0
        browser.wait_for_text("#connection", "Live")
        self.assertNotIn("Several", browser.text("#troubles"))
        script.journals = ["a", "b"]
        browser.wait_for_text("#troubles", "Several instances answer here in turn.")
        self.assert_quiet(script.url, expected="502 (Bad Gateway)")


if __name__ == "__main__":
    unittest.main()
