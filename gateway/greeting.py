"""What the gateway says when it starts: where it listens, what to paste, and what is not set yet."""

from gateway import __version__, snippet
from gateway.config import Settings
from gateway.faces import Faces
from gateway.install import Install


def text(settings: Settings, own: Install, faces: Faces) -> str:
    """Several lines; what was made in this start, such as a password, is in no later one."""
    public = faces.urls.get("public", "")
    does = f"is listening on {public}" if public else "delivers what others accept"
    lines = [f"gateway {__version__} {does}", ""]
    if settings.sandbox:
        lines += [
            "SANDBOX: batches go to the built-in stand-in of Meta's Graph; nothing reaches Meta.",
            "Set FB_PIXEL_ID and FB_ACCESS_TOKEN to go live.",
            "",
        ]
    for pixel in settings.pixels:
        if pixel.access_token is None:
            lines += [
                f"FB_ACCESS_TOKEN is not set for pixel {pixel.id}: its events wait for it.",
                "",
            ]
        if pixel.test_event_code and not pixel.sandbox:
            lines += [f"FB_TEST_EVENT_CODE is set for pixel {pixel.id}: do not leave it on.", ""]
    for site in settings.sites if public else ():
        slug, name = own.slug_of(site), f" ({site.name})" if site.name else ""
        lines += [
            f"Paste this into the <head> of a page to try it{name}:",
            f"  {snippet.tag(public, slug)}",
            "On your site, route the path to the gateway and use the short form:",
            f"  {snippet.tag('', slug)}",
        ]
    if "operator" in faces.urls:
        lines.append(f"Dashboard: {faces.urls['operator']}/")
    lines += [f"  {what}, shown this once: {value}" for what, value in own.announced]
    return "\n".join(lines)
