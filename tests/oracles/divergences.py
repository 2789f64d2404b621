"""The written list: where Meta's libraries part from the gateway, and why the gateway is right.

A class is one fault of a library. Its docstring is the reason, its body puts that fault right, in a
given answer to a given input, and leaves every other answer alone. The predicate is thereby an
equation: a divergence is explained if their answer, with the faults on this list put right, is ours
to the last byte. So a class cannot cover for a bug of ours, and a fault that we came to share with
a library would show too. Nothing here is imported from the gateway; countries, states, currencies
and telephone plans come from pycountry and phonenumbers.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from . import rules
from .libraries import CURRENCY, FIELDS, AsIs, Case, Form, Library
from .rules import clean, compose, drop, letters

Mend = Callable[[Case, str | None], Form]
SDK, BUILDER = (Library.SDK,), (Library.BUILDER,)
BOTH = (Library.SDK, Library.BUILDER)
HASHED = " ".join(field for field in FIELDS if field != CURRENCY)
HASHED_PII = HASHED.replace(" external_id", "")


@dataclass(frozen=True, slots=True)
class Divergence:
    name: str
    fields: frozenset[str]
    libraries: tuple[Library, ...]
    reason: str
    mend: Callable[[Case, Form], Form]


DIVERGENCES: list[Divergence] = []


def explain(case: Case, library: Library, form: Form) -> tuple[Form, list[str]]:
    """The library's answer with every fault on the list put right, and the faults it had."""
    names = []
    for divergence in DIVERGENCES:
        if case.field in divergence.fields and library in divergence.libraries:
            mended = divergence.mend(case, form)
            if mended != form:
                names.append(divergence.name)
            form = mended
    return form, names


def hashes(
    fields: str, libraries: tuple[Library, ...]
) -> Callable[[Callable[[Case, Form], Form]], None]:
    """Registers a class that concerns values which are hashes, or which the library does not hash."""

    def register(mend: Callable[[Case, Form], Form]) -> None:
        name = mend.__name__.replace("_", "-")
        reason = " ".join((mend.__doc__ or "").split())
        DIVERGENCES.append(Divergence(name, frozenset(fields.split()), libraries, reason, mend))

    return register


def texts(fields: str, libraries: tuple[Library, ...]) -> Callable[[Mend], None]:
    """Registers a class that concerns texts the library hashes, or refuses."""

    def register(mend: Mend) -> None:
        def only_texts(case: Case, form: Form) -> Form:
            return form if isinstance(form, AsIs) or rules.is_settled(case) else mend(case, form)

        only_texts.__name__, only_texts.__doc__ = mend.__name__, mend.__doc__
        hashes(fields, libraries)(only_texts)

    return register


# --- every field: values that are nothing, or hashes already ---


@hashes(" ".join(FIELDS), BOTH)
def placeholder(case: Case, form: Form) -> Form:
    """Contract 3.3: treat placeholder words (null, undefined, n/a, (not set)) as absent; the
    libraries hash them, and the builder even makes a country and a state of them.
    """
    return None if rules.is_placeholder(case.value) else form


@hashes(" ".join(FIELDS), BOTH)
def neither_letter_nor_digit(case: Case, form: Form) -> Form:
    """Contract 3.3: never emit the hash of nothing; a value without a letter or digit says nothing."""
    return form if any(c.isalnum() for c in clean(case.value)) else None


@hashes(HASHED, BOTH)
def hash_with_appendix(case: Case, form: Form) -> Form:
    """Contract 3.3: accept 64hex.appendix, repeated too, and strip the appendix (5.4); the SDK hashes
    it anew, and so does the builder where there are two appendices.
    """
    match = re.fullmatch(
        r"([0-9a-fA-F]{64})(\.(?:[-\w]{8}|[-\w]{2}))+", case.value.strip(), re.ASCII
    )
    return AsIs(match[1].lower()) if match else form


@hashes(HASHED, BOTH)
def hash_of_nothing(case: Case, form: Form) -> Form:
    """Contract 3.3: never emit the hash of the empty string, nor of a placeholder, whoever made it."""
    nothing = {sha256(text.encode()).hexdigest() for text in ("", *rules.PLACEHOLDERS)}
    return None if isinstance(form, AsIs) and form.text.strip().lower() in nothing else form


@hashes(HASHED_PII, BOTH)
def not_sha256(case: Case, form: Form) -> Form:
    """Contract 3.3: Meta's page names SHA-256 only; the libraries pass MD5 on and hash SHA-1 and
    SHA-512 a second time.
    """
    return None if rules.is_other_hash(clean(case.value)) else form


@hashes(HASHED, BOTH)
def hash_behind_something_invisible(case: Case, form: Form) -> Form:
    """Documented decision: only white space may surround a hash; one with a zero-width character is
    neither passed on nor hashed again.
    """
    bare = rules.is_sha256(clean(case.value)) and not rules.is_sha256(case.value.strip())
    return None if bare else form


