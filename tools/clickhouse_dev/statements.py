"""Finds the format and the data of an INSERT, and second statements, without a full parser.

The embedded engine takes the data of an INSERT as a stream, apart from the statement; a server takes both in one text.
So the statement is cut where a server's parser would start to read data. Only words outside of strings, quoted
identifiers, comments and parentheses count.
"""

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<space> \s+ )
    | (?P<comment> --[^\n]* | \#[!\s][^\n]* | /\*.*?\*/ )
    | (?P<quoted> '(?:\\.|''|[^'\\])*' | `(?:\\.|``|[^`\\])*` | "(?:\\.|""|[^"\\])*" )
    | (?P<heredoc> \$(?P<tag>\w*)\$ .*? \$(?P=tag)\$ )
    | (?P<word> [^\W\d]\w* )
    | (?P<number> \d[\w.]* )
    | (?P<mark> . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Insert:
    """An INSERT that is followed by data."""

    statement: str
    """The statement up to FORMAT or VALUES."""
    format: str
    """The data's format."""
    data_offset: int
    """Where the data start in the text."""
    is_complete: bool = True
    """False if the text ended before FORMAT or VALUES: more text can still change what it means."""


def _tokens(text: str):
    for match in _TOKEN.finditer(text):
        if match.group("space") is None and match.group("comment") is None:
            yield match


def parse_insert(text: str) -> Insert | None:
    """The INSERT in `text`, if it is one that takes data; `None` for INSERT ... SELECT and any other statement."""
    depth = 0
    first = True
    statement_end = None  # where FORMAT begins, once it was seen
    for token in _tokens(text):
        word = token.group("word")
        if first:
            if word is None or word.upper() != "INSERT":
                return None
            first = False
            continue
        if statement_end is not None:
            if word is None:
                return None
            return Insert(text[:statement_end].rstrip(), word, _after_format(text, token.end()))
        mark = token.group("mark")
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
        elif mark == ";" and depth == 0:
            return Insert(text[: token.start()].rstrip(), "Values", token.end())
        elif word is not None and depth == 0:
            keyword = word.upper()
            if keyword in ("SELECT", "WITH", "INFILE", "WATCH"):
                return None
            if keyword == "VALUES":
                return Insert(text[: token.start()].rstrip(), "Values", token.end())
            if keyword == "FORMAT":
                statement_end = token.start()
    if first or statement_end is not None:
        return None
    return Insert(text.rstrip(), "Values", len(text), is_complete=False)


def _after_format(text: str, offset: int) -> int:
    """Where data start behind the format's name: spaces and one line feed belong to the statement.

    Also one semicolon, which a server skips there.
    """
    match = re.compile(r"[ \t\r\f\v]*;?[ \t\r\f\v]*\n?").match(text, offset)
    return match.end()


def output_format(text: str) -> str | None:
    """The format that a query names itself (`... FORMAT JSON`), if it does."""
    tokens = [token for token in _tokens(text) if token.group("mark") != ";"]
    depth = 0
    found = None
    for previous, token in zip(tokens, tokens[1:]):
        if previous.group("mark") == "(":
            depth += 1
        elif previous.group("mark") == ")":
            depth -= 1
        if depth == 0 and token.group("word") and (previous.group("word") or "").upper() == "FORMAT":
            found = token.group("word")
    return found


def has_second_statement(text: str) -> bool:
    """Whether something other than comments follows a semicolon: a server refuses that over HTTP."""
    ended = False
    for token in _tokens(text):
        if token.group("mark") == ";":
            ended = True
        elif ended:
            return True
    return False
