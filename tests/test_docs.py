"""The documentation is held equal to the code: settings, outcomes, metrics, commands, links."""

import re
from pathlib import Path

import click
import pytest

from gateway import cli, config, metrics
from gateway.outcome import Outcome

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def test_the_example_file_is_what_the_code_would_write() -> None:
    assert (ROOT / "config" / "gateway.example.toml").read_text() == config.example()


def test_the_example_file_is_valid_with_everything_commented_in(tmp_path: Path) -> None:
    lines = config.example().splitlines()
    keys = [line[1:] for line in lines if re.match(r"#\w+ = ", line)]
    file = tmp_path / "gateway.toml"
    file.write_text("\n".join(keys))
    assert len(keys) == len(config.KEYS)
    assert config.load({}, file=file).pixel.id == "1234567890123456"


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_explained_with_what_to_do(outcome: Outcome) -> None:
    assert f"| `{outcome}` |" in (ROOT / "docs" / "troubleshoot.md").read_text()


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
