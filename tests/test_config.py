"""The settings: which source wins, what every key takes, and that a refusal is one useful sentence."""

from pathlib import Path

import pytest

from gateway import config
from gateway.config import SANDBOX_PIXEL, Pixel, Settings, Site
from gateway.consent import Policy
from gateway.errors import SettingsError
from gateway.keys import KEYS, META_GRAPH_URL
from gateway.secret import Secret

PIXEL = "1234567890123456"
HIDDEN = "hunter2-hidden"


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No gateway.toml lies around."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def of_file(tmp_path: Path, text: str, **environ: str) -> Settings:
    return config.load(environ, file=written(tmp_path, text))


def only(settings: Settings) -> Site:
    (site,) = settings.sites
    return site


def pixel_of(settings: Settings) -> Pixel:
    (pixel,) = settings.pixels
    return pixel


def setting(settings: Settings, name: str) -> object:
    """A setting by its key, which may be the one site's."""
    if name == "site_hosts":
        return only(settings).hosts
    return getattr(only(settings) if hasattr(only(settings), name) else settings, name)


def refusal(tmp_path: Path, text: str = "", **environ: str) -> str:
    with pytest.raises(SettingsError) as raised:
        of_file(tmp_path, text, **environ)
    return str(raised.value)


# --- which source wins -----------------------------------------------------------------------


def test_nothing_set_is_the_sandbox_on_the_loopback() -> None:
    settings = config.load({})

    assert pixel_of(settings).sandbox
    assert pixel_of(settings).id == SANDBOX_PIXEL
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.admin_host, settings.admin_port) == ("127.0.0.1", 8001)
    assert settings.store_path == Path.cwd() / "data" / "gateway.db"
    assert settings.data_dir == Path.cwd() / "data"
    assert only(settings).consent is Policy.OPT_OUT
    assert (settings.graph_url, settings.graph_version) == (META_GRAPH_URL, "v26.0")
    assert settings.rate_per_second == 10
    assert settings.browser_events is None
    assert only(settings).hosts == settings.trusted_proxies == ()
    assert settings.api_key is settings.admin_password is only(settings).slug is None
    assert only(settings).name == ""
    assert settings.file is None
    assert settings.files == ()


def test_options_go_over_environment_over_file_over_default(tmp_path: Path) -> None:
    path = written(tmp_path, "port = 1001\nadmin_port = 1002\nlog_level = 'error'")
    environ = {"GATEWAY_PORT": "2001", "GATEWAY_ADMIN_PORT": "2002"}

    settings = config.load(environ, file=path, options={"port": 3001, "admin_port": None})

    assert (settings.port, settings.admin_port) == (3001, 2002)
    assert (settings.log_level, settings.host) == ("error", "127.0.0.1")


def test_the_file_is_the_named_one_else_gateway_config_else_gateway_toml(tmp_path: Path) -> None:
    named, by_variable = tmp_path / "a.toml", tmp_path / "b.toml"
    named.write_text("port = 1")
    by_variable.write_text("port = 2")
    Path("gateway.toml").write_text("port = 3")
    environ = {"GATEWAY_CONFIG": str(by_variable)}

    assert config.load(environ, file=named).port == 1
    assert config.load(environ).port == 2
    assert config.load({}).port == 3


def test_the_names_of_the_seed_guide_work(tmp_path: Path) -> None:
    settings = config.load(
        {"FB_PIXEL_ID": PIXEL, "FB_ACCESS_TOKEN": HIDDEN, "FB_TEST_EVENT_CODE": "TEST1"}
    )

    assert pixel_of(settings).id == PIXEL
    assert pixel_of(settings).access_token == HIDDEN
    assert pixel_of(settings).test_event_code == "TEST1"
    assert not pixel_of(settings).sandbox


def test_our_own_names_go_over_the_seed_guides() -> None:
    settings = config.load({"FB_PIXEL_ID": "11111", "GATEWAY_PIXEL_ID": "22222"})

    assert pixel_of(settings).id == "22222"


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    assert of_file(tmp_path, "port = 1001", GATEWAY_PORT="").port == 1001


def test_other_programs_variables_are_none_of_ours() -> None:
    assert config.load({"GATEWAYX": "1", "PATH": "/bin", "FB_APP_ID": "1"}).port == 8000


