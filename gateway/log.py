"""Log lines: one object a line for machines, plain words on a terminal. Never a body, token or address."""

import json
import logging
import sys
import time

import msgspec

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """`ts`, `level`, `msg` and the fields given by `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object; control characters are escaped by the encoder."""
        line = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # half a character, as a file's name may hold
            return json.dumps(line, default=str, skipkeys=True)


class PlainLines(logging.Formatter):
    """`12:00:00 warning  words  key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line for people; control characters are escaped."""
        fields = " ".join(f"{k}={v}" for k, v in _fields(record).items())
        text = f"{record.getMessage()}  {fields}".rstrip()
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        lines = [f"{moment} {record.levelname.lower():8} {_printable(text)}"]
        if record.exc_info:
            lines += map(_printable, self.formatException(record.exc_info).split("\n"))
        return "\n".join(lines)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {k: v for k, v in record.__dict__.items() if k not in _STANDARD}


def set_up(level: str, form: str | None) -> None:
    """Send everything to standard error; `form`: text, json, or by whether that is a terminal."""
    plain = form == "text" or (form is None and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainLines() if plain else JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # A request's line holds the visitor's address, a client's line the URL of every batch.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx2", "httpcore2", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
