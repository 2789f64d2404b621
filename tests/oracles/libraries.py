"""What Meta's two libraries send for one value, in this suite's words. They are oracles for tests only.

An answer (`Form`) is the text a library hashes, or `AsIs` for what it sends without hashing, or
None where it sends nothing (it raised, or answered null).
"""

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from facebook_business.adobjects.serverside.normalize import Normalize

HERE = Path(__file__).parent
CURRENCY = "currency"

# The fields that both libraries know, by the builder's name.
BUILDER_TYPES = {
    "em": "email",
    "ph": "phone",
    "fn": "first_name",
    "ln": "last_name",
    "ge": "gender",
    "db": "date_of_birth",
    "ct": "city",
    "st": "state",
    "zp": "zip_code",
    "country": "country",
    "external_id": "external_id",
}
FIELDS = (*BUILDER_TYPES, CURRENCY)


class Library(StrEnum):
    SDK = "sdk"
    BUILDER = "builder"


@dataclass(frozen=True, slots=True)
class Case:
    """One value of one field; the countries are those of `normalise.Locale`."""

    field: str
    value: str
    country: str | None = None
    default_country: str | None = None


@dataclass(frozen=True, slots=True)
class AsIs:
    """Sent without hashing: taken for a hash, or (an external_id in the SDK) never hashed."""

    text: str


Form = str | AsIs | None


def sent(form: Form) -> str | None:
    """What a form becomes on the wire."""
    match form:
        case None:
            return None
        case AsIs(text):
            return text
        case str():
            # surrogatepass: what the builder's own UTF-8 does with half an emoji.
            return hashlib.sha256(form.encode("utf-8", "surrogatepass")).hexdigest()


def ask_sdk(case: Case) -> Form:
    """facebook-business. A gender as if its word could stand in for the enum the SDK asks for."""
    if case.field == "external_id":  # UserData.normalize hands it on untouched
        return AsIs(case.value) if case.value else None
    try:
        form = Normalize.normalize_field_skip_hashing(case.field, case.value)
        if case.field == CURRENCY or not isinstance(form, str):
            return form if isinstance(form, str) else None
        answer = Normalize.normalize_field(case.field, case.value)
    except (TypeError, ValueError):  # UnicodeEncodeError is one
        return None
    return AsIs(form) if answer == form else form


class Builder:
    """capi-param-builder-nodejs in a Node process, one line a question."""

    def __enter__(self) -> Self:
        node = shutil.which("node")
        if node is None or shutil.which("npm") is None:
            pytest.fail(
                "these tests need Node 20 and npm; `make test` installs both", pytrace=False
            )
        if not (HERE / "node_modules" / "capi-param-builder-nodejs").is_dir():
            pytest.fail(
                "Meta's parameter builder is missing: run `npm ci --prefix tests/oracles`"
                " (`make test` does)",
                pytrace=False,
            )
        self._node = subprocess.Popen(
            [node, str(HERE / "builder.js")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._node.communicate(timeout=10)  # closes its input, and so ends it

    def ask(self, case: Case) -> Form:
        """Its answer without the appendix."""
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        question = json.dumps([BUILDER_TYPES[case.field], case.value])
        self._node.stdin.write(question.encode() + b"\n")
        self._node.stdin.flush()
        line = self._node.stdout.readline()
        assert line, "the Node program ended; its error stands above"
        form, answer = json.loads(line)
        if answer is None:
            return None
        bare = str(answer).partition(".")[0]
        return str(form) if sent(form) == bare else AsIs(bare)