@pytest.mark.parametrize(
    ("variable", "read"),
    [
        ("FB_ACCESS_TOKEN_FILE", lambda s: pixel_of(s).access_token),
        ("GATEWAY_ACCESS_TOKEN_FILE", lambda s: pixel_of(s).access_token),
        ("GATEWAY_API_KEY_FILE", lambda s: s.api_key),
        ("GATEWAY_ADMIN_PASSWORD_FILE", lambda s: s.admin_password),
    ],
)
def test_a_secret_may_come_from_a_file(tmp_path: Path, variable: str, read: object) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{HIDDEN}\n")

    settings = config.load({"FB_PIXEL_ID": PIXEL, variable: str(path)})

    assert callable(read)
    assert read(settings) == HIDDEN


def test_a_secrets_file_that_cannot_be_read_is_named_by_its_variable(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")

    assert refusal(tmp_path, GATEWAY_API_KEY_FILE=missing) == (
        "GATEWAY_API_KEY_FILE: the file cannot be read"
    )


def test_a_setting_that_is_no_secret_comes_from_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path, GATEWAY_SLUG_FILE="/x").startswith(
        "GATEWAY_SLUG_FILE is not a setting"
    )


@pytest.mark.parametrize("problem", ["missing", "directory"])
def test_a_settings_file_that_cannot_be_read_stops_the_start(tmp_path: Path, problem: str) -> None:
    path = tmp_path / "nope.toml" if problem == "missing" else tmp_path

    with pytest.raises(SettingsError, match="cannot be read"):
        config.load({}, file=path)
    with pytest.raises(SettingsError, match="cannot be read"):
        config.load({"GATEWAY_CONFIG": str(path)})


@pytest.mark.parametrize("raw", [b"port = ", b"port = 1\nport = 2", b"a = '\xff'", b"[[[", b"\x00"])
def test_a_settings_file_that_is_no_toml_stops_the_start(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(raw)

    with pytest.raises(SettingsError, match="is not valid TOML"):
        config.load({}, file=path)


# --- one site --------------------------------------------------------------------------------

SITE = f"""
[[site]]
hosts = ["shop.example", "WWW.shop.example."]
slug = "k3vq8w2mzp"
cookie_domain = "shop.example"
consent = "required"
default_country = "DE"
pixels = [{{id = "{PIXEL}", access_token = "{HIDDEN}", test_event_code = "TEST1"}}]
"""


def test_a_site_table_is_the_same_as_the_flat_keys(tmp_path: Path) -> None:
    settings = of_file(tmp_path, SITE)

    assert only(settings).hosts == ("shop.example", "www.shop.example")
    assert only(settings).slug == "k3vq8w2mzp"
    assert only(settings).cookie_domain == "shop.example"
    assert only(settings).consent is Policy.REQUIRED
    assert only(settings).default_country == "de"
    assert pixel_of(settings).id == PIXEL
    assert pixel_of(settings).access_token == HIDDEN
    assert pixel_of(settings).test_event_code == "TEST1"


def test_the_environment_goes_over_the_site_table(tmp_path: Path) -> None:
    assert pixel_of(of_file(tmp_path, SITE, FB_PIXEL_ID="99999")).id == "99999"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("site = 5", "site"),
        ("[site]\nhosts = []", "site"),
        ("site = [5]", "site"),
        ("[[site]]\n[[site]]", "site"),
        ("[[site]]\npixels = 5", "site.pixels"),
        ("[[site]]\npixels = [5]", "site.pixels"),
        (f'[[site]]\npixels = "{HIDDEN}"', "site.pixels"),
        (f'[[site]]\npixels = [["{HIDDEN}"]]', "site.pixels"),
        ('[[site]]\nhost = ["a"]', "site.host is not a setting; did you mean hosts?"),
        ('[[site]]\npixels = [{token = "x"}]', "site.pixels.token is not a setting"),
        ("[[site]]\nport = 1", "site.port is not a setting"),
    ],
)
def test_a_site_table_of_another_shape_is_refused(tmp_path: Path, text: str, named: str) -> None:
    said = refusal(tmp_path, text)

    assert named in said
    assert HIDDEN not in said


# --- several sites and pixels ----------------------------------------------------------------

