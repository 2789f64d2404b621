"""Page views and cookies in Firefox and WebKit; `test_views.py` and `test_visitors.py` have Chromium."""

from .firefox import Firefox
from .front import Front
from .walk import away_and_back, through_a_router, without_fbp
from .webkit import WebKit


def test_every_navigation_in_firefox_is_one_page_view(firefox: Firefox, front: Front) -> None:
    through_a_router(firefox, front, "Firefox")


def test_every_navigation_in_webkit_is_one_page_view(webkit: WebKit, front: Front) -> None:
    through_a_router(webkit, front, "WebKit")


def test_back_by_the_cache_and_reload_are_views_in_firefox(firefox: Firefox, front: Front) -> None:
    away_and_back(firefox, front, "Firefox")


def test_back_by_the_cache_and_reload_are_views_in_webkit(webkit: WebKit, front: Front) -> None:
    away_and_back(webkit, front, "WebKit")


def test_a_304_brings_a_lost_fbp_back_in_firefox(firefox: Firefox, front: Front) -> None:
    without_fbp(firefox, front)


def test_a_304_brings_a_lost_fbp_back_in_webkit(webkit: WebKit, front: Front) -> None:
    without_fbp(webkit, front)
