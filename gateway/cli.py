"""The command line: `gateway serve` and what an operator asks it.

Exit codes: 0 done, 1 something is wrong (one sentence on standard error), 2 wrong usage.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path

import click
import httpx2
import msgspec
import uvloop

from gateway import __version__, check, config, install, log, sandbox, server, slugs, snippet
from gateway.check import Finding, State
from gateway.config import Settings
from gateway.errors import GatewayError, SettingsError, StoreError
from gateway.faces import Faces, listen, take_faces
from gateway.install import Install
from gateway.outcome import WAITING, Outcome
from gateway.processes import Processes
from gateway.secret import Secret
from gateway.stores import DeadLetter, LedgerLine, LoggedEvent, Store
from gateway.stores.redis import RedisReader
from gateway.stores.sqlite import SqliteReader, SqliteStore, banner_of
from gateway.web.shapes import dead_letter, ledger_line, logged_event

_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document a line.")
_NO_SERVER = "no gateway is running on this store; start one with `gateway serve`"


class _Group(click.Group):
    """Turns the errors raised on purpose into one sentence and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except GatewayError as error:
            click.echo(f"gateway: {error}", err=True)
            ctx.exit(1)
        except BrokenPipeError:
            ctx.exit(0)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="The settings file; else GATEWAY_CONFIG, else ./gateway.toml.",
)
@click.pass_context
def main(ctx: click.Context, config_file: Path | None) -> None:
    """First-party tracking gateway for Meta's Conversions API."""
    ctx.obj = config_file


@main.command()
@click.option("--config", "own_config", type=click.Path(path_type=Path), help="The settings file.")
@click.option("--host", help="Address of the public face (127.0.0.1).")
@click.option("--port", type=int, help="Port of the public face (8000).")
@click.option("--admin-host", help="Address of the operator's face (127.0.0.1).")
@click.option("--admin-port", type=int, help="Port of the operator's face (8001).")
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Processes, on Redis.")
@click.option("--no-worker", is_flag=True, help="Accept only; `gateway worker` delivers.")
@click.pass_obj
def serve(
    config_file: Path | None,
    /,
    own_config: Path | None,
    workers: int,
    no_worker: bool,
    **options: str | int | None,
) -> None:
    """Accept hits and deliver them, until told to stop."""
    settings = config.from_process(own_config or config_file, options)
    log.set_up(settings.log_level, settings.log_format)
    if workers > 1 and settings.embedded:
        raise SettingsError(
            "--workers: the embedded store has one process; several need GATEWAY_STORE=redis://…"
        )
    with take_faces(settings) as faces:
        own = install.open_install(settings)
        if workers == 1:
            _run(server.serve(settings, own, faces, _greet, deliver=not no_worker))
        else:
            sys.exit(_serve_together(settings, own, faces, workers, deliver=not no_worker))


@main.command()
@click.option("--config", "own_config", type=click.Path(path_type=Path), help="The settings file.")
@click.option("--admin-host", help="Address of the operator's face (127.0.0.1).")
@click.option("--admin-port", type=int, help="With it there is an operator's face, on this port.")
@click.pass_obj
def worker(
    config_file: Path | None,
    /,
    own_config: Path | None,
    **options: str | int | None,
) -> None:
    """Deliver what other processes accept, until told to stop."""
    settings = config.from_process(own_config or config_file, options)
    log.set_up(settings.log_level, settings.log_format)
    seen = options["admin_port"] is not None
    with take_faces(settings, public=False, operator=seen) as faces:
        _run(server.serve(settings, install.open_install(settings), faces, _greet))


def _serve_together(
    settings: Settings, own: Install, faces: Faces, count: int, *, deliver: bool
) -> int:
    """Processes that share the public face; each has an operator's face, on ports in a row."""
    first = settings.admin_port
    with contextlib.ExitStack() as stack:
        operators = [faces.operator]
        for n in range(1, count):
            port = first + n if first else 0
            taken = listen(settings.admin_host, port, "admin_port")
            operators.append(stack.enter_context(taken))

        def work(number: int, ready: Callable[[], None]) -> None:
            def announce(text: str) -> None:
                if number == 0:
                    _greet(text)
                ready()

            mine = Faces(public=faces.public, operator=operators[number])
            _run(server.serve(settings, own, mine, announce, deliver=deliver))

        return Processes(count, work).run()