SITES = f"""
consent = "required"
default_country = "DE"
cookie_domain = "top.example"

[[site]]
hosts = ["shop.example", "shop.test"]
slug = "k3vq8w2mzp"
cookie_domain = "shop.example"
cross_domain = ["Shop.Other.example"]
consent = "off"
default_country = "FR"
pixels = [
    {{id = "11111", access_token = "{HIDDEN}-1", test_event_code = "TEST1"}},
    {{id = 22222}},
]

[[site]]
hosts = ["blog.example"]

[[site.pixels]]
id = "33333"
access_token_file = "TOKEN_FILE"
"""


def token_file(tmp_path: Path, token: str = f"{HIDDEN}-3") -> Path:
    path = tmp_path / "token"
    path.write_text(f"{token}\n")
    return path


def several(tmp_path: Path, **environ: str) -> Settings:
    text = SITES.replace("TOKEN_FILE", str(token_file(tmp_path)))
    return of_file(tmp_path, text, **environ)


def test_several_sites_have_their_own_values_and_pixels(tmp_path: Path) -> None:
    shop, blog = several(tmp_path).sites

    assert shop == Site(
        name="shop.example",
        hosts=("shop.example", "shop.test"),
        pixels=(
            Pixel(
                id="11111",
                access_token=Secret(f"{HIDDEN}-1"),
                test_event_code="TEST1",
                sandbox=False,
            ),
            Pixel(id="22222", access_token=None, test_event_code=None, sandbox=False),
        ),
        slug="k3vq8w2mzp",
        cookie_domain="shop.example",
        cross_domain=("shop.other.example",),
        consent=Policy.OFF,
        default_country="fr",
    )
    assert blog.name == "blog.example"
    assert [(pixel.id, pixel.access_token) for pixel in blog.pixels] == [("33333", f"{HIDDEN}-3")]


def test_what_a_site_does_not_say_the_whole_file_says(tmp_path: Path) -> None:
    _, blog = several(tmp_path).sites

    assert blog.consent is Policy.REQUIRED
    assert blog.default_country == "de"
    assert blog.cookie_domain == "top.example"
    assert blog.slug is None


def test_what_nobody_says_of_a_site_is_the_default(tmp_path: Path) -> None:
    text = """
[[site]]
hosts = ["a.example"]
pixels = [{id = "11111"}]
[[site]]
hosts = ["b.example"]
pixels = [{id = "22222"}]
"""
    for site in of_file(tmp_path, text).sites:
        assert site.consent is Policy.OPT_OUT
        assert site.slug is site.cookie_domain is site.default_country is None


def test_the_environment_is_the_default_of_every_site_that_says_nothing(tmp_path: Path) -> None:
    shop, blog = several(tmp_path, GATEWAY_CONSENT="opt-out", GATEWAY_PORT="9").sites

    assert (shop.consent, blog.consent) == (Policy.OFF, Policy.OPT_OUT)


def test_every_pixel_is_there_once_whichever_sites_share_it(tmp_path: Path) -> None:
    text = """
[[site]]
hosts = ["a.example"]
pixels = [{id = "11111", access_token = "t"}, {id = "22222"}]
[[site]]
hosts = ["b.example"]
pixels = [{id = "11111", access_token = "t"}]
"""
    assert [pixel.id for pixel in of_file(tmp_path, text).pixels] == ["11111", "22222"]


def test_the_sandbox_takes_every_pixel_of_every_site(tmp_path: Path) -> None:
    settings = several(tmp_path, GATEWAY_SANDBOX="true")

    assert settings.sandbox
    assert {pixel.lane for pixel in settings.pixels} == {
        "sandbox-11111",
        "sandbox-22222",
        "sandbox-33333",
    }
    assert all(pixel.access_token == "sandbox" for pixel in settings.pixels)
    assert not several(tmp_path).sandbox


def test_one_site_with_several_pixels_keeps_the_path_it_had_with_one(tmp_path: Path) -> None:
    one = '[[site]]\nhosts = ["a.example"]\npixels = [{id = "11111"}]'
    two = '[[site]]\nhosts = ["a.example"]\npixels = [{id = "11111"}, {id = "22222"}]'

    # The derived path follows from the name: another pixel must not break the tag on every page.
    assert only(of_file(tmp_path, one)).name == only(of_file(tmp_path, two)).name == ""


def test_the_files_are_the_settings_and_every_secrets_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("key")

    settings = several(tmp_path, GATEWAY_API_KEY_FILE=str(key))

    assert settings.file == tmp_path / "settings.toml"
    assert set(settings.files) == {tmp_path / "settings.toml", tmp_path / "token", key}


