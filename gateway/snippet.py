"""The script a page loads, rendered once with the install's settings and kept in memory."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import brotli
import msgspec

from gateway.config import Site
from gateway.consent import Policy

BUILT = Path(__file__).parent.parent / "static" / "built"


@dataclass(frozen=True, slots=True)
class Snippet:
    """The bytes of the script, the same for every visitor."""

    text: bytes
    encoded: dict[str, bytes]
    """by content coding, smallest first"""
    etag: str


def render(site: Site, slug: str, build: str, *, outbound: bool = False) -> Snippet:
    """The script with the settings it needs to know filled in. `build`: core, default or full.

    `outbound`: clicks on links to other sites are counted.
    """
    values: dict[str, object] = {"path": f"/{slug}", "name": "px"}
    if site.consent is Policy.REQUIRED:
        values["consent"] = "wait"
    if site.consent is Policy.OPT_OUT:
        values["gpc"] = True
    if site.cross_domain:
        values["hosts"] = [f".{host}" for host in site.cross_domain]
    if outbound:
        values["outbound"] = True
    source = (BUILT / f"{build}.js").read_text(encoding="utf-8")
    text = source.replace("__SETTINGS__", msgspec.json.encode(values).decode()).encode()
    digest = hashlib.sha256(text).hexdigest()[:16]
    encoded = {"br": brotli.compress(text), "gzip": gzip.compress(text, 9, mtime=0)}
    return Snippet(text, encoded, f'"{digest}"')


def tag(origin: str, slug: str) -> str:
    """The one line for the page's head; before Meta's base code, so that ids are there in time."""
    return f'<script src="{origin}/{slug}" async></script>'


_ROUTES = {
    "nginx": """\
location ~ ^/{slug}(/|$) {{
    proxy_pass http://{gateway};
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    client_max_body_size 64k;
}}""",
    "caddy": """\
@gateway path /{slug} /{slug}/*
handle @gateway {{
    reverse_proxy {gateway} {{
        header_up X-Forwarded-For {{remote_host}}
    }}
}}""",
    "traefik": """\
http:
  routers:
    gateway:
      rule: "Path(`/{slug}`) || PathPrefix(`/{slug}/`)"
      service: gateway
  services:
    gateway:
      loadBalancer:
        servers:
          - url: "http://{gateway}\"""",
    "cloudflare": """\
// A Worker on the routes example.com/{slug} and example.com/{slug}/*
export default {{
  fetch(request) {{
    const url = new URL(request.url);
    const headers = new Headers(request.headers);
    headers.set("X-Forwarded-For", request.headers.get("CF-Connecting-IP"));
    headers.set("X-Forwarded-Proto", "https");
    return fetch("https://gateway.example.com" + url.pathname, {{
      method: request.method, headers, body: request.body,
    }});
  }},
}};""",
}


def route(target: str, slug: str, gateway: str) -> str:
    """The front server's part: sends the one path to the gateway at `gateway` (host:port).

    Raises KeyError for a front server there is no text for. The gateway must trust the front
    server's address (`trusted_proxies`), or it takes it for the visitor's.
    """
    return _ROUTES[target].format(slug=slug, gateway=gateway)
