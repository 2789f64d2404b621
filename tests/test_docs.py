"""The documentation is held equal to the code: settings, outcomes, metrics, commands, links."""

import ast
import re
from pathlib import Path

import click
import pytest

from gateway import cli, config, keys, metrics
from gateway.alerts import Name
from gateway.outcome import Outcome

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def test_the_example_file_is_what_the_code_would_write() -> None:
    assert (ROOT / "config" / "gateway.example.toml").read_text() == keys.example()


def commented_in(text: str) -> list[str]:
    return [line[1:] for line in text.splitlines() if re.match(r"#(\w+ = |\[\[)", line)]


def test_the_example_file_is_valid_with_everything_commented_in(tmp_path: Path) -> None:
    plain, _, _ = keys.example().partition("#[[site]]")
    lines = commented_in(plain)
    file = tmp_path / "gateway.toml"
    file.write_text("\n".join(lines))
    assert len(lines) == len(keys.KEYS)
    assert config.load({}, file=file).pixels[0].id == "1234567890123456"


def test_the_example_files_sites_are_valid_beside_what_may_stand_beside_them(
    tmp_path: Path,
) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2")
    plain, head, tables = keys.example().partition("#[[site]]")
    site = commented_in(head + tables.replace("/run/secrets/second_token", str(token)))
    elsewhere = {"pixel_id", "access_token", "test_event_code", "slug", "site_hosts"}
    beside = [line for line in commented_in(plain) if line.split()[0] not in elsewhere]
    file = tmp_path / "gateway.toml"
    file.write_text("\n".join([*beside, *site]))

    (only,) = config.load({}, file=file).sites

    named = {line.split()[0] for line in site}
    assert named == {"[[site]]", *keys.SITE_KEYS, "pixels"}
    for key in (*keys.PIXEL_KEYS, keys.TOKEN_FILE):
        assert re.search(rf"\b{key}\b", tables), key
    assert len(only.pixels) == 2
    assert only.pixels[1].access_token == "hunter2"


def explained(table: str) -> dict[str, list[str]]:
    """What troubleshoot.md says of each thing in one of its tables: what it means, and what to do."""
    text = (ROOT / "docs" / "troubleshoot.md").read_text()
    rows = text.partition(f"\n| {table} | means | do |\n")[2].partition("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip(" `") for cell in row.strip("|").split(" | ")] for row in rows]
    assert all(len(row) == 3 and all(row) for row in cells), cells
    return {name: said for name, *said in cells}


def test_every_outcome_is_explained_with_what_to_do_and_no_other() -> None:
    assert explained("outcome").keys() == {str(outcome) for outcome in Outcome}


def test_every_alert_is_explained_with_what_to_do_and_no_other() -> None:
    assert explained("alert").keys() == {str(name) for name in Name}


def statuses() -> set[str]:
    """Every HTTP status that stands for a refusal in the faces' code."""
    trees = [ast.parse(file.read_text()) for file in (ROOT / "gateway" / "web").glob("*.py")]
    numbers = {n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    return {str(n) for n in numbers if isinstance(n, int) and 400 <= n < 600}


def test_every_answer_is_explained_with_what_to_do_and_no_other() -> None:
    # Of another method than a path's own the answer is 404.
    assert explained("answer").keys() == statuses() - {"405"}
    assert {"408", "413", "415", "429", "431", "503"} <= statuses()


def test_every_metric_is_documented() -> None:
    for metric in metrics.REGISTRY.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert f"`{name}`" in TEXT, name


def _commands(group: click.Group, prefix: str) -> list[str]:
    names = []
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        names += _commands(command, full) if isinstance(command, click.Group) else [full]
    return names


@pytest.mark.parametrize("command", _commands(cli.main, "gateway"))
def test_every_command_is_documented(command: str) -> None:
    assert command in TEXT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