def test_the_files_are_absolute_and_the_named_one_is_kept(tmp_path: Path) -> None:
    Path("gateway.toml").write_text("port = 3")
    Path("other.toml").write_text("port = 4")

    assert config.load({}).file is None
    assert config.load({}).files == (Path.cwd() / "gateway.toml",)
    by_variable = config.load({"GATEWAY_CONFIG": "other.toml"})
    assert by_variable.file == Path("other.toml")
    assert by_variable.files == (Path.cwd() / "other.toml",)


def two_sites(first: str, second: str) -> str:
    return f"[[site]]\n{first}\n[[site]]\n{second}"


ONE = 'pixels = [{id = "11111"}]'
TWO = 'pixels = [{id = "22222"}]'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            two_sites(
                f'hosts = ["a.example"]\nslug = "k3vq8w2mzp"\n{ONE}',
                f'hosts = ["b.example"]\nslug = "k3vq8w2mzp"\n{TWO}',
            ),
            "two sites have the slug k3vq8w2mzp",
            id="one slug",
        ),
        pytest.param(
            two_sites(
                f'hosts = ["x.example", "a.example"]\n{ONE}', f'hosts = ["A.example."]\n{TWO}'
            ),
            "two sites have the host a.example",
            id="one host",
        ),
        pytest.param(
            two_sites(
                f'hosts = ["a.example"]\npixels = [{{id = "11111", access_token = "{HIDDEN}"}}]',
                f'hosts = ["b.example"]\npixels = [{{id = "11111", access_token = "{HIDDEN}2"}}]',
            ),
            "the pixel 11111 has two access tokens",
            id="two tokens",
        ),
        pytest.param(
            two_sites(
                f'hosts = ["a.example"]\npixels = [{{id = "11111", access_token = "{HIDDEN}"}}]',
                f'hosts = ["b.example"]\n{ONE}',
            ),
            "the pixel 11111 has two access tokens",
            id="a token here and none there",
        ),
        pytest.param(
            two_sites(
                'hosts = ["a.example"]\npixels = [{id = "11111", test_event_code = "T1"}]',
                'hosts = ["b.example"]\npixels = [{id = "11111", test_event_code = "T2"}]',
            ),
            "the pixel 11111 has two test event codes",
            id="two test codes",
        ),
        pytest.param(
            '[[site]]\npixels = [{id = "11111"}, {id = "11111"}]',
            "site.pixels: a pixel is there twice",
            id="a pixel twice in one site",
        ),
        pytest.param(two_sites(ONE, TWO), "site.hosts: ", id="two sites that nothing tells apart"),
        pytest.param(
            two_sites(f'hosts = ["a.example"]\n{ONE}', 'hosts = ["b.example"]'),
            "site.pixels: ",
            id="a site without pixels beside another",
        ),
    ],
)
def test_sites_that_cannot_be_told_apart_are_refused(tmp_path: Path, text: str, said: str) -> None:
    refused = refusal(tmp_path, text)

    assert said in refused
    assert HIDDEN not in refused


def test_sites_without_hosts_are_told_apart_by_their_slugs(tmp_path: Path) -> None:
    text = two_sites(f'slug = "k3vq8w2mzp"\n{ONE}', f'slug = "z9xw8v7t"\n{TWO}')

    assert [site.slug for site in of_file(tmp_path, text).sites] == ["k3vq8w2mzp", "z9xw8v7t"]


def test_a_site_may_name_a_host_twice(tmp_path: Path) -> None:
    text = two_sites(f'hosts = ["a.example", "A.example"]\n{ONE}', f'hosts = ["b.example"]\n{TWO}')

    assert [site.name for site in of_file(tmp_path, text).sites] == ["a.example", "b.example"]


PLAIN = [
    ("pixel_id", "'99999'"),
    ("access_token", f"'{HIDDEN}'"),
    ("test_event_code", "'TEST9'"),
    ("slug", "'k3vq8w2mzp'"),
    ("site_hosts", "['z.example']"),
]


@pytest.mark.parametrize(("name", "value"), PLAIN)
@pytest.mark.parametrize(
    "sites",
    [
        '[[site]]\npixels = [{id = "11111"}, {id = "22222"}]',
        two_sites(f'hosts = ["a.example"]\n{ONE}', f'hosts = ["b.example"]\n{TWO}'),
    ],
    ids=["two pixels", "two sites"],
)
def test_a_plain_key_is_refused_where_it_could_be_anyones(
    tmp_path: Path, name: str, value: str, sites: str
) -> None:
    said = refusal(tmp_path, f"{name} = {value}\n{sites}")

    assert f": {name}: with several pixels it belongs into [[site]]" in said
    assert HIDDEN not in said


