"""Teaches Schemathesis the types of bodies that it does not know; it loads this file by itself (SCHEMATHESIS_HOOKS)."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson", "application/ndjson")
def ndjson(context, value):
    """An object a line, of whatever was generated; text and bytes as they are."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value).encode() + b"\n"


@schemathesis.deserializer("text/html")
def html(context, response):
    """The text itself."""
    return response.content.decode()
