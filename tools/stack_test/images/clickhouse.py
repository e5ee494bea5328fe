#!/usr/bin/env python3
"""Stands in for the image clickhouse/clickhouse-server in `make stack-test`: today's engine (chDB) behind HTTP.

Honours what stack.yml mounts as far as one HTTP front can: the user and the checksum of the password in users.d, the
address to listen on in config.d, and data in /var/lib/clickhouse. As with the server there is no access from outside
without the file of users.
"""

import glob
import hashlib
import os
import sys
import xml.etree.ElementTree

CONFIGURATION = "/etc/clickhouse-server"


class HashedPassword:
    """Equal to the password that has this checksum."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and hashlib.sha256(other.encode()).hexdigest() == self.digest

    __hash__ = None


def first(files: str, path: str) -> xml.etree.ElementTree.Element:
    for name in sorted(glob.glob(f"{CONFIGURATION}/{files}/*.xml")):
        found = xml.etree.ElementTree.parse(name).getroot().find(path)
        if found is not None:
            return found
    sys.exit(f"clickhouse stand-in: no {path} in {CONFIGURATION}/{files}")


def main() -> int:
    from clickhouse_dev import command, http_front

    user = first("users.d", "users")[0]
    password = HashedPassword(user.find("password_sha256_hex").text)
    host = first("config.d", "listen_host").text
    made = http_front.HTTPFront

    def front(address, engine, name, _):
        return made(address, engine, name, password)

    http_front.HTTPFront = front
    sys.argv[1:] = ["--engine", "chdb", "--data", "/var/lib/clickhouse", "--host", host, "--user", user.tag]
    os.environ["HOME"] = "/tmp"
    return command.main()


if __name__ == "__main__":
    sys.path.insert(0, "/usr/local/share/clickhouse")
    sys.exit(main())