@pytest.mark.parametrize(
    "variable",
    [
        *("FB_PIXEL_ID", "GATEWAY_PIXEL_ID", "FB_ACCESS_TOKEN", "GATEWAY_ACCESS_TOKEN"),
        *("FB_ACCESS_TOKEN_FILE", "GATEWAY_ACCESS_TOKEN_FILE", "FB_TEST_EVENT_CODE"),
    ],
)
def test_one_pixels_variable_is_refused_where_it_could_be_anyones(
    tmp_path: Path, variable: str
) -> None:
    # A token would otherwise go out with every pixel that has none of its own.
    value = str(token_file(tmp_path)) if variable.endswith("_FILE") else "12345"

    said = refusal(
        tmp_path, '[[site]]\npixels = [{id = "11111"}, {id = "22222"}]', **{variable: value}
    )

    assert said == f"{variable}: with several pixels it belongs into [[site]]"


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("FB_ACCESS_TOKEN", "other", "access_token", "other"),
        ("FB_TEST_EVENT_CODE", "TEST9", "test_event_code", "TEST9"),
        ("GATEWAY_SITE_HOSTS", "z.example", "hosts", ("z.example",)),
        ("GATEWAY_SLUG", "z9xw8v7t", "slug", "z9xw8v7t"),
        ("GATEWAY_COOKIE_DOMAIN", "z.example", "cookie_domain", "z.example"),
        ("GATEWAY_CONSENT", "off", "consent", Policy.OFF),
        ("GATEWAY_DEFAULT_COUNTRY", "fr", "default_country", "fr"),
    ],
)
def test_the_environment_goes_over_every_key_of_one_site_with_one_pixel(
    tmp_path: Path, variable: str, value: str, field: str, expected: object
) -> None:
    settings = of_file(tmp_path, SITE, **{variable: value})

    site, pixel = only(settings), pixel_of(settings)
    assert getattr(pixel if hasattr(pixel, field) else site, field) == expected


def test_one_pixel_may_have_its_token_in_a_file(tmp_path: Path) -> None:
    path = token_file(tmp_path)

    settings = of_file(
        tmp_path, f'[[site]]\npixels = [{{id = "11111", access_token_file = "{path}"}}]'
    )

    assert pixel_of(settings).access_token == f"{HIDDEN}-3"
    assert path in settings.files


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("consent = 'yes'", "site.consent: expected"),
        ("hosts = ['https://x']", "site.hosts: expected"),
        ("hosts = 5", "site.hosts: expected"),
        ("slug = 'abc1'", "site.slug: expected"),
        ("cookie_domain = 'a b'", "site.cookie_domain: expected"),
        ("default_country = 'XX'", "site.default_country: expected"),
        ("pixels = [{id = 'abc'}]", "site.pixels.id: expected"),
        ("pixels = [{access_token = 'hunter2-hidden'}]", "site.pixels.id: expected"),
        ("pixels = [{id = 11111, access_token = ''}]", "site.pixels.access_token: expected"),
        (
            "pixels = [{id = 11111, access_token = ['hunter2-hidden']}]",
            "site.pixels.access_token: expected",
        ),
        ("pixels = [{id = 11111, test_event_code = 5}]", "site.pixels.test_event_code: expected"),
        (
            "pixels = [{id = 11111, access_token_file = '/nowhere/at-all'}]",
            "site.pixels.access_token_file: the file cannot be read",
        ),
        (
            "pixels = [{id = 11111, access_token_file = ['hunter2-hidden']}]",
            "site.pixels.access_token_file: ",
        ),
        (
            'pixels = [{id = 11111, access_token_file = "a\\u0000b"}]',
            "site.pixels.access_token_file: the file cannot be read",
        ),
        ("site_hosts = ['a']", "site.site_hosts is not a setting; did you mean hosts?"),
        ("pixel_id = 11111", "site.pixel_id is not a setting; did you mean pixels?"),
        ("pixel = [{id = 11111}]", "site.pixel is not a setting; did you mean pixels?"),
        ("pixels = [{pixel_id = 11111}]", "site.pixels.pixel_id is not a setting"),
        (
            "pixels = [{id = 11111, token = 'hunter2-hidden'}]",
            "site.pixels.token is not a setting",
        ),
        (
            "pixels = [{id = 11111, access_tokn = 'hunter2-hidden'}]",
            "site.pixels.access_tokn is not a setting; did you mean access_token?",
        ),
        (
            "pixels = [{id = 11111, access_token_fil = 'hunter2-hidden'}]",
            "site.pixels.access_token_fil is not a setting; did you mean access_token_file?",
        ),
    ],
)
def test_a_refusal_names_the_sites_key_as_it_was_written(
    tmp_path: Path, text: str, named: str
) -> None:
    said = refusal(tmp_path, f"[[site]]\n{text}")

    assert f"settings.toml: {named}" in said
    assert HIDDEN not in said
    assert "\n" not in said