@hashes("external_id", SDK)
def identifier_in_clear(case: Case, form: Form) -> Form:
    """Contract 3.4: hashing is recommended and must be of the same string as the browser's, trimmed
    and lower-case; the SDK sends what it is given.
    """
    if not isinstance(form, AsIs) or form.text != case.value:
        return form
    text = case.value.strip().lower()
    return AsIs(text) if rules.is_sha256(text) else text


@hashes("external_id", BUILDER)
def identifier_that_looks_like_md5(case: Case, form: Form) -> Form:
    """Contract 3.3: 32 hex digits are not a hash in external_id (a UUID without dashes is none)."""
    if isinstance(form, AsIs) and rules.is_other_hash(form.text):
        return case.value.strip().lower()
    return form


@texts("external_id", BUILDER)
def identifier_with_space_inside(case: Case, form: str | None) -> Form:
    """Contract 3.4: trimmed and lower-case, nothing more; the builder also removes inner space."""
    return case.value.strip().lower() if re.search(r"[\s\ufeff\x1c-\x1f]", case.value) else form


# --- text of any kind ---


@texts("em fn ln ct st zp", SDK)
def half_an_emoji(case: Case, form: str | None) -> Form:
    """A lone surrogate, left by a length limit, must not lose the rest; the SDK cannot encode it."""
    lone = any(unicodedata.category(c) == "Cs" for c in case.value)
    return rules.lowered(case.value) if form is None and lone else form


@texts("em fn ln zp", BOTH)
def invisible(case: Case, form: str | None) -> Form:
    """Contract 3.3: drop zero-width and direction characters; the libraries hash them, or find no
    address behind them.
    """
    address = rules.lowered(clean(case.value))
    if form is None and case.field == "em" and clean(case.value) != case.value.strip():
        return address if rules.is_address(address) else None
    return form and drop("Cf", form).strip()


@texts("em", BOTH)
def mailto(case: Case, form: str | None) -> Form:
    """Contract 3.3, em: a link is not the address; the SDK keeps `mailto:`, the builder refuses it."""
    if not clean(case.value).lower().startswith("mailto:"):
        return form
    address = rules.lowered(clean(case.value))[len("mailto:") :].split("?")[0].strip()
    return address if rules.is_address(address) else None


@texts("em", SDK)
def no_address(case: Case, form: str | None) -> Form:
    """Contract 3.3, em: reject inner spaces, two @ and what is no domain; the SDK wants no more than
    something@something.something.
    """
    return form if form is not None and rules.is_address(form) else None


@texts("em", BUILDER)
def address_the_builder_refuses(case: Case, form: str | None) -> Form:
    """Contract 3.3, em: keep addresses in UTF-8, and local parts and domains as people really have
    them (`a..b@docomo.ne.jp`); the builder's pattern is ASCII and RFC 2822's.
    """
    address = rules.lowered(clean(case.value))
    return address if form is None and rules.is_address(address) else form


@texts("em", BUILDER)
def colon_in_address(case: Case, form: str | None) -> Form:
    """A slip in the builder's pattern, `(:?` for `(?:`, lets a colon into the local part."""
    return None if form is not None and ":" in form else form


# --- names, cities, states: letters ---


@texts("ct", BUILDER)
def city_in_ascii_only(case: Case, form: str | None) -> Form:
    """Meta's page, city: UTF-8; the builder cuts `zürich` to `zrich` (ours as the alternate) and
    drops a city in any other script.
    """
    spoken = letters(case.value, "LM")
    return form if spoken.isascii() else spoken


@texts("ct", BUILDER)
def city_with_digits(case: Case, form: str | None) -> Form:
    """Meta's page, city: no special characters; the builder keeps digits and drops what begins with
    one (`75015 Paris`).
    """
    return letters(case.value, "LM") if re.search(r"[0-9]", case.value) else form


@texts("fn ln ct st", BOTH)
def punctuation(case: Case, form: str | None) -> Form:
    """Meta's page, names, city, state: no punctuation; the SDK keeps it in names and commas and
    apostrophes everywhere, the builder keeps what is not ASCII (`o’brien`).
    """
    return form and drop("PS", re.sub(r"[\u02b9-\u02bd]", "", form))


@texts("fn ln ct st", BOTH)
def space_or_control(case: Case, form: str | None) -> Form:
    """Meta's page, city, state: no spaces; in names the builder drops them, which is our decision too
    (`maryann`). The SDK keeps the space inside a name, and both keep control characters.
    """
    return form and drop("ZC", form)


@texts("ct st", SDK)
def other_numbers(case: Case, form: str | None) -> Form:
    """Meta's page, city, state: letters; the SDK takes out 0 to 9 and leaves ², Ⅷ and ٣."""
    return form and drop("N", form)


