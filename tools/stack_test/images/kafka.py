#!/usr/bin/env python3
"""Stands in for the image apache/kafka in `make stack-test`: librdkafka's mock broker behind the address of the stack.

The mock (tools/kafka-dev) listens on a port of the loopback of its choice, tells that to its clients, makes any topic
it is asked for, and knows no CreateTopics. So this program listens where KAFKA_LISTENERS says and tells clients what
KAFKA_ADVERTISED_LISTENERS says; it answers Metadata, CreateTopics and DescribeConfigs itself, and hands everything
else through. The names of the topics are kept in KAFKA_LOG_DIRS, messages and offsets only in memory.

Formats: Kafka protocol guide (ApiVersions 0-3, Metadata 4, CreateTopics 4, DescribeConfigs 1). Clients older than
Metadata 4 are not served.
"""

import asyncio
import json
import os
import re
import signal
import struct
import sys

METADATA, API_VERSIONS, CREATE_TOPICS, DESCRIBE_CONFIGS = 3, 18, 19, 32
OWN = {METADATA: (4, 4), CREATE_TOPICS: (4, 4), DESCRIBE_CONFIGS: (1, 1)}
UNKNOWN_TOPIC, TOPIC_ALREADY_EXISTS, INVALID_REPLICATION_FACTOR = 3, 36, 38
# The mock's only broker.
NODE = 1
MAXIMUM_FRAME = 64 << 20


