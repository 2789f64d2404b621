"""What belongs to this install alone: its secret, and the names and keys that follow from it.

Kept in the data directory, readable by the owner only, unless they are set. Losing the secret changes the public path
and every key that was not set by hand; processes that share a store must share it.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway import slugs
from gateway.config import Settings, Site
from gateway.errors import StoreUnwritable
from gateway.master import Seal
from gateway.secret import Secret
from gateway.slugs import Slugs


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """The install's own values."""

    secret: Secret
    slugs: Slugs
    seal: Seal
    """of the master cookie"""
    api_key: Secret
    cli_key: Secret
    """opens the operator's face to commands of the same user"""
    admin_hash: str
    announced: tuple[tuple[str, str], ...]
    """what was made just now and is shown this once: what it is, and the value"""

    def slug_of(self, site: Site) -> str:
        """The site's public path: the one that is set, or its own by the install's secret."""
        return site.slug or self.slugs.of(self.secret, site.name)

    @property
    def cookies(self) -> tuple[str, ...]:
        """The names of the cookies that are this install's alone."""
        return (self.seal.name,)

    def admits(self, password: str) -> bool:
        """Whether a dashboard password is the right one."""
        return hmac.compare_digest(_stretched(password, self.secret), self.admin_hash)


def open_install(settings: Settings) -> Install:
    """Read the install's values, making what is missing. Raises StoreUnwritable."""
    folder = settings.data_dir
    announced: list[tuple[str, str]] = []
    try:
        secret = settings.secret or Secret(
            _kept(folder / "secret", lambda: secrets.token_hex(32))[0]
        )
        api_key = settings.api_key
        if api_key is None:
            text, new = _kept(folder / "api_key", _new_api_key)
            api_key = Secret(text)
            if new:
                announced.append(("backend API key", text))
        if settings.admin_password is not None:
            admin_hash = _stretched(settings.admin_password, secret)
        else:
            password = secrets.token_urlsafe(12)
            admin_hash, new = _kept(
                folder / "admin_password_hash", lambda: _stretched(password, secret)
            )
            if new:
                announced.append(("dashboard password", password))
    except OSError as error:
        raise StoreUnwritable(
            f"the data directory {folder} cannot be used: {error.strerror}"
        ) from None
    return Install(
        secret=secret,
        slugs=slugs.read(folder),
        seal=Seal("_" + slugs.neutral(secret, "master cookie", 5), slugs.mac(secret, "master")),
        api_key=api_key,
        cli_key=Secret(slugs.mac(secret, "cli").hex()),
        admin_hash=admin_hash,
        announced=tuple(announced),
    )


def made_install(settings: Settings) -> Install | None:
    """The install's values when nothing of them is missing; else None, and nothing is made.

    Raises StoreUnwritable.
    """
    files = {"secret": None, "api_key": settings.api_key}
    files["admin_password_hash"] = settings.admin_password
    kept = all(
        given is not None or (settings.data_dir / name).exists() for name, given in files.items()
    )
    return open_install(settings) if kept else None


def _new_api_key() -> str:
    return f"gwk_{secrets.token_hex(4)}_{secrets.token_urlsafe(24)}"


def _stretched(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=salt.encode(), n=2**14, r=8, p=1).hex()


def _kept(path: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """The file's text, made now when there is none; whether it was made now."""
    try:
        return _text_of(path), False
    except FileNotFoundError:
        text = make()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written aside and linked, so that a crash leaves no half secret and two starts agree on one.
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(aside, path)
    except FileExistsError:
        return _text_of(path), False
    finally:
        aside.unlink()
    slugs.keep_names(path.parent)
    return text, True


def _text_of(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text:  # everything that follows from an empty secret could be guessed
        raise StoreUnwritable(f"{path} is empty or damaged: restore it, or delete it for a new one")
    return text
