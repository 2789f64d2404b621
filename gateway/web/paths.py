"""Which site answers at which public path, now: the paths in use, and those that were until lately."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.config import Settings, Site
from gateway.install import Install
from gateway.slugs import Slugs
from gateway.web.public import Public


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
        self.refresh(install.slugs)

    def find(self, slug: str) -> Public | None:
        """The site's routes, or None: there is nothing at this path, or not any more."""
        path = self._paths.get(slug)
        if path is None or (path.until_ms is not None and self._clock_ms() >= path.until_ms):
            return None
        return path.public

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
