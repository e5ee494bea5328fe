"""Exception texts, and the HTTP status that a ClickHouse server gives each exception code."""

import re

# [ClickHouse: src/Server/HTTP/exceptionCodeToHTTPStatus.cpp] What is not listed is 500: data errors and
# transient ones alike, which is why a client decides by the code and not by the status.
_CODES_BY_STATUS = {
    401: (194,),
    403: (192, 193, 497, 512, 516),
    400: (6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441),
    404: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
    408: (159,),
    411: (381,),
    413: (229,),
    501: (48,),
    503: (76, 209, 439),
}
_STATUS_BY_CODE = {code: status for status, codes in _CODES_BY_STATUS.items() for code in codes}

_EXCEPTION = re.compile(r"Code: (\d+)\. DB::Exception: ")
_VERSION = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?[^()]*\)\s*$")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]*)\)$")


class EngineError(Exception):
    """An exception of the engine, in the words that a server would send.

    `code` is ClickHouse's exception code, `text` the answer's body without the line feed.
    """

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def http_status(self) -> int:
        """The status that a server answers with."""
        return _STATUS_BY_CODE.get(self.code, 500)


def make_error(code: int, name: str, message: str, version: str) -> EngineError:
    """An error that the front finds itself, in a server's form."""
    return EngineError(code, f"Code: {code}. DB::Exception: {message} ({name}) (version {version})")


def parse_error(text: str, version: str) -> EngineError:
    """Brings an exception text of the embedded engine into the form that a server sends.

    The embedded engine omits the version, or wraps an exception into copies of itself
    ("Code: 73. DB::Exception: Code: 73. DB::Exception: ... (NAME) (version V). (NAME)"); a server does neither.
    """
    text = text.strip()
    start = _EXCEPTION.search(text)
    if start is None:
        return make_error(1002, "UNKNOWN_EXCEPTION", text, version)
    text = text[start.start() :]
    code = int(start.group(1))
    while True:
        text = _VERSION.sub("", text)
        name = _NAME.search(text)
        inner = _EXCEPTION.match(text, len(_EXCEPTION.match(text).group(0)))
        if inner is None or name is None or int(inner.group(1)) != code:
            break
        unwrapped = text[inner.start() : name.start()].rstrip().removesuffix(".")
        if not _NAME.search(_VERSION.sub("", unwrapped)):
            break
        text = unwrapped
    return EngineError(code, f"{text} (version {version})")
