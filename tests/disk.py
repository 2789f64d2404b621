"""A disk of its own for a test: one small enough to be filled, one that hangs, one that loses its power."""

import contextlib
import fcntl
import os
import resource
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "12m") -> Iterator[Path]:
    """A file system of this size at `folder`; skips the test where nobody may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        pytest.skip(f"mounting a small disk needs root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], timeout=30, check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Somebody else's file takes every byte that is left, and is deleted at the end."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (65536, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
        yield
    finally:
        filler.unlink()


class LoopDisk:
    """An ext4 on a file of its own, with a kernel's block device between, mounted at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._image = folder.with_name(folder.name + ".ext4")
        self._device = ""

    def make(self, size: int) -> None:
        """Raises CalledProcessError or OSError where this is not allowed, or the tools are missing."""
        self.folder.mkdir()
        with self._image.open("wb") as image:
            image.truncate(size)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._device = _run("losetup", "-f", "--show", str(self._image)).strip()
        self.mount()
        (self.folder / "lost+found").rmdir()

    def mount(self) -> None:
        """As after a start: what the journal holds is written back. By itself it is written once in five minutes."""
        _run("mount", "-t", "ext4", "-o", "commit=300", self._device, str(self.folder))

    def unmount(self) -> None:
        """Fails while a file of it is open."""
        _run("umount", str(self.folder))

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Until the end of the block no write returns, nor does what would make one durable."""
        _run("fsfreeze", "-f", str(self.folder))
        try:
            yield
        finally:
            _run("fsfreeze", "-u", str(self.folder))

    def cut_power(self) -> None:
        """From now on nothing reaches the device, not even the journal that is in memory; only a new mount helps."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def remove(self) -> None:
        """Whatever state it is in."""
        if os.path.ismount(self.folder):
            _run("umount", "-l", str(self.folder))
        if self._device:
            _run("losetup", "-d", self._device)
        self._image.unlink(missing_ok=True)


_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
"""linux/fs/ext4/ext4.h"""


@contextlib.contextmanager
def loop_disk(folder: Path, size: int = 256 * 1024 * 1024) -> Iterator[LoopDisk]:
    """Skips the test where nobody may have one."""
    disk = LoopDisk(folder)
    try:
        try:
            disk.make(size)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            pytest.skip(f"a disk on a loop device needs root and loop devices: {said.strip()}")
        yield disk
    finally:
        disk.remove()


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """A disk that takes nothing any more, as the kernel sees it: this process may not write to a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
