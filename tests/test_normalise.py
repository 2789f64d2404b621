"""What leaves for Meta: the vectors, their neighbours, and what holds for any text.

The vectors come from Meta's pages and from running Meta's libraries, never from our own output.
"""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import normalise
from gateway.normalise import Field, Locale

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HASH = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"
MD5 = "2b3b2b9ce842ab8b6a6c614cb1f9604b"
NOWHERE = Locale()


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    normalised: str | None
    sha256: str | None
    hashed: bool = True


class Alternate(msgspec.Struct, frozen=True, kw_only=True):
    normalised: str
    sha256: str


class Context(msgspec.Struct, frozen=True, kw_only=True):
    country: str | None = None
    default_country: str | None = None


class Vector(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    field: str
    input: str
    context: Context
    expected: Expected
    alternates: list[Alternate] = []


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    vectors: list[Vector]


VECTORS = msgspec.json.decode(
    (Path(__file__).parent / "vectors" / "normalise.json").read_bytes(), type=Vectors
).vectors


def locale_of(context: Context) -> Locale:
    return Locale(
        country=normalise.country(context.country or ""),
        default_country=normalise.country(context.default_country or ""),
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_vector(vector: Vector) -> None:
    expected = vector.expected
    if not expected.hashed:
        assert normalise.currency(vector.input) == expected.normalised
        return
    field, locale = Field(vector.field), locale_of(vector.context)
    documented = (expected.sha256,) if expected.sha256 else ()
    others = tuple(alternate.sha256 for alternate in vector.alternates)
    assert normalise.normalise(field, vector.input, locale) == expected.normalised
    assert normalise.hashes(field, vector.input, locale) == documented + others
    assert normalise.hashes(field, vector.input, locale, alternates=False) == documented


def test_vectors_are_all_read() -> None:
    assert len(VECTORS) == 112


def table(rows: str) -> list[tuple[str, str | None]]:
    """`input => form` a line; `drop` where nothing may be sent."""
    pairs = (line.strip().split(" => ") for line in rows.strip().splitlines())
    return [(given, None if form == "drop" else form) for given, form in pairs]


NEIGHBOURS = {
    (Field.EM, None): """
        mailto:John@X.com => john@x.com
        MAILTO:john@x.com?subject=hello => john@x.com
        jo\u200bhn@x.com => john@x.com
        \ufeffjohn@x.com => john@x.com
        john+tag@x.com => john+tag@x.com
        o'brien@x.ie => o'brien@x.ie
        a..b@docomo.ne.jp => a..b@docomo.ne.jp
        John.Smith@gmail.com => john.smith@gmail.com
        user@MÜNCHEN.de => user@münchen.de
        Jose\u0301@x.es => jose\u0301@x.es
        john @x.com => drop
        john smith@x.com => drop
        john@x .com => drop
        @x.com => drop
        john@ => drop
        john@x => drop
        john@.com => drop
        john@x. => drop
        john@x..com => drop
        john@x.com, => drop
        a@x.com,b@x.com => drop
        <john@x.com> => drop
        john.x.com => drop
        mailto: => drop
    """,
    (Field.PH, None): """
        16505551212 => 16505551212
        16505551212.0 => 16505551212
        (020) 7946 0958 => 2079460958
        +1 (650) 555-1212 => 16505551212
        ++1 650 555 1212 => 16505551212
        +0044 844 412 4653 => 448444124653
        (+44) 844 412 4653 => 448444124653
        0044 (0)20 7946 0958 => 442079460958
        44 (0)20 7946 0958 => 442079460958
        +44 020 7946 0958 => 442079460958
        +49(0)171 1234567 => 491711234567
        +39 06 1234 5678 => 390612345678
        +39 (0)6 1234 5678 => 390612345678
        +34 (0)91 123 45 67 => 34911234567
        +54 (0)11 1234-5678 => 541112345678
        \u202a+1 (650) 555‑1212\u202c => 16505551212
        tel:+1-650-555-1212;ext=9 => 16505551212
        +1 650 555 1212 extension 123 => 16505551212
        +1 650 555 1212 (ext. 12) => 16505551212
        +1 650 555 1212 #9 => 16505551212
        +1 650 555 1212 (mobile) => 16505551212
        Tel.: +1 650 555 1212 => 16505551212
        ٠٥٠١٢٣٤٥٦٧ => 501234567
        +999 123456789 => 999123456789
        +1 555 010 0100 => 15550100100
        1234567 => 1234567
        123456 => drop
        123456789012345 => 123456789012345
        1234567890123456 => drop
        1 800 FLOWERS => drop
        1-800-GO-FEDEX => drop
        1-800-555-TIPS => drop
        1.65056E+10 => drop
        1.6505551212e10 => drop
        +0000000000 => drop
        + => drop
        call me => drop
    """,
    (Field.PH, "us"): """
        16505551212 => 16505551212
        6505551212 => 16505551212
        650-555-1212 ext 4 => 16505551212
        011 44 844 412 4653 => 448444124653
        0044 844 412 4653 => 448444124653
        447911123456 => 447911123456
        +4915112345678 => 4915112345678
        5555551234 => 15555551234
        12345 => drop
        0000000 => drop
    """,
    (Field.PH, "de"): """
        0171/1234567 => 491711234567
        171 1234567 => 491711234567
        4915112345678 => 4915112345678
        015112345678 => 4915112345678
        16505551212 => 16505551212
        (0)171 1234567 => 491711234567
        12345 => drop
    """,
    (Field.PH, "it"): "06 1234 5678 => 390612345678\n393331234567 => 393331234567",
    (Field.PH, "ru"): "8 (912) 345-67-89 => 79123456789\n79123456789 => 79123456789",
    (Field.PH, "in"): "9198765432 => 919198765432\n919876543210 => 919876543210",
    (Field.PH, "gb"): "1-650-555-1212 => 16505551212\n020 7946 0958 => 442079460958",
    (Field.PH, "sa"): "٠٥٠١٢٣٤٥٦٧ => 966501234567",
    (Field.PH, "aq"): "0650 555 1212 => 6505551212",
    (Field.FN, None): """
        O’Brien => obrien
        Oʼbrien => obrien
        Mary\u00a0Ann => maryann
        Anne–Marie => annemarie
        e-\u0301 => é
        \u0300Ann => ann
        ❤️Mary => mary
        👨‍👩‍👧 Mary => mary
        प्रिया => प्रिया
        ガブリエル => ガブリエル
        佐々木 => 佐々木
        ΑΝΝΑΣ => αννας
        John3 => john3
        \u3164 => drop
        ... => drop
        😀 => drop
    """,
    (Field.GE, None): """
        Female => f
        woman => f
        Ms. => f
        Mrs => f
        ma'am => f
        W => f
        weiblich => f
        Frau => f
        femme => f
        Man => m
        Mr. => m
        männlich => m
        hombre => m
        x => drop
        non-binary => drop
        male/female => drop
        1 => drop
        unknown => drop
    """,
    (Field.DB, None): """
        16/2/1997 => 19970216
        13/2/1997 => 19970213
        2/13/1997 => 19970213
        16-02-1997 => 19970216
        02-03-1997 => 19970203
        16.2.1997 => 19970216
        16. 02. 1997 => 19970216
        02.16.1997 => 19970216
        1997/2/16 => 19970216
        1997.02.16 => 19970216
        1997年2月16日 => 19970216
        1997-02-16T00:00:00Z => 19970216
        1997-02-16 00:00:00 => 19970216
        02/16/1997 00:00 => 19970216
        ١٩٩٧-٠٢-١٦ => 19970216
        29.02.2000 => 20000229
        19000101 => 19000101
        29.02.1900 => drop
        19970230 => drop
        16021997 => drop
        18991231 => drop
        1997-13-01 => drop
        0000-00-00 => drop
        13/13/1997 => drop
        2/16/97 => drop
        16 Feb 1997 => drop
        1997-02 => drop
        1997 => drop
        855964800 => drop
    """,
    (Field.DOBD, None): "5 => 05\n31 => 31\n0 => drop\nx => drop\n005 => drop",
    (Field.DOBM, None): "2 => 02\n12 => 12\n0 => drop\nFeb => drop",
    (Field.DOBY, None): "1900 => 1900\n2100 => 2100\n1899 => drop\n2101 => drop\n97 => drop",
    (Field.CT, None): """
        New York => newyork
        Łódź => łódź
        Washington, D.C. => washingtondc
        L’Aquila => laquila
        Zu\u0308rich => zürich
        75015 Paris => paris
        दिल्ली => दिल्ली
        12345 => drop
    """,
    (Field.ST, None): """
        California => ca
        ca => ca
        Calif. => ca
        New York State => ny
        State of Texas => tx
        US-TX => tx
        Texas, USA => tx
        CA 94035 => ca
        CA-ON => on
        Washington => wa
        Washington, D.C. => dc
        West Virginia => wv
        Virginia => va
        Kansas => ks
        U.S. Virgin Islands => vi
        Guam => gu
        Armed Forces Pacific => ap
        AE => ae
        British Columbia => bc
        Que. => qc
        Newfoundland and Labrador => nl
        Île-du-Prince-Édouard => pe
        Bavaria => bavaria
        NSW => nsw
        06 => drop
    """,
    (Field.ST, "us"): "Ohio => oh\nOH => oh\n39 => drop",
    (Field.ST, "ca"): "Ontario => on\nBC => bc",
    (
        Field.ST,
        "de",
    ): "CA => ca\nBavaria => bavaria\nGeorgia => georgia\nBaden-Württemberg => badenwürttemberg",
    (Field.ST, "ge"): "Georgia => georgia",
    (Field.ZP, None): """
        94035-1234 => 94035
        94035 1234 => 94035
        75008 => 75008
        SW1A 1AA => sw1a1aa
        K1A 0B1 => k1a0b1
        01310-100 => 01310100
        〒１００－０００１ => 1000001
        12 => 12
        - => drop
        7 => drop
    """,
    (Field.ZP, "us"): "94035-1234 => 94035\n940351234 => 94035\nCA 94035 => 94035\n9403 => 9403",
    (Field.ZP, "pr"): "00901-1234 => 00901",
    (Field.ZP, "de"): "94035-1234 => 940351234",
    (Field.ZP, "nl"): "1012 AB => 1012ab",
    (Field.COUNTRY, None): """
        us => us
        U.S. => us
        the United States of America => us
        UK => gb
        GBR => gb
        England => gb
        AUT => at
        CHN => cn
        Österreich => at
        Osterreich => at
        Oesterreich => at
        ESPAÑA => es
        Espana => es
        Allemagne => de
        Alemania => de
        Federal Republic of Germany => de
        Россия => ru
        Russia => ru
        Russian Federation => ru
        Ελλάδα => gr
        日本 => jp
        中国 => cn
        대한민국 => kr
        ไทย => th
        TÜRKİYE => tr
        Turkey => tr
        Holland => nl
        The Netherlands => nl
        Czech Republic => cz
        Czechia => cz
        Korea, Republic of => kr
        Korea (the Republic of) => kr
        Korea, Democratic People's Republic of => kp
        Viet Nam => vn
        Iran, Islamic Republic of => ir
        Tanzania, United Republic of => tz
        Bosnia and Herzegovina => ba
        Saint Lucia => lc
        Saint Vincent and the Grenadines => vc
        Côte d’Ivoire => ci
        Ivory Coast => ci
        Democratic Republic of the Congo => cd
        Republic of the Congo => cg
        Palestine, State of => ps
        Myanmar => mm
        Burma => mm
        Hong Kong => hk
        Kosovo => xk
        Dominica => dm
        Dominican Republic => do
        Niger => ne
        Nigeria => ng
        XXX => drop
        ZZ => drop
        EU => drop
        AN => drop
        YUG => drop
        MI => drop
        840 => drop
        US1 => drop
        Narnia => drop
        Europe => drop
    """,
    (Field.EXTERNAL_ID, None): """
        USER 1 => user 1
        a\u200bb => a\u200bb
        a-b_c => a-b_c
        0 => 0
        -- => drop
    """,
    (Field.F5FIRST, None): "O'Bri Ann => obria\nÁlvaro => álvar",
    (Field.F5LAST, None): "van der Berg => vande\n! => drop",
    (Field.FI, None): "Éric => é\n’Éric => é",
}
ROWS = [
    pytest.param(
        field, where, given, form, id=f"{field}-{where}-{given.encode('ascii', 'replace')!r}"
    )
    for (field, where), rows in NEIGHBOURS.items()
    for given, form in table(rows)
]


@pytest.mark.parametrize(("field", "where", "given", "form"), ROWS)
def test_neighbour(field: Field, where: str | None, given: str, form: str | None) -> None:
    assert normalise.normalise(field, given, Locale(country=where)) == form


@pytest.mark.parametrize(
    ("field", "given", "where", "forms"),
    [
        (Field.CT, "São Paulo", None, ("sãopaulo", "sopaulo")),
        (Field.CT, "Łódź", None, ("łódź", "d")),
        (Field.CT, "15 Paris", None, ("paris",)),
        (Field.CT, "Москва", None, ("москва",)),
        (Field.LN, "O’Brien", None, ("obrien", "o’brien")),
        (Field.LN, "O'Brien", None, ("obrien",)),
        (Field.FN, "Mary\ufeff\u00a0Ann", None, ("maryann",)),
        (Field.ZP, " SW1A 1AA ", "gb", ("sw1a1aa", "sw1a 1aa")),
        (Field.ZP, "94035-1234", None, ("94035",)),
        (Field.ZP, "940351234", "us", ("94035", "940351234")),
        (Field.ST, "Nordrhein-Westfalen", "de", ("nordrheinwestfalen",)),
        (Field.EM, "user@münchen.de", None, ("user@münchen.de",)),
    ],
)
def test_alternate_is_the_form_of_the_parameter_builder(
    field: Field, given: str, where: str | None, forms: tuple[str, ...]
) -> None:
    locale = Locale(country=where)
    digests = tuple(normalise.digest(form) for form in forms)
    assert normalise.hashes(field, given, locale) == digests
    assert normalise.hashes(field, given, locale, alternates=False) == digests[:1]


def test_phone_prefers_the_events_country_to_the_sites() -> None:
    austrian = Locale(country="at", default_country="de")
    assert normalise.normalise(Field.PH, "0171 1234567", austrian) == "431711234567"


@pytest.mark.parametrize(
    ("field", "given", "form"), [(Field.ST, "Ohio", "oh"), (Field.ZP, "94035-1234", "94035")]
)
def test_the_sites_country_is_for_phones_only(field: Field, given: str, form: str) -> None:
    assert normalise.normalise(field, given, Locale(default_country="de")) == form


@pytest.mark.parametrize("field", Field)
@pytest.mark.parametrize(
    "given",
    [
        *["", "  ", "null", "NULL", " None ", "undefined", "NaN", "n/a", "N/A", "-"],
        *["(not set)", "[object Object]", "(none)", "null\u200b"],
    ],
)
def test_a_placeholder_is_nothing(field: Field, given: str) -> None:
    assert normalise.hashes(field, given, NOWHERE) == ()


@pytest.mark.parametrize("field", Field)
@pytest.mark.parametrize(
    "given",
    [
        HASH,
        HASH.upper(),
        f" {HASH}\n",
        f"{HASH}.AQQCAQMC",
        f"{HASH}.BA",
        f"{HASH}.AQYCAQMB.AQYCAQMB",
    ],
)
def test_a_sha256_passes_through(field: Field, given: str) -> None:
    assert normalise.already_hashed(given) == HASH
    assert normalise.hashes(field, given, NOWHERE) == (HASH,)
    assert normalise.normalise(field, given, NOWHERE) is None


@pytest.mark.parametrize("given", [MD5, HASH[:63], f"{HASH}a", f"{HASH}.abc", f"{HASH}.", "", "x"])
def test_nothing_else_counts_as_hashed(given: str) -> None:
    assert normalise.already_hashed(given) is None


@pytest.mark.parametrize("field", [field for field in Field if field is not Field.EXTERNAL_ID])
@pytest.mark.parametrize("given", [MD5, MD5.upper(), f"{MD5}.AQQCAQMC", "a" * 40])
def test_another_hash_is_nothing(field: Field, given: str) -> None:
    assert normalise.hashes(field, given, NOWHERE) == ()


def test_an_identifier_that_looks_like_md5_is_hashed() -> None:
    expected = (normalise.digest(MD5),)
    assert normalise.hashes(Field.EXTERNAL_ID, MD5.upper(), NOWHERE) == expected


def test_half_an_emoji_is_hashed_too() -> None:
    assert len(normalise.hashes(Field.EXTERNAL_ID, "a\ud83d", NOWHERE)) == 1


@pytest.mark.parametrize("nothing", ["", "null", "undefined"])
def test_the_hash_of_nothing_is_not_passed_on(nothing: str) -> None:
    assert normalise.hashes(Field.EM, normalise.digest(nothing), NOWHERE) == ()


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (" Eur ", "EUR"),
        ("jpy", "JPY"),
        ("DEM", "DEM"),
        ("XCG", "XCG"),
        ("XXX", None),
        ("XTS", None),
        ("BTC", None),
        ("€", None),
        ("US$", None),
        ("EURO", None),
        ("ab1", None),
        ("", None),
    ],
)
def test_currency(given: str, code: str | None) -> None:
    assert normalise.currency(given) == code


