#!/usr/bin/env python3
"""Stands in front of a Kafka broker that knows neither TLS nor SASL (librdkafka's mock), and adds them.

    front.py --upstream PORT [--certificate PEM --key PEM [--client-ca PEM]] [--sasl MECHANISM USER PASSWORD]
        [--lose-logins COUNT]

Listens on a free port of 127.0.0.1 and prints it. Clients are told this port wherever the
broker's answers name the broker's own, so that they connect to nothing else. Prints "client NAME" for each client
certificate, and "user NAME" for each user that has logged in. The first COUNT times that somebody shows a password it
closes the connection without an answer, and prints "lost a login".

Formats: Kafka protocol guide (ApiVersions 0-3, SaslHandshake 1, SaslAuthenticate 0-1), RFC 5802, RFC 4616.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import os
import ssl
import struct
import sys

API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE = 18, 17, 36
UNSUPPORTED_MECHANISM, AUTHENTICATION_FAILED = 33, 58
MAXIMUM_FRAME = 64 << 20


class Refused(Exception):
    """The client may not go on."""


async def read_frame(stream: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await stream.readexactly(4))
    if not 0 <= size <= MAXIMUM_FRAME:
        raise ConnectionError(f"a frame of {size} bytes")
    return await stream.readexactly(size)


async def write_frame(stream: asyncio.StreamWriter, frame: bytes) -> None:
    stream.write(struct.pack(">i", len(frame)) + frame)
    await stream.drain()


def string(text: str | None) -> bytes:
    data = None if text is None else text.encode()
    return struct.pack(">h", -1) if data is None else struct.pack(">h", len(data)) + data


async def upstream_versions(port: int) -> list[tuple[int, int, int]]:
    """What the broker can do: keys with their lowest and highest versions."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await write_frame(writer, struct.pack(">hhi", API_VERSIONS, 0, 1) + string("front"))
    answer = await read_frame(reader)
    writer.close()
    (count,) = struct.unpack_from(">i", answer, 6)
    return [struct.unpack_from(">hhh", answer, 10 + 6 * index) for index in range(count)]


class Scram:
    """The server's side of one exchange."""

    def __init__(self, algorithm: str, user: str, password: str) -> None:
        self.algorithm, self.user, self.password = algorithm, user, password
        self.first: tuple[str, str] | None = None
        self.is_done = False

    def answer(self, message: bytes) -> bytes:
        text = message.decode()
        if self.first is None:
            bare = text.removeprefix("n,,")
            parts = dict(part.split("=", 1) for part in bare.split(","))
            if parts["n"].replace("=2C", ",").replace("=3D", "=") != self.user:
                raise Refused("unknown user")
            self.nonce = parts["r"] + base64.b64encode(os.urandom(12)).decode()
            self.salt = os.urandom(12)
            reply = f"r={self.nonce},s={base64.b64encode(self.salt).decode()},i=4096"
            self.first = (bare, reply)
            return reply.encode()
        without_proof, proof = text.rsplit(",p=", 1)
        # Not equal: librdkafka before 2.10 sends its own nonce twice, and Kafka from 3.8.1 on bears with it.
        if not dict(part.split("=", 1) for part in without_proof.split(","))["r"].endswith(self.nonce):
            raise Refused("wrong nonce")
        salted = hashlib.pbkdf2_hmac(self.algorithm, self.password.encode(), self.salt, 4096)
        signed = ",".join([*self.first, without_proof]).encode()
        stored = hashlib.new(self.algorithm, self._mac(salted, b"Client Key")).digest()
        signature = self._mac(stored, signed)
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        if hashlib.new(self.algorithm, key).digest() != stored:
            raise Refused("wrong password")
        self.is_done = True
        return b"v=" + base64.b64encode(self._mac(self._mac(salted, b"Server Key"), signed))

    def _mac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self.algorithm).digest()


class Plain:
    """One message: authorization id, user, password."""

    def __init__(self, user: str, password: str) -> None:
        self.expected = ["", user, password]
        self.is_done = False

    def answer(self, message: bytes) -> bytes:
        if message.decode().split("\0") != self.expected:
            raise Refused("wrong user or password")
        self.is_done = True
        return b""


