"""Which site answers at which public path, now: the paths in use, and those that were until lately."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from gateway.config import Settings, Site
from gateway.install import Install
from gateway.slugs import Slugs
from gateway.web.public import Public

DAY_MS = 86_400_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Path:
    public: Public
    until_ms: int | None


class Paths:
    """Looks up the site of a path. `refresh` is told of a rotation."""

    def __init__(
        self,
        *,
        settings: Settings,
        install: Install,
        make: Callable[[Site, str], Public],
        clock_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._install = install
        self._make = make
        self._clock_ms = clock_ms
        self._paths: dict[str, _Path] = {}
        self._told_ms: dict[str, int] = {}
        self.refresh(install.slugs)

    def find(self, slug: str) -> Public | None:
        """The site's routes, or None: there is nothing at this path, or not any more."""
        path = self._paths.get(slug)
        if path is None:
            return None
        if path.until_ms is not None:
            now_ms = self._clock_ms()
            if now_ms >= path.until_ms:
                return None
            self._tell(slug, now_ms, path.until_ms)
        return path.public

    def _tell(self, slug: str, now_ms: int, until_ms: int) -> None:
        """Once a day: whoever rotated wants to know when no page asks at the old path any more."""
        if now_ms - self._told_ms.get(slug, 0) >= DAY_MS:
            self._told_ms[slug] = now_ms
            days = (until_ms - now_ms) // DAY_MS
            logger.info("a rotated path is still in use", extra={"path": slug, "days_left": days})

    def refresh(self, slugs: Slugs) -> None:
        """Answer at these paths from now on. One in use is never taken for a retired one."""
        by_name = {site.name: site for site in self._settings.sites}
        paths = {
            old.slug: _Path(self._make(by_name[old.site], old.slug), old.until_ms)
            for old in slugs.retired
            if old.site in by_name
        }
        for site in self._settings.sites:
            slug = site.slug or slugs.of(self._install.secret, site.name)
            paths[slug] = _Path(self._make(site, slug), None)
        self._paths = paths