COUNTRIES = st.sampled_from([None, "us", "ca", "de", "it", "ru", "br", "gb", "aq", "xk"])
LOCALES = st.builds(Locale, country=COUNTRIES, default_country=COUNTRIES)
FIELDS = st.sampled_from(list(Field))
# Any text, lone surrogates too, and text that comes near to what the rules look for.
TEXTS = st.one_of(
    st.text(st.characters()),
    st.text("0123456789+-/. ()"),
    st.text("ab@.:,mailto ßİΣé\u0301\u200b"),
    st.from_regex(r"[+0]{0,2}\d{5,15}", fullmatch=True),
    st.from_regex(r"\d{1,4}[-/.]\d{1,4}[-/.]\d{1,4}", fullmatch=True),
    st.emails(),
)


@given(FIELDS, TEXTS, LOCALES)
def test_any_text_gives_at_most_three_distinct_hashes(
    field: Field, text: str, locale: Locale
) -> None:
    found = normalise.hashes(field, text, locale)
    assert len(found) == len(set(found)) <= 3
    assert all(re.fullmatch(r"[0-9a-f]{64}", one) for one in found)
    assert EMPTY not in found
    assert normalise.hashes(field, text, locale, alternates=False) == found[:1]


@given(FIELDS, TEXTS, LOCALES)
def test_space_around_does_not_matter(field: Field, text: str, locale: Locale) -> None:
    assert normalise.normalise(field, f" \t{text}\n", locale) == normalise.normalise(
        field, text, locale
    )
    assert normalise.hashes(field, f" \t{text}\n", locale) == normalise.hashes(field, text, locale)


