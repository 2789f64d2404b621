"""Unpacks the filter lists from the packages that carry them; set-up runs it once.

`python tests/blockers/unpack.py FOLDER`, where FOLDER holds the unpacked .deb as `deb` and AdGuard's npm
tarball. They end up in FOLDER/lists, in one step, so that a half-done set-up is not taken for a done one.
"""

import base64
import hashlib
import json
import shutil
import sys
import tarfile
from pathlib import Path

# npm checks a package it installs, but not one it packs; this one cannot be installed.
ADGUARD_SHA512 = (
    "n0DqlWWlDYs4P6UdG1H5HQR/nVCMMxq6B6JMj6gvcP4uMvjmLKQw6rPg07vy5+Mn0ty9Q/3OYQldiHsqNSPzuQ=="
)
ADGUARD = {2: "adguard-base", 3: "adguard-tracking", 4: "adguard-social", 17: "adguard-url"}
ASSETS = "deb/usr/share/chromium/extensions/ublock-origin/assets"


def main(folder: Path) -> None:
    """Raises SystemExit when a package is not what it should be."""
    (tarball,) = folder.glob("adguard-*.tgz")
    if base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode() != ADGUARD_SHA512:
        raise SystemExit(f"set-up: {tarball.name} is not the package that is pinned")
    aside = folder / "unpacking"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for path in (folder / ASSETS).rglob("*.txt"):
        shutil.copy(path, aside / (path.name.removesuffix(".txt").removesuffix(".min") + ".txt"))
    with tarfile.open(tarball) as package:
        for number, name in ADGUARD.items():
            ruleset = f"package/dist/filters/declarative/ruleset_{number}/ruleset_{number}.json"
            file = package.extractfile(ruleset)
            assert file is not None, ruleset
            text = json.load(file)[0]["metadata"]["rawFilterList"]
            (aside / f"{name}.txt").write_text(text, encoding="utf-8")
    shutil.rmtree(folder / "lists", ignore_errors=True)
    aside.rename(folder / "lists")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
