#!/usr/bin/env python3
"""A broker that knows topics and nothing else: what `ingestd kafka init` talks to in tests.

    admin_broker.py [SCRIPT]

Listens on a free port of 127.0.0.1 (or that of the script) and prints it.
SCRIPT is JSON, all of it optional:

    {"port": 0,
     "brokers": 1,
     "topics": {"NAME": {"partitions": 3, "replication": 1, "retention.ms": "1000"}},
     "create_errors": {"NAME": [38, 36]},     answers of the next attempts to create it; with 36 it is there from then on
     "describe_errors": {"NAME": 29}}

Prints "create {...}" with what each topic was created with. Formats: Kafka protocol guide.
"""

import json
import socket
import struct
import sys
import threading
from typing import Any

METADATA, API_VERSIONS, CREATE_TOPICS, DESCRIBE_CONFIGS = 3, 18, 19, 32
VERSIONS = [(METADATA, 4, 4), (API_VERSIONS, 0, 3), (CREATE_TOPICS, 4, 4), (DESCRIBE_CONFIGS, 1, 1)]
TOPIC_ALREADY_EXISTS, INVALID_REPLICATION_FACTOR, UNKNOWN_TOPIC = 36, 38, 3
TOPIC_RESOURCE = 2


class Reader:
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

    def strings(self) -> list[str | None]:
        return [self.string() for _ in range(self.number("i"))]


def string(text: str | None) -> bytes:
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text.encode())) + text.encode()


def array(items: list[bytes]) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)


class Broker:
    def __init__(self, script: dict[str, Any]) -> None:
        self.topics: dict[str, dict[str, Any]] = script.get("topics", {})
        self.create_errors: dict[str, list[int]] = script.get("create_errors", {})
        self.describe_errors: dict[str, int] = script.get("describe_errors", {})
        self.brokers: int = script.get("brokers", 1)
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", script.get("port", 0)))
        self.port: int = self.listener.getsockname()[1]

    def run(self) -> None:
        print(self.port, flush=True)
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as stream:
            while size := stream.read(4):
                frame = Reader(stream.read(struct.unpack(">i", size)[0]))
                key, version, correlation = frame.number("h"), frame.number("h"), frame.number("i")
                frame.string()
                with self.lock:
                    answer = struct.pack(">i", correlation) + self.answer(key, version, frame)
                client.sendall(struct.pack(">i", len(answer)) + answer)

    def answer(self, key: int, version: int, request: Reader) -> bytes:
        if key == API_VERSIONS:
            return self.api_versions(version)
        if key == METADATA:
            return self.metadata(request)
        if key == CREATE_TOPICS:
            return self.create_topics(request)
        if key == DESCRIBE_CONFIGS:
            return self.describe_configs(request)
        raise ValueError(f"request {key}")

    @staticmethod
    def api_versions(version: int) -> bytes:
        if version >= 3:
            keys = b"".join(struct.pack(">hhhB", *entry, 0) for entry in VERSIONS)
            return struct.pack(">hB", 0, len(VERSIONS) + 1) + keys + struct.pack(">iB", 0, 0)
        keys = array([struct.pack(">hhh", *entry) for entry in VERSIONS])
        return struct.pack(">h", 0) + keys + (struct.pack(">i", 0) if version >= 1 else b"")

    def metadata(self, request: Reader) -> bytes:
        count = request.number("i")
        names = sorted(self.topics) if count < 0 else [request.string() or "" for _ in range(count)]
        brokers = [struct.pack(">i", 1) + string("127.0.0.1") + struct.pack(">i", self.port) + string(None)]
        head = struct.pack(">i", 0) + array(brokers) + string("cluster") + struct.pack(">i", 1)
        return head + array([self.topic_metadata(name) for name in names])

    def topic_metadata(self, name: str) -> bytes:
        topic = self.topics.get(name)
        if topic is None:
            return struct.pack(">h", UNKNOWN_TOPIC) + string(name) + struct.pack(">bi", 0, 0)
        replicas = array([struct.pack(">i", node + 1) for node in range(topic["replication"])])
        partitions = [
            struct.pack(">hii", 0, index, 1) + replicas + replicas for index in range(topic["partitions"])
        ]
        return struct.pack(">h", 0) + string(name) + struct.pack(">b", 0) + array(partitions)

    def create_topics(self, request: Reader) -> bytes:
        results = []
        for _ in range(request.number("i")):
            name = request.string() or ""
            partitions, replication = request.number("i"), request.number("h")
            for _ in range(request.number("i")):
                raise ValueError("replica assignments")
            settings = {request.string() or "": request.string() for _ in range(request.number("i"))}
            error, words = self.create(name, partitions, replication, settings)
            results.append(string(name) + struct.pack(">h", error) + string(words))
        return struct.pack(">i", 0) + array(results)

    def create(
        self, name: str, partitions: int, replication: int, settings: dict[str, str | None]
    ) -> tuple[int, str | None]:
        layout = {"partitions": partitions, "replication": replication, **settings}
        if errors := self.create_errors.get(name):
            error = errors.pop(0)
            if error == TOPIC_ALREADY_EXISTS:
                self.topics[name] = layout
            return error, f"scripted error {error}"
        if name in self.topics:
            return TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists."
        if replication > self.brokers:
            words = f"Replication factor: {replication} larger than available brokers: {self.brokers}."
            return INVALID_REPLICATION_FACTOR, words
        self.topics[name] = layout
        print("create", json.dumps({"name": name, **layout}, sort_keys=True), flush=True)
        return 0, None

    def describe_configs(self, request: Reader) -> bytes:
        results = []
        for _ in range(request.number("i")):
            kind, name = request.number("b"), request.string() or ""
            count = request.number("i")
            for _ in range(max(0, count)):
                request.string()
            error = self.describe_errors.get(name, 0 if name in self.topics else UNKNOWN_TOPIC)
            entries = []
            if not error and "retention.ms" in self.topics[name]:
                value = self.topics[name]["retention.ms"]
                flags = struct.pack(">bbb", 0, 1, 0)
                entries = [string("cleanup.policy") + string("delete") + flags + array([])]
                entries += [string("retention.ms") + string(value) + flags + array([])]
            words = f"scripted error {error}" if error else None
            head = struct.pack(">h", error) + string(words) + struct.pack(">b", kind) + string(name)
            results.append(head + array(entries))
        request.number("b")
        return struct.pack(">i", 0) + array(results)


def main() -> None:
    script = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    Broker(script).run()


if __name__ == "__main__":
    main()