def test_a_mistyped_site_table_is_told_its_name(tmp_path: Path) -> None:
    said = refusal(tmp_path, f"[[sites]]\n{ONE}")

    assert said.endswith("sites is not a setting; did you mean site?")


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"], ids=["empty", "blank", "no text"])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)

    said = refusal(tmp_path, f'[[site]]\npixels = [{{id = "11111", access_token_file = "{path}"}}]')

    assert "site.pixels.access_token_file: " in said


def test_no_token_of_any_site_is_in_a_repr(tmp_path: Path) -> None:
    assert HIDDEN not in repr(several(tmp_path))


# --- unknown and impossible ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("prot", "; did you mean port?"),
        ("Slug", "; did you mean slug?"),
        ("trusted_proxy", "; did you mean trusted_proxies?"),
        ("zzz", ""),
    ],
)
def test_an_unknown_key_is_named_with_a_suggestion(tmp_path: Path, name: str, hint: str) -> None:
    assert refusal(tmp_path, f"{name} = 1").endswith(f": {name} is not a setting{hint}")


def test_an_unknown_variable_is_named_with_a_suggestion_and_without_its_value(
    tmp_path: Path,
) -> None:
    assert refusal(tmp_path, GATEWAY_PXEL_ID=HIDDEN) == (
        "GATEWAY_PXEL_ID is not a setting; did you mean GATEWAY_PIXEL_ID?"
    )


BAD: list[tuple[str, list[str]]] = [
    ("pixel_id", ["'12'", "'abcdef'", "''", "true", "-12345", "[]", "12345.0", "'١٢٣٤٥٦'"]),
    ("test_event_code", ["''", "5", "[]"]),
    ("sandbox", ["'yes'", "1", "''", "[]"]),
    (
        "store",
        [
            "'redis://'",
            "'sqlite:///'",
            "'/tmp/x'",
            "5",
            "''",
            "'sqlite:///~nobody-here/x'",
            "'http://h'",
            "'redis://h:x'",
            "'redis://['",
            "'redis+cluster:h'",
        ],
    ),
    (
        "slug",
        ["'abc1'", "'1abcdefg'", "'abcdefg'", "'ABCDEFG1'", "'abc-def1'", "'abcdef1'", "5", "[]"],
    ),
    ("slug", ["'k3vq8w2mzpabcde'", "'k3vq8w2mzp\\n'"]),
    (
        "site_hosts",
        ["'https://x.example'", "['x.example/a']", "['x:80']", "['a b']", "5", "[5]", "{}"],
    ),
    ("cookie_domain", ["''", "' '", "5", "['x.example']", "'x.example;a'", "'https://x.example'"]),
    ("cross_domain", ["5", "'https://x.example'", "'x.example/a'", "[5]", "{}"]),
    ("consent", ["'yes'", "true", "[]", "''"]),
    ("browser_events", ["5", "[5]", "{}"]),
    ("noscript", ["'maybe'", "2", "[]"]),
    ("outbound_links", ["'maybe'", "2", "[]"]),
    ("snippet", ["'tiny'", "'FULL'", "1"]),
    ("default_country", ["'XX'", "'Germany'", "49", "[]"]),
    ("limited_data_use", ["'on'", "true", "5", "['states']", "''"]),
    ("hash_alternates", ["'maybe'", "2"]),
    (
        "graph_url",
        ["'graph.facebook.com'", "'ftp://x'", "'https://'", "'https://x/?a=1'", "5", "'http://['"],
    ),
    ("graph_version", ["'26'", "'v26'", "26.0", "'latest'"]),
    ("rate_per_second", ["0", "-1", "1001", "'fast'", "nan", "inf", "true", "[]", "1" + "0" * 400]),
    ("hits_per_address", ["-1", "'many'", "nan", "[]"]),
    ("store_max_bytes", ["0", "1000", "1e13", "'10 GB'", "10000000.5", "true"]),
    ("trusted_proxies", ["'all'", "['*']", "['10.0.0.1/8']", "['10.0.0.0/33']", "5", "[5]"]),
    ("geoip_database", ["''", "5", "[]", "'~nobody-here/x.mmdb'"]),
    ("hold_seconds", ["3601", "'ten'", "-1", "[]"]),
    ("browser_duplicates", ["'merge'", "5"]),
    ("host", ["''", "5"]),
    ("port", ["-1", "65536", "8000.5", "'http'", "true", "[]"]),
    ("admin_host", ["''", "5"]),
    ("admin_port", ["-1", "65536", "'x'"]),
    ("drain_seconds", ["61", "-1", "'long'", "true", "[]"]),
    ("log_level", ["'verbose'", "'INFO'", "5"]),
    ("log_format", ["'xml'", "5"]),
]
BAD_SECRETS = [
    (name, value)
    for name in ("access_token", "api_key", "admin_password", "secret")
    for value in ("''", "5", f"['{HIDDEN}']", f"{{a = '{HIDDEN}'}}", "true")
] + [("secret", f"'{HIDDEN[:31]}'"), ("secret", f"'{HIDDEN}ä{'x' * 32}'")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{value[:24]}")
        for name, values in BAD
        for value in values
    ],
)
def test_an_impossible_value_is_one_sentence_that_names_key_and_what_is_allowed(
    tmp_path: Path, name: str, value: str
) -> None:
    said = refusal(tmp_path, f"{name} = {value.replace(chr(39), chr(34))}")

    assert f": {name}: expected " in said
    # A token is easily pasted where the pixel belongs.
    assert (", not " in said) == (name != "pixel_id")
    assert "\n" not in said
    assert "Invalid" not in said  # that would be Python talking


