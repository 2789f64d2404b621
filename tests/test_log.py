"""One line an entry, whatever is in it."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from gateway import log
from gateway.secret import Secret

NASTY = "a\r\nb\x1b[31mc\x00d\u2028e\x85f"


def record(message: str, *args: object, **fields: object) -> logging.LogRecord:
    made = logging.getLogger("test").makeRecord(
        "test", logging.WARNING, "x.py", 1, message, args, None, extra=fields or None
    )
    made.created, made.msecs = 1_764_000_000.25, 250.0
    return made


def failing(message: str) -> logging.LogRecord:
    made = record("it failed")
    try:
        raise ValueError(message)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


@pytest.fixture
def _root_restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def test_a_json_line_is_one_object_with_the_fields() -> None:
    line = log.JsonLines().format(record("took %d", 5, count=3, outcome="bot", ratio=0.5))

    assert json.loads(line) == {
        "ts": "2025-11-24T16:00:00.250Z",
        "level": "warning",
        "msg": "took 5",
        "count": 3,
        "outcome": "bot",
        "ratio": 0.5,
    }


@pytest.mark.parametrize("formatter", [log.JsonLines(), log.PlainLines()], ids=["json", "text"])
def test_control_characters_are_escaped(formatter: logging.Formatter) -> None:
    line = formatter.format(record(NASTY, field=NASTY))

    assert len(line.split("\n")) == 1
    assert not any(c in line for c in "\r\x1b\x00")


def test_a_text_line_has_no_line_ends_of_any_kind() -> None:
    line = log.PlainLines().format(record(NASTY, field=NASTY))

    assert len(line.splitlines()) == 1
    assert line.isprintable()


def test_a_text_line_reads_well() -> None:
    line = log.PlainLines().format(record("took %d", 5, count=3, outcome="bot"))

    assert line[8:] == " warning  took 5  count=3 outcome=bot"
    assert log.PlainLines().format(record("alone")).endswith("warning  alone")


def test_an_exception_stays_within_its_json_line() -> None:
    line = log.JsonLines().format(failing(NASTY))

    assert len(line.split("\n")) == 1
    assert "ValueError" in json.loads(line)["exception"]


def test_an_exception_in_text_has_its_lines_but_no_control_characters() -> None:
    lines = log.PlainLines().format(failing("x\x1b[31m\x00\r y"))

    assert "Traceback" in lines
    assert len(lines.split("\n")) > 2
    assert all(line.isprintable() for line in lines.split("\n"))


@pytest.mark.parametrize("formatter", [log.JsonLines(), log.PlainLines()], ids=["json", "text"])
@pytest.mark.parametrize(
    "value",
    [object(), {"a": {1, 2}}, b"\xff", float("nan"), 10**400, "\ud800", {3: "x"}, ["\udcff"]],
    ids=["object", "set", "bytes", "nan", "huge", "surrogate", "odd key", "surrogates"],
)
def test_no_field_breaks_the_line(formatter: logging.Formatter, value: object) -> None:
    line = formatter.format(record("said", field=value))

    assert "said" in line
    line.encode()


@pytest.mark.parametrize("formatter", [log.JsonLines(), log.PlainLines()], ids=["json", "text"])
def test_a_surrogate_in_the_message_does_not_break_the_line(formatter: logging.Formatter) -> None:
    assert "file" in formatter.format(record("file \udcff"))


def test_a_secret_in_a_container_is_masked() -> None:
    line = log.PlainLines().format(record("x", settings=[Secret("hunter2")]))

    assert "hunter2" not in line
    assert "***" in line


@pytest.mark.usefixtures("_root_restored")
@pytest.mark.parametrize(
    ("form", "formatter"),
    [("text", log.PlainLines), ("json", log.JsonLines), (None, log.JsonLines)],
)
def test_set_up_writes_to_standard_error_in_the_form_asked_for(
    capsys: pytest.CaptureFixture[str], form: str | None, formatter: type[logging.Formatter]
) -> None:
    log.set_up("info", form)

    logging.getLogger("gateway.test").info("seen")
    logging.getLogger("gateway.test").debug("not seen")
    logging.getLogger("uvicorn.access").info("an address")
    logging.getLogger("httpx2").info("a URL")

    (handler,) = logging.getLogger().handlers
    assert isinstance(handler.formatter, formatter)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "seen" in err