class Front:
    def __init__(self, options: argparse.Namespace) -> None:
        self.upstream: int = options.upstream
        self.sasl: list[str] | None = options.sasl
        self.logins_to_lose: int = options.lose_logins
        self.versions: list[tuple[int, int, int]] = []
        self.port = 0
        self.context: ssl.SSLContext | None = None
        if options.certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(options.certificate, options.key)
            if options.client_ca:
                self.context.load_verify_locations(options.client_ca)
                self.context.verify_mode = ssl.CERT_REQUIRED

    async def run(self) -> None:
        self.versions = await upstream_versions(self.upstream)
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        print(self.port, flush=True)
        await server.serve_forever()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if certificate := writer.get_extra_info("peercert"):
                names = dict(pair for part in certificate["subject"] for pair in part)
                print(f"client {names['commonName']}", flush=True)
            if self.sasl:
                await self.authenticate(reader, writer)
            await self.forward(reader, writer)
        except (OSError, EOFError, Refused, struct.error, ValueError, KeyError):
            # The client went away, or learns by its closed connection that it is not welcome.
            pass
        finally:
            writer.close()

    async def authenticate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.sasl
        mechanism, user, password = self.sasl
        exchange: Scram | Plain | None = None
        while exchange is None or not exchange.is_done:
            frame = await read_frame(reader)
            key, version, correlation = struct.unpack_from(">hhi", frame)
            (length,) = struct.unpack_from(">h", frame, 8)
            body = frame[10 + max(0, length) :]
            head = struct.pack(">i", correlation)
            if key == API_VERSIONS:
                await write_frame(writer, head + self.capabilities(version))
            elif key == SASL_HANDSHAKE:
                asked = body[2 : 2 + struct.unpack_from(">h", body)[0]].decode()
                error = 0 if asked == mechanism else UNSUPPORTED_MECHANISM
                await write_frame(writer, head + struct.pack(">hi", error, 1) + string(mechanism))
                exchange = Plain(user, password) if mechanism == "PLAIN" else self.scram(mechanism, user, password)
            elif key == SASL_AUTHENTICATE and exchange:
                if self.logins_to_lose > 0:
                    self.logins_to_lose -= 1
                    print("lost a login", flush=True)
                    raise Refused("as one that is starting or stopping would")
                lifetime = struct.pack(">q", 0) if version >= 1 else b""
                try:
                    answer = exchange.answer(body[4 : 4 + struct.unpack_from(">i", body)[0]])
                except Refused as refusal:
                    text = f"Authentication failed during authentication: {refusal}"
                    failure = struct.pack(">h", AUTHENTICATION_FAILED) + string(text) + struct.pack(">i", 0)
                    await write_frame(writer, head + failure + lifetime)
                    raise
                success = struct.pack(">h", 0) + string(None) + struct.pack(">i", len(answer)) + answer
                await write_frame(writer, head + success + lifetime)
            else:
                raise Refused(f"request {key} before the client has logged in")
        print(f"user {user}", flush=True)

    @staticmethod
    def scram(mechanism: str, user: str, password: str) -> Scram:
        return Scram({"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}[mechanism], user, password)

    def capabilities(self, version: int) -> bytes:
        entries = [*self.versions, (SASL_HANDSHAKE, 0, 1), (SASL_AUTHENTICATE, 0, 1)]
        if version >= 3:
            keys = b"".join(struct.pack(">hhhB", *entry, 0) for entry in entries)
            return struct.pack(">hB", 0, len(entries) + 1) + keys + struct.pack(">iB", 0, 0)
        keys = b"".join(struct.pack(">hhh", *entry) for entry in entries)
        return struct.pack(">hi", 0, len(entries)) + keys + (struct.pack(">i", 0) if version >= 1 else b"")

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        own = b"127.0.0.1" + struct.pack(">i", self.port)
        brokers = b"127.0.0.1" + struct.pack(">i", self.upstream)

        async def requests() -> None:
            while True:
                await write_frame(broker_writer, await read_frame(reader))

        async def answers() -> None:
            while True:
                await write_frame(writer, (await read_frame(broker_reader)).replace(brokers, own))

        tasks = [asyncio.create_task(requests()), asyncio.create_task(answers())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            broker_writer.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--client-ca")
    parser.add_argument("--sasl", nargs=3)
    parser.add_argument("--lose-logins", type=int, default=0)
    front = Front(parser.parse_args())
    try:
        asyncio.run(front.run())
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
