"""A new public path for a gateway at work, and the old one beside it."""

from pathlib import Path

import msgspec

from gateway import slugs

from .harness import Gateway, call, wait_until


def test_a_rotated_path_works_at_once_and_the_old_one_for_a_month(tmp_path: Path) -> None:
    with Gateway(tmp_path, {"GATEWAY_SANDBOX": "true"}).start() as gateway:
        old = gateway.script_url
        said = gateway.cli("rotate", "slug")
        assert said.returncode == 0, said.stderr
        new = f"{gateway.url}/{gateway.cli('snippet').stdout.split(chr(34))[1].lstrip('/')}"
        assert new != old
        assert new.rpartition("/")[2] in said.stdout
        wait_until(lambda: call("GET", new).status_code == 200, what="the new path")

        for number, script in enumerate((old, new)):
            assert call("GET", script).status_code == 200
            gateway.slug = script.rpartition("/")[2]
            page = "https://shop.example/"
            gateway.hit({"name": "Lead", "id": f"l-{number}", "url": page}).raise_for_status()
        assert [e.event_id for e in gateway.events()] == ["l-0", "l-1"]

        # A month later.
        kept = slugs.read(gateway.data)
        past = tuple(msgspec.structs.replace(one, until_ms=1) for one in kept.retired)
        slugs.write(gateway.data, msgspec.structs.replace(kept, retired=past))
        wait_until(lambda: call("GET", old).status_code == 404, what="the end of the old path")
        assert call("GET", new).status_code == 200


def test_a_path_set_by_hand_is_not_rotated(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {"GATEWAY_SANDBOX": "true", "GATEWAY_SLUG": "k3vq8w2mzp"})
    said = gateway.cli("rotate", "slug")

    assert said.returncode == 1
    assert "slug: k3vq8w2mzp is set by hand" in said.stderr


def test_what_a_command_makes_before_the_first_start_is_shown(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {"GATEWAY_SANDBOX": "true"})
    first, second = gateway.cli("snippet"), gateway.cli("snippet")

    assert "dashboard password, shown this once: " in first.stderr
    assert f"backend API key, shown this once: {gateway.api_key}" in first.stderr
    assert first.stdout == second.stdout
    assert second.stderr == ""