@pytest.mark.parametrize(("name", "value"), BAD_SECRETS)
def test_an_impossible_secret_is_refused_without_its_value(
    tmp_path: Path, name: str, value: str
) -> None:
    said = refusal(tmp_path, f"{name} = {value}")

    assert f": {name}: expected " in said
    assert "not " not in said
    assert HIDDEN not in said


def test_every_key_has_a_row_above() -> None:
    covered = {name for name, _ in BAD} | {name for name, _ in BAD_SECRETS}

    assert covered == {key.name for key in KEYS}


def test_a_variable_is_named_in_its_refusal(tmp_path: Path) -> None:
    assert refusal(tmp_path, GATEWAY_PORT="http").startswith("GATEWAY_PORT: expected ")
    assert refusal(tmp_path, FB_PIXEL_ID="x").startswith("FB_PIXEL_ID: expected ")


def test_an_option_is_named_in_its_refusal() -> None:
    with pytest.raises(SettingsError, match=r"^--admin-port: expected "):
        config.load({}, options={"admin_port": 99_999})


def test_a_password_within_a_url_is_not_shown(tmp_path: Path) -> None:
    said = refusal(tmp_path, f'store = "redis://user:{HIDDEN}@redis.example:x/0"')

    assert "store: expected" in said
    assert HIDDEN not in said