class Fields:
    """A request, read from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from(">" + code, self.data, self.position)
        self.position += struct.calcsize(">" + code)
        return int(value)

    def string(self) -> str | None:
        length = self.number("h")
        if length < 0:
            return None
        self.position += length
        return self.data[self.position - length : self.position].decode()


def string(text: str | None) -> bytes:
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text.encode())) + text.encode()


def array(items: list[bytes]) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)


async def read_frame(stream: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await stream.readexactly(4))
    if not 0 <= size <= MAXIMUM_FRAME:
        raise ConnectionError(f"a frame of {size} bytes")
    return await stream.readexactly(size)


async def write_frame(stream: asyncio.StreamWriter, frame: bytes) -> None:
    stream.write(struct.pack(">i", len(frame)) + frame)
    await stream.drain()


class Mock:
    """The process with the mock broker."""

    process: asyncio.subprocess.Process
    port: int

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            "/usr/local/bin/kafka-dev", "serve", "--topics-from-stdin",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        line = await self.line()
        match = re.fullmatch(r"ready 127\.0\.0\.1:(\d+)", line)
        if not match:
            raise OSError(f"the mock broker said: {line}")
        self.port = int(match[1])

    async def line(self) -> str:
        return (await self.process.stdout.readline()).decode().strip()

    async def create(self, name: str, partitions: int) -> None:
        self.process.stdin.write(f"{name}:{partitions}\n".encode())
        await self.process.stdin.drain()
        line = await self.line()
        if line != f"created {name}":
            raise OSError(f"the mock broker said: {line}")


class Broker:
    def __init__(self) -> None:
        self.mock = Mock()
        self.lock = asyncio.Lock()
        listener = re.search(r"PLAINTEXT://([^:,]*):(\d+)", os.environ["KAFKA_LISTENERS"])
        advertised = re.search(r"PLAINTEXT://([^:,]+):(\d+)", os.environ["KAFKA_ADVERTISED_LISTENERS"])
        self.listener = (listener[1] or "0.0.0.0", int(listener[2]))
        self.host, self.port = advertised[1], int(advertised[2])
        self.file = os.path.join(os.environ["KAFKA_LOG_DIRS"], "topics.json")
        self.topics: dict[str, dict] = {}
        self.versions: dict[int, tuple[int, int]] = {}

    async def run(self) -> None:
        await self.mock.start()
        self.versions = await self.mock_versions() | OWN
        if os.path.exists(self.file):
            with open(self.file) as file:
                for name, topic in json.load(file).items():
                    await self.mock.create(name, topic["partitions"])
                    self.topics[name] = topic
        server = await asyncio.start_server(self.serve, *self.listener)
        address = f"{self.listener[0]}:{self.listener[1]}"
        print(f"kafka stand-in: serves {address}, known as {self.host}:{self.port}", flush=True)
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        ended = asyncio.create_task(self.mock.process.wait())
        await asyncio.wait([asyncio.create_task(stopped.wait()), ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise OSError(f"the mock broker ended with {ended.result()}")
        server.close()
        self.mock.process.terminate()
        await ended

    async def mock_versions(self) -> dict[int, tuple[int, int]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.mock.port)
        await write_frame(writer, struct.pack(">hhi", API_VERSIONS, 0, 1) + string("stand-in"))
        answer = await read_frame(reader)
        writer.close()
        (count,) = struct.unpack_from(">i", answer, 6)
        entries = [struct.unpack_from(">hhh", answer, 10 + 6 * index) for index in range(count)]
        return {key: (lowest, highest) for key, lowest, highest in entries}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.mock.port)
        except OSError:
            writer.close()
            return
        tasks = [
            asyncio.create_task(self.requests(reader, writer, upstream_writer)),
            asyncio.create_task(self.answers(upstream_reader, writer)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(result, OSError | EOFError | asyncio.CancelledError | None):
                    print(f"kafka stand-in: {result!r}", file=sys.stderr, flush=True)
            upstream_writer.close()
            writer.close()

    async def requests(self, reader, writer, upstream) -> None:
        while True:
            frame = await read_frame(reader)
            fields = Fields(frame)
            key, version, correlation = fields.number("h"), fields.number("h"), fields.number("i")
            fields.string()
            body = await self.own_answer(key, version, fields)
            if body is None:
                await write_frame(upstream, frame)
            else:
                await write_frame(writer, struct.pack(">i", correlation) + body)

    async def answers(self, upstream, writer) -> None:
        # FindCoordinator tells an address; the frame's own length is written anew.
        mock = string("127.0.0.1") + struct.pack(">i", self.mock.port)
        own = string(self.host) + struct.pack(">i", self.port)
        while True:
            frame = await read_frame(upstream)
            await write_frame(writer, frame.replace(mock, own) if len(frame) < 512 else frame)

    async def own_answer(self, key: int, version: int, request: Fields) -> bytes | None:
        if key == API_VERSIONS:
            return self.api_versions(version)
        if key in OWN and not OWN[key][0] <= version <= OWN[key][1]:
            raise ValueError(f"request {key} in version {version}")
        if key == METADATA:
            return self.metadata(request)
        if key == CREATE_TOPICS:
            async with self.lock:
                return await self.create_topics(request)
        if key == DESCRIBE_CONFIGS:
            return self.describe_configs(request)
        return None

    def api_versions(self, version: int) -> bytes:
        entries = [(key, *versions) for key, versions in sorted(self.versions.items())]
        if version >= 3:
            keys = b"".join(struct.pack(">hhhB", *entry, 0) for entry in entries)
            return struct.pack(">hB", 0, len(entries) + 1) + keys + struct.pack(">iB", 0, 0)
        keys = array([struct.pack(">hhh", *entry) for entry in entries])
        return struct.pack(">h", 0) + keys + (struct.pack(">i", 0) if version >= 1 else b"")

    def metadata(self, request: Fields) -> bytes:
        count = request.number("i")
        names = sorted(self.topics) if count < 0 else [request.string() or "" for _ in range(count)]
        brokers = [struct.pack(">i", NODE) + string(self.host) + struct.pack(">i", self.port) + string(None)]
        head = struct.pack(">i", 0) + array(brokers) + string("stand-in") + struct.pack(">i", NODE)
        return head + array([self.topic_metadata(name) for name in names])

    def topic_metadata(self, name: str) -> bytes:
        topic = self.topics.get(name)
        if topic is None:
            return struct.pack(">h", UNKNOWN_TOPIC) + string(name) + struct.pack(">bi", 0, 0)
        replicas = array([struct.pack(">i", NODE)])
        partitions = [
            struct.pack(">hii", 0, index, NODE) + replicas + replicas for index in range(topic["partitions"])
        ]  # fmt: skip
        return struct.pack(">h", 0) + string(name) + struct.pack(">b", 0) + array(partitions)

    async def create_topics(self, request: Fields) -> bytes:
        results = []
        for _ in range(request.number("i")):
            name = request.string() or ""
            partitions, replication = request.number("i"), request.number("h")
            if request.number("i"):
                raise ValueError("replica assignments")
            settings = {request.string(): request.string() for _ in range(request.number("i"))}
            error, words = await self.create(name, partitions, replication, settings)
            results.append(string(name) + struct.pack(">h", error) + string(words))
        return struct.pack(">i", 0) + array(results)

    async def create(self, name: str, partitions: int, replication: int, settings: dict) -> tuple[int, str | None]:
        if name in self.topics:
            return TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists."
        if replication > 1:
            return INVALID_REPLICATION_FACTOR, f"Replication factor: {replication} larger than available brokers: 1."
        await self.mock.create(name, partitions)
        self.topics[name] = {"partitions": partitions, "settings": settings}
        with open(self.file + ".new", "w") as file:
            json.dump(self.topics, file)
        os.replace(self.file + ".new", self.file)
        print(f"kafka stand-in: created {name} with {partitions} partitions", flush=True)
        return 0, None

    def describe_configs(self, request: Fields) -> bytes:
        results = []
        for _ in range(request.number("i")):
            kind, name = request.number("b"), request.string() or ""
            for _ in range(max(0, request.number("i"))):
                request.string()
            error, entries = (0, []) if name in self.topics else (UNKNOWN_TOPIC, [])
            if not error:
                for setting, value in self.topics[name]["settings"].items():
                    entries.append(string(setting) + string(value) + struct.pack(">bbb", 0, 1, 0) + array([]))
            head = struct.pack(">h", error) + string(None) + struct.pack(">b", kind) + string(name)
            results.append(head + array(entries))
        return struct.pack(">i", 0) + array(results)


def main() -> None:
    try:
        asyncio.run(Broker().run())
    except OSError as error:
        sys.exit(f"kafka stand-in: {error}")


if __name__ == "__main__":
    main()
