"""What can be told of a request by a glance at its bytes, for a door too busy to parse it.

Limits: only of a request that came complete, alone and plain. Whatever could be read in two ways is left to the parser, so that
nobody ever disagrees with a front server about where a request ends.
"""

import re
from dataclasses import dataclass

_FIRST = re.compile(rb"(?:GET|POST) (/[!-~]*) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r")
_NOT_PLAIN = re.compile(rb"\n(?:transfer-encoding|expect|upgrade)\b")
_LAST = re.compile(rb"\nconnection:[^\r]*\bclose\b")


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request."""

    path: bytes
    body: bytes
    last: bool
    """whether the connection ends with it"""


def whole_request(data: bytes) -> Request | None:
    """The request that `data` is, no more and no less; None when that takes a parser to tell."""
    first = _FIRST.match(data)
    end = data.find(b"\r\n\r\n")
    if first is None or end < 0:
        return None
    head = data[: end + 2].lower()
    length = _LENGTH.search(head)
    if head.count(b"\ncontent-length") != (length is not None) or _NOT_PLAIN.search(head):
        return None
    if len(data) != end + 4 + (int(length[1]) if length else 0):
        return None
    return Request(first[1], data[end + 4 :], _LAST.search(head) is not None)
