"""New tokens for workers that are at work: what a change of the settings may alter without a restart."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway import config
from gateway.config import Settings
from gateway.errors import SettingsError
from gateway.worker import Worker

LOOK_S = 2.0

logger = logging.getLogger(__name__)


class Reloads:
    """Gives the workers new tokens while they work, when a file that was read changes or on SIGHUP.

    Tokens and test codes only: the rest of the settings takes a restart. A file that became
    unreadable changes nothing but the log.
    """

    def __init__(self, settings: Settings, workers: Mapping[str, Worker]) -> None:
        self._settings = settings
        self._workers = workers
        self._pixels = {pixel.lane: pixel for pixel in settings.pixels}
        self._files = settings.files
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
        except SettingsError as error:
            logger.error("the settings were not reloaded", extra={"error": str(error)})
            return
        self._files = fresh.files  # a token may lie in another file now
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
