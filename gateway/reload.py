"""New tokens and new public paths: what may change without a restart."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gateway import config, slugs
from gateway.config import Settings
from gateway.errors import SettingsError, StoreUnwritable
from gateway.slugs import Slugs
from gateway.worker import Worker

LOOK_S = 2.0

logger = logging.getLogger(__name__)


class Reloads:
    """Hands out new tokens and paths while the work goes on, when a file changes or on SIGHUP.

    Tokens, test codes and rotated paths only: the rest of the settings takes a restart. A file that
    became unreadable changes nothing but the log.
    """

    def __init__(
        self,
        settings: Settings,
        workers: Mapping[str, Worker],
        on_slugs: Callable[[Slugs], None],
    ) -> None:
        self._settings = settings
        self._workers = workers
        self._pixels = {pixel.lane: pixel for pixel in settings.pixels}
        self._on_slugs = on_slugs
        self._files = (*settings.files, settings.data_dir / slugs.FILE)
        self._seen = _stamps(self._files)

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look at the files every two seconds."""
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await stopping.wait()
            stamps = _stamps(self._files)
            if stamps != self._seen:
                self._seen = stamps
                self.now()

    def now(self) -> None:
        """Read the settings again and hand out what changed."""
        try:
            fresh = config.load(os.environ, file=self._settings.file)
            self._on_slugs(slugs.read(self._settings.data_dir))
        except (SettingsError, StoreUnwritable) as error:
            logger.error("the settings were not reloaded", extra={"error": str(error)})
            return
        # A token may lie in another file now.
        self._files = (*fresh.files, self._settings.data_dir / slugs.FILE)
        for pixel in fresh.pixels:
            if pixel.lane in self._pixels and pixel != self._pixels[pixel.lane]:
                self._pixels[pixel.lane] = pixel
                self._workers[pixel.lane].use(pixel)
                logger.info("a pixel's token was reloaded", extra={"pixel": pixel.lane[-4:]})


def _stamps(files: Iterable[Path]) -> dict[Path, int]:
    def stamp(path: Path) -> int:
        try:
            return path.stat().st_mtime_ns
        except OSError:
            return 0

    return {path: stamp(path) for path in files}
