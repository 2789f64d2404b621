"""`gateway check`: each question's answer, on real files; what goes to Meta is in e2e/test_check.py."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway import check, config, install
from gateway.check import Finding, State
from gateway.config import Settings
from gateway.errors import StoreError
from gateway.stores import LedgerLine
from gateway.stores.sqlite import SqliteReader, SqliteStore

NOW_MS = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings_of(tmp_path: Path, **more: str) -> Settings:
    return config.load({"GATEWAY_STORE": f"sqlite:///{tmp_path}/data/gateway.db", **more})


def found(settings: Settings, now_ms: int = NOW_MS) -> Mapping[str, Finding]:
    """By the question; the last one where it has several answers, the worst first."""
    reader = SqliteReader(settings.store_path)
    order = [State.OK, State.NOTE, State.WRONG]
    findings = check.look(settings, reader.ledger, now_ms)
    return {one.about: one for one in sorted(findings, key=lambda one: order.index(one.state))}


async def make_store(path: Path) -> None:
    await (await SqliteStore.open(path)).close()


def test_a_fresh_folder_is_fine_and_stays_as_it_is(tmp_path: Path) -> None:
    answers = found(settings_of(tmp_path))

    assert State.WRONG not in {one.state for one in answers.values()}
    assert answers["store"].state is State.NOTE
    assert list(tmp_path.iterdir()) == []


def test_a_made_install_is_fine_and_its_names_are_told(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    own = install.open_install(settings)
    asyncio.run(make_store(settings.store_path))
    before = {path: path.read_bytes() for path in settings.data_dir.iterdir()}

    answers = found(settings)

    assert answers["store"].state is State.OK
    assert "0 pending" in answers["store"].text
    assert answers["names"].state is State.OK
    for name in (own.slug_of(settings.sites[0]), *own.cookies):
        assert name in answers["names"].text
    assert {path: path.read_bytes() for path in before} == before


def test_a_half_made_install_is_not_completed(tmp_path: Path) -> None:
    # The first start shows what it makes; made here, nobody would ever see the password.
    settings = settings_of(tmp_path)
    install.open_install(settings)
    (settings.data_dir / "admin_password_hash").unlink()

    assert found(settings)["names"].state is State.NOTE
    assert not (settings.data_dir / "admin_password_hash").exists()


@pytest.mark.parametrize(
    ("variable", "value", "about", "state", "word"),
    [
        ("GATEWAY_SLUG", "pixel2024", "names", State.WRONG, "/pixel2024"),
        ("GATEWAY_SLUG", "clde2go", "names", State.WRONG, "_clde"),
        ("GATEWAY_SLUG", "k3vq8w2mzp", "names", State.NOTE, "first start"),
        ("GATEWAY_SITE_HOSTS", "www.example.com,gtm.example.com", "names", State.WRONG, "gtm."),
        ("GATEWAY_GEOIP_DATABASE", "missing.mmdb", "geoip", State.WRONG, "missing.mmdb"),
        ("GATEWAY_GRAPH_VERSION", "v20.0", "graph version", State.WRONG, "2026-09-24"),
        ("GATEWAY_GRAPH_VERSION", "v21.0", "graph version", State.NOTE, "2027-01-21"),
        ("GATEWAY_GRAPH_VERSION", "v25.0", "graph version", State.OK, "v25.0"),
        ("GATEWAY_GRAPH_VERSION", "v99.0", "graph version", State.NOTE, "knows"),
        ("FB_PIXEL_ID", "12345", "pixel 12345", State.NOTE, "FB_ACCESS_TOKEN"),
    ],
)  # fmt: skip
def test_what_is_set_is_judged(
    tmp_path: Path, variable: str, value: str, about: str, state: State, word: str
) -> None:
    answer = found(settings_of(tmp_path, **{variable: value}))[about]

    assert answer.state is state
    assert word in answer.text + answer.do


def test_the_default_graph_version_is_one_meta_still_has(tmp_path: Path) -> None:
    assert found(settings_of(tmp_path))["graph version"].state is State.OK


@pytest.mark.parametrize("code", [None, "TEST123"])
def test_a_test_code_is_noted(tmp_path: Path, code: str | None) -> None:
    more = {"FB_TEST_EVENT_CODE": code} if code else {}
    settings = settings_of(tmp_path, FB_PIXEL_ID="12345", FB_ACCESS_TOKEN="EAAB", **more)

    answer = found(settings)["pixel 12345"]

    assert answer.state is (State.NOTE if code else State.OK)


def test_a_store_that_is_none_is_wrong(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings.data_dir.mkdir()
    settings.store_path.write_bytes(b"not a database, but long enough to be one" * 100)

    assert found(settings)["store"].state is State.WRONG


def test_a_ledger_that_does_not_add_up_is_wrong(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    asyncio.run(make_store(settings.store_path))
    line = LedgerLine(
        pixel="12345", accepted=2, delivered=1, merged=0, dropped={}, dead=0, pending=0
    )
    assert not line.adds_up

    findings = check.look(settings, lambda: [line], NOW_MS)

    (store,) = [one for one in findings if one.about == "store"]
    assert store.state is State.WRONG
    assert "12345" in store.text


def test_a_damaged_secret_is_wrong(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    install.open_install(settings)
    (settings.data_dir / "secret").write_bytes(b"")

    assert found(settings)["names"].state is State.WRONG


def test_a_store_that_does_not_answer_is_wrong(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    asyncio.run(make_store(settings.store_path))

    def ledger() -> list[LedgerLine]:
        raise StoreError("it is gone")

    findings = check.look(settings, ledger, NOW_MS)

    assert Finding(about="store", state=State.WRONG, text="it is gone") in findings