@given(FIELDS, st.text("abcdefghijklmnopqrstuvwxyz0123456789@.-' "), LOCALES)
def test_case_does_not_matter(field: Field, text: str, locale: Locale) -> None:
    assert normalise.hashes(field, text.upper(), locale) == normalise.hashes(field, text, locale)


@given(FIELDS, TEXTS, LOCALES)
def test_a_hash_hashes_to_itself(field: Field, text: str, locale: Locale) -> None:
    for one in normalise.hashes(field, text, locale):
        assert normalise.hashes(field, one, locale) == (one,)


# Not here: a phone's national digits and a state's first letters may be read anew.
STABLE = [field for field in Field if field not in {Field.PH, Field.ST}]


@given(st.sampled_from(STABLE), TEXTS, LOCALES)
def test_a_normalised_value_stays(field: Field, text: str, locale: Locale) -> None:
    once = normalise.normalise(field, text, locale)
    if once is not None:
        assert normalise.normalise(field, once, locale) == once


@given(TEXTS)
def test_a_phone_of_no_country_stays(text: str) -> None:
    once = normalise.normalise(Field.PH, text, NOWHERE)
    if once is not None:
        assert re.fullmatch(r"[1-9]\d{6,14}", once)
        assert normalise.normalise(Field.PH, once, NOWHERE) == once


@given(st.text(st.characters()))
def test_the_helpers_take_any_text(text: str) -> None:
    assert normalise.country(text) is None or len(normalise.country(text) or "") == 2
    assert normalise.currency(text) is None or len(normalise.currency(text) or "") == 3
    assert normalise.already_hashed(text) is None