@texts("fn ln ct st", BOTH)
def letters_that_show_nothing(case: Case, form: str | None) -> Form:
    """Variation selectors, fillers and frames are letters or marks by category, not to the eye."""
    return form and rules.FILLERS.sub("", form)


@texts("fn ln ct st", BOTH)
def not_composed(case: Case, form: str | None) -> Form:
    """Contract 3.3, names: NFC first; the libraries give `é` typed on a Mac another hash."""
    return form and compose(form)


@texts("ge", BOTH)
def gender_word(case: Case, form: str | None) -> Form:
    """Contract 3.3, ge: map words of our languages, else drop; the SDK wants its enum (and hashes
    any text its Normalize is given), the builder knows English without punctuation.
    """
    return rules.GENDERS.get(letters(case.value, "LMN"))


@texts("st", BUILDER)
def state_cut_to_two_letters(case: Case, form: str | None) -> Form:
    """Meta's page, state: outside the United States the whole name; the builder truncates to two
    ASCII letters, looks for a state anywhere in the text and knows no territories.
    """
    spoken = letters(case.value, "LM")
    return form if form == rules.state(spoken, case) else spoken


@texts("st", BOTH)
def state_name(case: Case, form: str | None) -> Form:
    """Meta's page, state: the two-letter code; the SDK keeps a state's name."""
    return form and rules.state(form, case)


# --- postcodes ---


@texts("zp", BOTH)
def postcode_cut_at_hyphen(case: Case, form: str | None) -> Form:
    """Meta's page, zip: no dash; both libraries lose what follows it (`01310-100`, `100-0001`)."""
    return rules.lowered(clean(case.value)) if "-" in case.value else form


@texts("zp", BOTH)
def postcode_in_wide_letters(case: Case, form: str | None) -> Form:
    """Documented decision: NFKC, so that `１００` typed in Japan is 100."""
    if form is None and not clean(case.value).isascii():  # one character that is several
        form = rules.lowered(clean(case.value))
    return form and unicodedata.normalize("NFKC", form).lower()


@texts("zp", BOTH)
def postcode_with_space_or_punctuation(case: Case, form: str | None) -> Form:
    """Meta's page, zip: no spaces; the builder keeps the one inside (`m1 1ae`), and both libraries
    keep every sign but the hyphen.
    """
    return form and compose(
        rules.FILLERS.sub("", drop("PSZC", re.sub(r"[\u02b9-\u02bd]", "", form)))
    )


@texts("fn ln ct st zp", BOTH)
def final_sigma(case: Case, form: str | None) -> Form:
    """Lower-casing follows the letters that are sent, not the punctuation that was dropped."""
    return rules.lowered_again(form, case.value) if form and set(form) & set("σς") else form


@texts("zp", BOTH)
def zip_plus_4(case: Case, form: str | None) -> Form:
    """Meta's page, zip: in the United States the first five digits, whatever stands between."""
    return form and rules.first_five(form, case)


@texts("zp", BOTH)
def postcode_of_one_character(case: Case, form: str | None) -> Form:
    """Documented decision, and the builder's: one character is no postcode."""
    return None if form is not None and len(form) < 2 else form


# --- date of birth ---


@texts("db", SDK)
def date_as_typed(case: Case, form: str | None) -> Form:
    """Meta's page, date of birth: YYYYMMDD; the SDK hashes what was typed."""
    return rules.birth_date(case.value)


@texts("db", BUILDER)
def day_first_with_dots(case: Case, form: str | None) -> Form:
    """Documented decision: dates with dots are D.M.Y; the builder reads 2.3.1997 as February."""
    spoken = rules.birth_date(case.value)
    return spoken if form and re.match(r"\d\d?\s*\.\s*\d\d?\s*[-/.]", clean(case.value)) else form


@texts("db", BUILDER)
def date_with_something_invisible(case: Case, form: str | None) -> Form:
    """Contract 3.3: drop zero-width characters; the builder breaks a number in two there."""
    inside = any(unicodedata.category(c) == "Cf" for c in case.value)
    return rules.birth_date(case.value) if inside else form


@texts("db", BUILDER)
def no_birthday(case: Case, form: str | None) -> Form:
    """Contract 3.3, db: validated against the calendar, years 1900 to 2100; the builder lets 30
    February, 18500101 and any eight digits pass.
    """
    return form if form is None or rules.is_birthday(form) else None


@texts("db", BUILDER)
def date_among_other_text(case: Case, form: str | None) -> Form:
    """Documented decision: a date in a known order and nothing else; the builder takes the first
    three numbers of any text, with the year wherever it finds one.
    """
    return form if form is None or rules.birth_date(case.value) else None


