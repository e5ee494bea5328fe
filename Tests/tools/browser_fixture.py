"""Drives a headless Chromium for tests: its own protocol (https://chromedevtools.github.io/devtools-protocol/) over a
pair of pipes, so that neither a driver nor a package is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

from clickhouse_fixture import wait_until

NAMES = ("chromium-headless-shell", "chromium")


def find_browser() -> str | None:
    """The browser's program, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A running Chromium with one page. What it complains of and asks for is kept."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="browser-")
        # Chromium reads commands from descriptor 3 and writes answers to 4, each ended by a zero byte.
        their_input, self._output = os.pipe()
        self._input, their_output = os.pipe()
        command = [find_browser(), "--headless", "--remote-debugging-pipe", f"--user-data-dir={self.folder}"]
        # The sandbox needs privileges that root in a container lacks; only pages of our own are opened.
        command += ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"]
        # It asks its maker for nothing.
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        shell = ["sh", "-c", f'exec "$@" 3<&{their_input} 4>&{their_output}', "sh", *command]
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.process = subprocess.Popen(shell, pass_fds=(their_input, their_output), stdout=log, stderr=log)
        os.close(their_input)
        os.close(their_output)
        self._buffer = b""
        self._number = 0
        self._session = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def call(self, method: str, **parameters):
        """One command and its result; events that come meanwhile are noted."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]

    def _receive(self, seconds: float = 30) -> dict:
        deadline = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            readable, _, _ = select.select([self._input], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self._input, 1 << 16) if readable else b""
            if not data:
                raise AssertionError("the browser does not answer")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, event: str | None, of: dict) -> None:
        if event == "Runtime.exceptionThrown":
            details = of["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{of['type']}: {of['args']}")
        elif event == "Log.entryAdded":
            self.complaints.append(f"{of['entry']['level']}: {of['entry']['text']} {of['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.requests.append(of["request"]["url"])
        elif event == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {of['message']}")

    # What a person does and sees.

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        wait_until(lambda: self.run("document.readyState") == "complete", f"{url} is loaded")

    def run(self, expression: str):
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What an element shows; empty if there is none."""
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def wait_for_text(self, selector: str, text: str, seconds: float = 10) -> None:
        try:
            wait_until(lambda: text in self.text(selector), "", seconds)
        except AssertionError:
            raise AssertionError(f"{selector} shows {self.text(selector)!r}, not {text!r}") from None

    def click(self, selector: str) -> None:
        """Scrolls to an element and presses the mouse on its middle, as a person does: what lies above it gets it."""
        place = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return r.width && !e.disabled ? [r.x + r.width / 2, r.y + r.height / 2] : null; })()"
        )
        if place is None:
            raise AssertionError(f"{selector} can't be clicked")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def look(self, width: int, height: int, scheme: str = "light", scale: float = 1) -> None:
        """The window's size, and whether the person likes it light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        features = [
            {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}
        ]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: str) -> None:
        """The whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def close(self) -> None:
        os.close(self._output)
        os.close(self._input)
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)