GOOD: list[tuple[str, str, object]] = [
    ("GATEWAY_SITE_HOSTS", "a.example, B.example.,", ("a.example", "b.example")),
    ("GATEWAY_COOKIE_DOMAIN", "Example.com", "example.com"),
    # As it was written in Set-Cookie for twenty years.
    ("GATEWAY_COOKIE_DOMAIN", ".example.com", "example.com"),
    ("GATEWAY_CONSENT", "off", Policy.OFF),
    ("GATEWAY_BROWSER_EVENTS", "PageView,Lead", frozenset({"PageView", "Lead"})),
    ("GATEWAY_DEFAULT_COUNTRY", "de", "de"),
    ("GATEWAY_LIMITED_DATA_USE", "states", "states"),
    ("GATEWAY_HASH_ALTERNATES", "FALSE", False),
    ("GATEWAY_GRAPH_URL", "http://127.0.0.1:9/", "http://127.0.0.1:9"),
    ("GATEWAY_GRAPH_VERSION", "v27.0", "v27.0"),
    ("GATEWAY_RATE_PER_SECOND", "2.5", 2.5),
    ("GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8, ::1", ("10.0.0.0/8", "::1/128")),
    ("GATEWAY_GEOIP_DATABASE", "/x/y.mmdb", Path("/x/y.mmdb")),
    ("GATEWAY_HOLD_SECONDS", "0", 0.0),
    ("GATEWAY_BROWSER_DUPLICATES", "suppress", "suppress"),
    ("GATEWAY_STORE", "redis://h", "redis://h"),
    ("GATEWAY_STORE", "rediss://u:p@h:6380/1", "rediss://u:p@h:6380/1"),
    ("GATEWAY_STORE", "redis+cluster://h:7000", "redis+cluster://h:7000"),
    ("GATEWAY_SECRET", "s" * 32, "s" * 32),
    ("GATEWAY_PORT", "0", 0),
    ("GATEWAY_SLUG", "k3vq8w2mzp", "k3vq8w2mzp"),
    ("GATEWAY_LOG_FORMAT", "json", "json"),
]


@pytest.mark.parametrize(("variable", "text", "value"), GOOD)
def test_a_variable_is_read_to_its_final_value(variable: str, text: str, value: object) -> None:
    settings = config.load({variable: text})

    assert setting(settings, variable.removeprefix("GATEWAY_").lower()) == value


@pytest.mark.parametrize("store", ["redis://h", "redis+cluster://h"])
def test_a_store_elsewhere_leaves_the_data_directory_where_it_is(store: str) -> None:
    settings = config.load({"GATEWAY_STORE": store})

    assert not settings.embedded
    assert settings.data_dir == Path.cwd() / "data"


# --- pixel, token, sandbox -------------------------------------------------------------------


def test_a_token_without_a_pixel_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="FB_PIXEL_ID is missing") as raised:
        config.load({"FB_ACCESS_TOKEN": HIDDEN})
    assert HIDDEN not in str(raised.value)


def test_a_pixel_without_a_token_waits_and_is_never_sandboxed() -> None:
    pixel = pixel_of(config.load({"FB_PIXEL_ID": PIXEL}))

    assert not pixel.sandbox
    assert pixel.access_token is None
    assert pixel.lane == PIXEL


@pytest.mark.parametrize(
    ("environ", "lane"),
    [
        ({}, f"sandbox-{SANDBOX_PIXEL}"),
        ({"FB_PIXEL_ID": PIXEL, "FB_ACCESS_TOKEN": HIDDEN}, f"sandbox-{PIXEL}"),
        ({"FB_PIXEL_ID": PIXEL}, f"sandbox-{PIXEL}"),
        ({"FB_ACCESS_TOKEN": HIDDEN}, f"sandbox-{SANDBOX_PIXEL}"),
    ],
)
def test_a_forced_sandbox_never_has_the_real_token_and_a_lane_of_its_own(
    environ: dict[str, str], lane: str
) -> None:
    pixel = pixel_of(config.load({**environ, "GATEWAY_SANDBOX": "true"}))

    assert pixel.sandbox
    assert pixel.lane == lane
    assert pixel.access_token != HIDDEN


def test_no_repr_shows_a_secret() -> None:
    settings = config.load(
        {
            "FB_PIXEL_ID": PIXEL,
            "FB_ACCESS_TOKEN": HIDDEN,
            "GATEWAY_API_KEY": HIDDEN,
            "GATEWAY_ADMIN_PASSWORD": HIDDEN,
        }
    )

    assert HIDDEN not in repr(settings)
    assert HIDDEN not in repr([settings.api_key, {"x": settings.admin_password}])
    assert repr(Secret(HIDDEN)) == "Secret('***')"
    assert Secret(HIDDEN) == HIDDEN


def test_every_key_says_what_it_is_about_and_its_default_can_be_had() -> None:
    for key in KEYS:
        assert key.about
        assert key.variables[0] == f"GATEWAY_{key.name.upper()}"
        if key.default not in (None, ()):
            assert key.read(key.default) == key.default


def test_a_secret_is_only_seen_when_it_is_revealed() -> None:
    secret = Secret("s3cret")
    assert "s3cret" not in f"{secret} {secret!r} {secret!s}" + "%s" % secret + str(secret)  # noqa: UP031
    assert secret.reveal() == "s3cret"
    assert type(secret.reveal()) is str
