"""Fixtures every end-to-end file shares: a stand-in of Graph, and a City file over known networks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from .harness import StandIn

CITIES = {
    "127.0.0.0/8": ("Berlin", "BE", "Land Berlin", "10115", "DE"),
    "::1/128": ("Berlin", "BE", "Land Berlin", "10115", "DE"),
    "81.2.69.0/24": ("London", "ENG", "England", "SW1A", "GB"),
    "8.8.8.0/24": ("Mountain View", "CA", "California", "94043", "US"),
    "2a02:ed00::/32": ("Kyiv", "30", "Kyiv City", "01001", "UA"),
}


@pytest.fixture(scope="session")
def city_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GeoLite2-shaped City file that knows CITIES and nothing else."""
    writer = MMDBWriter(6, "GeoLite2-City", languages=["en"], ipv4_compatible=True)
    for network, (city, code, region, postal, country) in CITIES.items():
        record = {
            "city": {"names": {"en": city}},
            "subdivisions": [{"iso_code": code, "names": {"en": region}}],
            "postal": {"code": postal},
            "country": {"iso_code": country, "names": {"en": country}},
        }
        writer.insert_network(IPSet([network]), record)
    path = tmp_path_factory.mktemp("geoip") / "city.mmdb"
    writer.to_db_file(str(path))
    return path


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Meta's Graph for one test file."""
    with StandIn(tmp_path_factory.mktemp("graph")) as graph:
        yield graph.start()
