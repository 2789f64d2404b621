#!/bin/sh
# Prepares a checkout: .venv with the locked dependencies ("run"), and what the tests need ("test").
# Everything is installed by hash; a second call does nothing that is done already.
set -eu
kind=$1
python=${PYTHON:-python3}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    command -v apt-get >/dev/null || { echo "set-up: please install: $*" >&2; exit 1; }
    echo "set-up: installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# What ad blockers block stands in their lists. Those are other people's and come from packages that carry
# them: uBlock Origin's from Debian's, checked by apt, AdGuard's from npm's, checked by its hash.
fetch_lists() {
    folder=.venv/blockers
    deb=webext-ublock-origin-chromium
    adguard=@adguard/dnr-rulesets@3.3.20260320140136
    if [ -d "$folder/lists" ] && [ "$(cat "$folder/have" 2>/dev/null)" = "$adguard" ]; then return; fi
    command -v apt-get >/dev/null || { echo "set-up: apt-get is needed to fetch $deb" >&2; exit 1; }
    echo "set-up: fetching the ad blockers' lists"
    rm -rf "$folder"
    mkdir -p "$folder"
    (
        cd "$folder"
        apt-get -qq download "$deb" 2>/dev/null || {
            as_root apt-get -qq update
            apt-get -qq download "$deb"
        }
        dpkg -x "$deb"_*.deb deb
        npm pack --silent "$adguard" >/dev/null
    )
    .venv/bin/python tests/blockers/unpack.py "$folder"
    rm -rf "$folder"/deb "$folder"/*.deb "$folder"/*.tgz
    echo "$adguard" >"$folder/have"
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "set-up: Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 run" >&2
    exit 1
}
# Debian ships Python without the module that makes environments.
"$python" -c 'import ensurepip' 2>/dev/null || apt_install python3-venv

[ -x .venv/bin/python ] || "$python" -m venv .venv
lock=config/requirements.lock
[ "$kind" = test ] && lock=config/requirements-dev.lock
echo "set-up: installing the dependencies of $lock"
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .

if [ "$kind" = test ]; then
    missing=
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || missing=chromium
    command -v redis-server >/dev/null || missing="$missing redis-server"
    # Meta's own library in the page's language is an oracle for the hashes.
    command -v npm >/dev/null || missing="$missing nodejs npm"
    # More visitors: Firefox with a blocker, and WebKit with Safari's tracking prevention.
    command -v firefox-esr >/dev/null || missing="$missing firefox-esr"
    ls /usr/share/mozilla/extensions/*/uBlock0@* >/dev/null 2>&1 ||
        missing="$missing webext-ublock-origin-firefox"
    command -v WebKitWebDriver >/dev/null || missing="$missing webkit2gtk-driver"
    command -v Xvfb >/dev/null || missing="$missing xvfb"
    # A gateway whose clock is set, for the fault tests.
    command -v faketime >/dev/null || missing="$missing faketime"
    command -v openssl >/dev/null || missing="$missing openssl"
    # What is on disk before an answer leaves, and disks that hang or lose their power.
    command -v strace >/dev/null || missing="$missing strace"
    [ -x /sbin/mkfs.ext4 ] || missing="$missing e2fsprogs"
    # shellcheck disable=SC2086
    [ -z "$missing" ] || apt_install $missing
    for folder in tests/oracles tests/blockers static; do
        npm ci --silent --no-audit --no-fund --prefix "$folder"
    done
    fetch_lists
fi
touch .venv/.run ".venv/.$kind"
