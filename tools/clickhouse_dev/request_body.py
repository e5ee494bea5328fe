"""Request bodies: Content-Length or chunked, plain or compressed, as a stream of pieces."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import BinaryIO

PIECE_BYTES = 1 << 20

# A body that nobody reads any more (the statement failed) is still taken from the connection up to this size, so that
# the connection stays usable; beyond it the connection is closed.
_DRAIN_BYTES = 32 << 20


class Disconnected(Exception):
    """The client went away, or broke the framing, before the end of the body."""


class BadEncoding(Exception):
    """The body is not what its Content-Encoding says."""


class UnknownEncoding(Exception):
    """A Content-Encoding that is not supported."""


class RequestBody:
    """The body of one request on a keep-alive connection."""

    def __init__(self, stream: BinaryIO, content_length: int | None, chunked: bool):
        self._stream = stream
        self._chunked = chunked
        self._left = 0 if chunked else (content_length or 0)
        self._ended = not chunked and self._left == 0

    def pieces(self) -> Iterator[bytes]:
        """The body as received, in pieces of at most `PIECE_BYTES`. Raises `Disconnected`."""
        while not self._ended:
            if self._left == 0:
                self._begin_chunk()
                continue
            piece = self._stream.read(min(self._left, PIECE_BYTES))
            if not piece:
                raise Disconnected(f"the body ended {self._left} bytes early")
            self._left -= len(piece)
            if self._left == 0:
                if not self._chunked:
                    self._ended = True
                elif self._stream.readline(8).strip():
                    raise Disconnected("a chunk is longer than its size says")
            yield piece

    def _begin_chunk(self) -> None:
        line = self._stream.readline(1024)
        try:
            self._left = int(line.split(b";", 1)[0].strip(), 16)
        except ValueError:
            raise Disconnected("a chunk's size can't be read") from None
        if self._left == 0:
            while self._stream.readline(8192).strip():  # trailers
                pass
            self._ended = True

    def drain(self) -> bool:
        """Takes what is left of the body. False if that is too much: close the connection then."""
        budget = _DRAIN_BYTES
        for piece in self.pieces():
            budget -= len(piece)
            if budget < 0:
                return False
        return True


def decoded(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The pieces of a body without its Content-Encoding. Raises `UnknownEncoding`, `BadEncoding`."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return pieces
    if encoding in ("gzip", "x-gzip"):
        return _inflate(pieces, lambda: zlib.decompressobj(wbits=31), zlib.error)
    if encoding == "deflate":
        return _inflate(pieces, lambda: zlib.decompressobj(), zlib.error)
    if encoding == "zstd":
        import zstandard

        return _inflate(pieces, lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError)
    if encoding == "bz2":
        return _inflate(pieces, bz2.BZ2Decompressor, OSError)
    if encoding == "xz":
        return _inflate(pieces, lzma.LZMADecompressor, lzma.LZMAError)
    raise UnknownEncoding(encoding)


def _inflate(pieces, make_decompressor, failure) -> Iterator[bytes]:
    """Decompresses a series of members (gzip) or frames (zstd), as `cat a.gz b.gz` makes them."""
    decompressor = make_decompressor()
    begun = False
    for piece in pieces:
        while piece:
            try:
                output = decompressor.decompress(piece)
            except failure as error:
                raise BadEncoding(str(error)) from None
            begun = True
            if output:
                yield output
            piece = b""
            if decompressor.eof:
                piece = decompressor.unused_data
                decompressor = make_decompressor()
                begun = False
    if begun:
        raise BadEncoding("the compressed data end too early")