def _run(running: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(running)


def _greet(text: str) -> None:
    print(text, flush=True)


def _open_install(settings: Settings) -> Install:
    """The install's values. What is made for it now is shown now, as nobody shows it later."""
    own = install.open_install(settings)
    for what, value in own.announced:
        click.echo(f"{what}, shown this once: {value}", err=True)
    return own


def _running_install(settings: Settings) -> Install:
    """The install's values of a gateway that was started, which made them."""
    own = install.made_install(settings)
    if own is None:
        raise StoreError(_NO_SERVER)
    return own


@main.command(name="snippet")
@click.option("--site", help="Host of the site, for a tag with its full address.")
@click.option(
    "--for",
    "target",
    type=click.Choice(["html", "nginx", "caddy", "traefik", "cloudflare"]),
    default="html",
    help="The tag, or the route for a front server.",
)
@click.pass_obj
def print_snippet(config_file: Path | None, site: str | None, target: str) -> None:
    """Print the tag for the pages, or the front server's route to the gateway."""
    settings = config.from_process(config_file)
    own = _open_install(settings)
    named = [s for s in settings.sites if site in s.hosts]
    chosen = named or ([] if site and len(settings.sites) > 1 else settings.sites)
    if not chosen:
        raise SettingsError(f"--site: {site} is not a host of the settings")
    host = settings.host if ":" not in settings.host else f"[{settings.host}]"
    for one in chosen:
        slug = own.slug_of(one)
        if target == "html":
            click.echo(snippet.tag(f"https://{site}" if site else "", slug))
        else:
            click.echo(snippet.route(target, slug, f"{host}:{settings.port}"))


@main.command()
@click.argument("what", type=click.Choice(["slug"]))
@click.pass_obj
def rotate(config_file: Path | None, what: str) -> None:
    """A new public path, for when a filter list has learned the old one; that keeps working for 30 days.

    A running gateway answers at the new path within seconds. Route it, then change the tag.
    """
    settings = config.from_process(config_file)
    own = _open_install(settings)
    by_hand = [site.slug for site in settings.sites if site.slug]
    if by_hand:
        raise SettingsError(
            f"slug: {by_hand[0]} is set by hand: remove it from the settings, and this command"
            " makes paths of its own"
        )
    names = [site.name for site in settings.sites]
    fresh = own.slugs.rotated(own.secret, names, server.clock_ms())
    slugs.write(settings.data_dir, fresh)
    for name in names:
        click.echo(f"{name or 'The site'}: {snippet.tag('', fresh.of(own.secret, name))}")
    click.echo("The old path works for 30 more days.")


@main.command(name="sandbox")
@click.option("--port", type=int, required=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True)
def run_sandbox(port: int, host: str) -> None:
    """Run the stand-in of Meta's Graph as a server, to test integrations against."""
    sys.exit(sandbox.main(["--port", str(port), "--host", host]))


@main.command(name="check")
@click.option("--send", "with_event", is_flag=True, help="Send a test event to every pixel, too.")
@_as_json
@click.pass_obj
def run_check(config_file: Path | None, with_event: bool, as_json: bool) -> None:
    """Check settings, store, GeoIP file, Graph version and names; exit 1 when something is wrong."""
    try:
        settings = config.from_process(config_file)
    except SettingsError as error:
        found = [Finding(about="settings", state=State.WRONG, text=str(error))]
    else:
        found = check.look(settings, lambda: _checked_ledger(settings), server.clock_ms())
        if with_event:
            found += asyncio.run(check.send(settings, server.clock_ms()))
    for one in found:
        click.echo(msgspec.json.encode(one) if as_json else _finding_line(one))
    wrong = sum(one.state is State.WRONG for one in found)
    if wrong:
        click.echo(f"gateway: wrong: {wrong} of {len(found)} findings", err=True)
        sys.exit(1)


@main.command()
@click.argument("event")
@click.option("--value", type=float, help="What it is worth.")
@click.option("--currency", help="ISO 4217, such as EUR.")
@click.option("--email", help="The customer's; hashed before it is stored.")
@click.option("--phone", help="The customer's; hashed before it is stored.")
@click.option("--external-id", help="Your own id of the customer.")
@click.option("--event-id", help="The id the browser used for the same event.")
@click.option("--url", help="The page; without it the event is system_generated.")
@click.option("--user-agent", default="gateway send", help="The visitor's, with --url.")
@click.pass_obj
def send(config_file: Path | None, /, event: str, **given: str | float | None) -> None:
    """Post one event through the backend API of the running gateway."""
    settings = config.from_process(config_file)
    own = _running_install(settings)
    user = {k: given[k] for k in ("email", "phone", "external_id") if given[k] is not None}
    custom = {k: given[k] for k in ("value", "currency") if given[k] is not None}
    body: dict[str, object] = {"event_name": event, "user_data": user, "custom_data": custom}
    body["event_id"] = given["event_id"] or f"send-{time.time_ns()}"
    body["action_source"] = "website" if given["url"] else "system_generated"
    if given["url"]:
        body["event_source_url"] = given["url"]
        user["client_user_agent"] = given["user_agent"]
    response = _ask(settings, "public", "POST", "/v1/events", own.api_key, body)
    click.echo(response.text)
    if response.status_code != 202:
        sys.exit(1)


@main.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens next.")
@click.option("--outcome", type=click.Choice([o.value for o in Outcome]), help="Only these.")
@click.option("--event-id", help="Only copies of this event.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@_as_json
@click.pass_obj
def events(
    config_file: Path | None,
    follow: bool,
    outcome: str | None,
    event_id: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the event log: what came, and what became of it."""
    settings = config.from_process(config_file)
    wanted = Outcome(outcome) if outcome else None
    shown: dict[int, Outcome] = {}
    reader = _reader(settings)
    while True:
        for line in reader.events(limit=limit, outcome=wanted, event_id=event_id):
            if shown.get(line.ref) is not line.outcome:
                shown[line.ref] = line.outcome
                click.echo(json.dumps(logged_event(line)) if as_json else _event_line(line))
        if not follow:
            break
        while len(shown) > 2 * limit:
            shown.pop(next(iter(shown)))
        time.sleep(0.5)


@main.command()
@_as_json
@click.pass_obj
def ledger(config_file: Path | None, as_json: bool) -> None:
    """Show where every accepted event is; exit 1 when the account does not add up."""
    settings = config.from_process(config_file)
    lines = _reader(settings).ledger()
    for line in lines:
        click.echo(json.dumps(ledger_line(line)) if as_json else _ledger_text(line))
    if not lines and not as_json:
        click.echo("no event was accepted yet")
    if not all(line.adds_up for line in lines):
        click.echo("gateway: the ledger does not add up", err=True)
        sys.exit(1)


@main.group()
def dead() -> None:
    """Events that were given up on: see why, send them again, or let them go."""


@dead.command(name="list")
@_as_json
@click.pass_obj
def dead_list(config_file: Path | None, as_json: bool) -> None:
    """List the dead letters, newest first."""
    for letter in _reader(config.from_process(config_file)).dead():
        click.echo(json.dumps(dead_letter(letter)) if as_json else _dead_line(letter))


@dead.command(name="show")
@click.argument("ref", metavar="ID", type=int)
@click.pass_obj
def dead_show(config_file: Path | None, ref: int) -> None:
    """Show one dead letter as Meta was sent it (personal data is hashed there)."""
    letters = _reader(config.from_process(config_file)).dead([ref])
    if not letters:
        raise StoreError(f"there is no dead letter {ref}")
    shown = dead_letter(letters[0]) | {"event": json.loads(letters[0].body)}
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False))


@dead.command(name="retry")
@click.argument("refs", metavar="[ID]...", type=int, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.pass_obj
def dead_retry(config_file: Path | None, refs: tuple[int, ...], everything: bool) -> None:
    """Make dead letters pending again."""
    settings = config.from_process(config_file)
    if everything == bool(refs):
        raise click.UsageError("name the ids, or give --all")
    if everything:
        refs = tuple(letter.ref for letter in _reader(settings).dead())
    count = _change(
        settings, "/api/dead/retry", refs, lambda store: store.revive(refs, server.clock_ms())
    )
    click.echo(f"{count} pending again")


@dead.command(name="discard")
@click.argument("refs", metavar="ID...", type=int, nargs=-1, required=True)
@click.pass_obj
def dead_discard(config_file: Path | None, refs: tuple[int, ...]) -> None:
    """Remove dead letters for good."""
    settings = config.from_process(config_file)
    count = _change(settings, "/api/dead/discard", refs, lambda store: store.discard(refs))
    click.echo(f"{count} discarded")


# --- ways to the store -----------------------------------------------------------------------

_STORE_MISSING = "there is no store at {} yet"


def _reader(settings: Settings) -> SqliteReader | RedisReader:
    if not settings.embedded:
        return RedisReader(settings.store)
    if not settings.store_path.exists():
        raise StoreError(_STORE_MISSING.format(settings.store_path))
    return SqliteReader(settings.store_path)


def _checked_ledger(settings: Settings) -> list[LedgerLine]:
    """The ledger of a store that keeps what it answers for. Raises StoreError."""
    reader = _reader(settings)
    if isinstance(reader, RedisReader):
        reader.check()
    return reader.ledger()


def _change(
    settings: Settings,
    path: str,
    refs: tuple[int, ...],
    directly: Callable[[Store], Coroutine[None, None, int]],
) -> int:
    """On a store that anybody may write, or nobody owns; else through the gateway that owns it."""
    if not settings.embedded:
        return asyncio.run(RedisReader(settings.store).ask(directly))
    if banner_of(settings.store_path) is None:
        return asyncio.run(_opened(settings, directly))
    own = _running_install(settings)
    response = _ask(settings, "operator", "POST", path, own.cli_key, {"refs": refs})
    if response.status_code != 200:
        told = f": {response.json()['error']}" if response.content else ""
        raise StoreError(f"the running gateway refused: HTTP {response.status_code}{told}")
    return int(response.json()["count"])


async def _opened(
    settings: Settings, directly: Callable[[Store], Coroutine[None, None, int]]
) -> int:
    if not settings.store_path.exists():
        raise StoreError(_STORE_MISSING.format(settings.store_path))
    store = await SqliteStore.open(settings.store_path)
    try:
        return await directly(store)
    finally:
        await store.close()


def _ask(
    settings: Settings, face: str, method: str, path: str, key: Secret, body: object
) -> httpx2.Response:
    url = _face_url(settings, face) + path
    headers = {"Authorization": f"Bearer {key.reveal()}"}
    try:
        return httpx2.request(method, url, json=body, headers=headers, timeout=30, trust_env=False)
    except httpx2.HTTPError as error:
        raise StoreError(f"the gateway does not answer: {type(error).__name__}") from None


def _face_url(settings: Settings, face: str) -> str:
    """Where the running gateway listens: its own word, or what is set where many may run."""
    if not settings.embedded:
        return f"http://{settings.host}:{settings.port}"
    banner = banner_of(settings.store_path)
    url = json.loads(banner).get(face) if banner else None
    if url is None:
        raise StoreError(_NO_SERVER)
    return str(url)


# --- for people ------------------------------------------------------------------------------

_COLOURS = {Outcome.DELIVERED: "green", Outcome.DEAD: "red", Outcome.INVALID: "red"}


def _event_line(event: LoggedEvent) -> str:
    note = event.note
    colour = _COLOURS.get(event.outcome, "yellow" if event.outcome in WAITING else None)
    custom = " ".join(f"{name}={value}" for name, value in note.custom.items())
    parts = [
        _moment(event.at_ms),
        click.style(f"{event.outcome:12}", fg=colour),
        f"{note.event_name:20}",
        note.event_id,
        note.source,
        event.reason,
        f"[{' '.join(note.keys)}]" if note.keys else "",
        custom,
        *note.warnings,
    ]
    return "  ".join(part for part in parts if part)


_STATE_COLOURS = {State.OK: "green", State.NOTE: "yellow", State.WRONG: "red"}


def _finding_line(finding: Finding) -> str:
    state = click.style(f"{finding.state:6}", fg=_STATE_COLOURS[finding.state])
    do = f"; {finding.do}" if finding.do else ""
    return f"{state} {finding.about}: {finding.text}{do}"


def _dead_line(letter: DeadLetter) -> str:
    name = f"{letter.note.event_name} {letter.note.event_id}"
    return f"{letter.ref}  {_moment(letter.died_ms)}  {name}  {letter.reason}"


def _ledger_text(line: LedgerLine) -> str:
    dropped = "".join(f" + {count} {outcome}" for outcome, count in line.dropped.items())
    sign = "=" if line.adds_up else "is not"
    return (
        f"{line.pixel}: {line.accepted} accepted {sign} {line.delivered} delivered"
        f" + {line.merged} merged{dropped} + {line.dead} dead + {line.pending} pending"
    )


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