@texts("db", BUILDER)
def date_the_builder_cannot_read(case: Case, form: str | None) -> Form:
    """Documented decision: digits of every script, and years to 2100, for the gateway has no clock."""
    spoken = rules.birth_date(case.value)
    odd = not case.value.isascii() or (spoken or "") > "2026"
    return spoken if form is None and odd else form


# --- country and currency ---


@texts("country", SDK)
def country_that_is_no_code(case: Case, form: str | None) -> Form:
    """Contract 3.3, country: a real ISO look-up by alpha-2, alpha-3 and name; the SDK raises."""
    return rules.country(case.value) if form is None else form


@texts("country", SDK)
def country_from_scraps(case: Case, form: str | None) -> Form:
    """Contract 3.3, country: else drop; the SDK takes the a to z out of any text (`us1`, `Čad`)."""
    odd = re.search(r"[^a-z\W_]", case.value.lower())
    return rules.country(case.value) if form and odd else form


@texts("country", BUILDER)
def country_of_first_two_letters(case: Case, form: str | None) -> Form:
    """Contract 3.3, country: a real ISO look-up, else drop; the builder sends the first two ASCII
    letters of what it does not know (`Great Britain` is Greece) and finds `niger` in `nigeria`.
    """
    return rules.country(case.value)


@hashes(CURRENCY, SDK)
def currency_in_lower_case(case: Case, form: Form) -> Form:
    """Contract 3.3, currency: ISO 4217 is written in capitals; Graph takes either."""
    return form.upper() if isinstance(form, str) else form


@hashes(CURRENCY, SDK)
def currency_from_scraps(case: Case, form: Form) -> Form:
    """Documented decision: an ISO code and space around it; the SDK takes the a to z out of any text."""
    return form if form == case.value.strip().upper() else None


@hashes(CURRENCY, SDK)
def no_currency(case: Case, form: Form) -> Form:
    """Documented decision: a code that ISO 4217 has or had; the SDK takes any three letters."""
    return form if isinstance(form, str) and rules.is_money(form) else None


# --- telephone numbers ---


@texts("ph", SDK)
def number_the_sdk_refuses(case: Case, form: str | None) -> Form:
    """Meta's page, phone: remove symbols, letters and leading zeros; the SDK raises on any sign but
    space, hyphen, plus and parentheses, and with it loses the whole batch.
    """
    return form if form is not None else rules.page_digits(case.value)


@texts("ph", BOTH)
def digits_of_another_script(case: Case, form: str | None) -> Form:
    """Contract 3.3, ph: map Unicode digits; the SDK hashes them as they are, the builder drops them."""
    return form if clean(case.value).isascii() else rules.page_digits(case.value)


@texts("ph", BOTH)
def extension(case: Case, form: str | None) -> Form:
    """Contract 3.3, ph: strip extensions; the builder appends them to the number."""
    bare = rules.without_extension(case.value)
    return form if bare is None else rules.page_digits(bare)


@texts("ph", BOTH)
def number_printed_as_float(case: Case, form: str | None) -> Form:
    """Documented decision: `16505551212.0` is the integer that a JSON library printed."""
    match = re.fullmatch(r"0*([1-9]\d{6,})\.0", rules.bare_number(case.value))
    return match[1] if match else form


@texts("ph", BOTH)
def spelled_number(case: Case, form: str | None) -> Form:
    """Contract 3.3, ph: `1-800-FLOWERS` is not the number 1800, nor 1.65E+10 the number 16510."""
    return None if form is not None and rules.is_spelled(case.value) else form


@texts("ph", BOTH)
def trunk_zero_abroad(case: Case, form: str | None) -> Form:
    """Contract 3.3, ph: strip "(0)" and the 0 after a country code, which is not dialled from
    abroad, except in Italy, where it is.
    """
    return form and rules.abroad(form, case)


@texts("ph", BOTH)
def country_code_missing(case: Case, form: str | None) -> Form:
    """Meta's page, phone: must contain the country code, also for national numbers; the libraries
    know no country and add none.
    """
    return form and rules.at_home(form, case)


@texts("ph", BOTH)
def number_too_short_or_long(case: Case, form: str | None) -> Form:
    """Contract 3.3, ph: 7 to 15 digits; the builder takes any, the SDK any number over six."""
    return form if form is not None and 7 <= len(form) <= 15 else None


# --- known faults of ours, to be struck off with their repair ---


@hashes(CURRENCY, SDK)
def ours_lacks_xad(case: Case, form: Form) -> Form:
    """XAD entered ISO 4217 in 2025; Babel's table has not got it yet."""
    return None if form == "XAD" else form


# --- what is left after all this ---


@texts(HASHED, BOTH)
def nothing_left(case: Case, form: str | None) -> Form:
    """Contract 3.3: never emit the hash of ""; the SDK does for a numeric city or state."""
    return form or None
