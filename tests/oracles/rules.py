"""What `divergences` puts in place of a library's fault: small rules of their own, told from
Meta's page and our decisions, sharing no code with the gateway.
"""

import re
import unicodedata
from datetime import datetime
from functools import cache
from gettext import translation

import phonenumbers
import pycountry

from .libraries import HERE, Case


def split(by: str, text: str) -> list[str]:
    return text.split(by)


PLACEHOLDERS = split(
    ";", "null;none;undefined;nan;n/a;-;(not set);[object object];(null);(none);(not provided)"
)
FILLERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u20dd-\u20e4\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def clean(value: str) -> str:
    """Without format characters (zero width, direction), then without space around."""
    return drop("Cf", value).strip()


def drop(categories: str, text: str) -> str:
    """Without the characters of these categories, single letters (`PS`) or one pair (`Cf`)."""
    two = len(categories) == 2 and categories[1].islower()
    kinds = {categories} if two else set(categories)
    return "".join(
        c
        for c in text
        if unicodedata.category(c) not in kinds and unicodedata.category(c)[0] not in kinds
    )


def compose(text: str) -> str:
    """NFC, and no mark without a letter under it."""
    while text and unicodedata.category(text[0])[0] == "M":
        text = text[1:]
    return unicodedata.normalize("NFC", text)


def lowered(text: str) -> str:
    return text.strip().lower()


def letters(value: str, kinds: str) -> str:
    """Lower-case, composed characters of these kinds, of which L are letters, M marks, N numbers."""
    others = "".join(kind for kind in "LMNPSZC" if kind not in kinds)
    kept = drop(others, FILLERS.sub("", re.sub("[\u02b9-\u02bd]", "", value)))
    return compose(kept.lower())


def lowered_again(form: str, value: str) -> str:
    """The form as the value's letters are in lower case, if only a final sigma tells them apart."""
    wide = unicodedata.normalize("NFKC", value)
    for again in (letters(value, "LMN"), letters(value, "LM"), letters(wide, "LMN")):
        if again.replace("ς", "σ") == form.replace("ς", "σ"):
            return again
    return form


def is_placeholder(value: str) -> bool:
    return clean(value).casefold() in PLACEHOLDERS


def is_sha256(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9a-fA-F]{64}(\.([-\w]{8}|[-\w]{2}))*", text, re.ASCII))


def is_other_hash(text: str) -> bool:
    """MD5, SHA-1, SHA-384 or SHA-512 by its length, perhaps with an appendix."""
    head, _, tail = text.partition(".")
    hexed = len(head) in {32, 40, 96, 128} and not set(head.lower()) - set("0123456789abcdef")
    return hexed and ("." not in text or bool(re.fullmatch(r"[-\w]{2,8}", tail, re.ASCII)))


def is_settled(case: Case) -> bool:
    """Whether the classes about hashes and empty values have spoken already."""
    text = clean(case.value)
    if is_placeholder(case.value) or not any(c.isalnum() for c in text) or is_sha256(text):
        return True
    return is_other_hash(text) and case.field != "external_id"


def is_address(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    labels = domain.split(".")
    forbidden = set('@<>()[],;:"\\')
    bad_in_label = set("!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~")
    if not at or not local or len(labels) < 2 or not all(labels):
        return False
    if any(c.isspace() or ord(c) < 32 or ord(c) == 127 for c in text):
        return False
    return not set(local) & forbidden and not set(domain) & bad_in_label


_MALE = "m male man boy mr he his himself sir lord king dude son männlich herr homme monsieur"
_MALE += " hombre varón masculino homem uomo mężczyzna мужской 男 男性 남성"
_FEMALE = "f female woman girl mrs ms miss she hers herself madam maam lady queen gal daughter"
_FEMALE += " weiblich w frau femme mme mujer feminino femenino mulher donna kobieta vrouw женский"
_FEMALE += " 女 女性 여성"
GENDERS = dict.fromkeys(_MALE.split(), "m") | dict.fromkeys(_FEMALE.split(), "f")


def _words(text: str) -> list[str]:
    bare = unicodedata.normalize("NFKD", text.casefold())
    spaced = "".join(c if unicodedata.category(c)[0] == "L" else " " for c in drop("Mn", bare))
    return spaced.split()


def _spoken(text: str, noise: str) -> str:
    return "".join(word for word in _words(text) if word not in noise.split())


def subdivisions() -> list[tuple[str, str]]:
    """ISO 3166-2 codes and names of the states of the US and the provinces of Canada."""
    parts = sorted((str(part.code), str(part.name)) for part in pycountry.subdivisions)
    return [(code, name) for code, name in parts if code[:3] in {"US-", "CA-"}]


@cache
def _states() -> dict[str, str]:
    names: dict[str, str] = {}
    for code, name in subdivisions():
        short = code[3:].lower()
        names |= dict.fromkeys((_spoken(name, "of the"), _spoken(name, ""), short), short)
    more = "calif=ca penn=pa mass=ma tex=tx fla=fl que=qc ont=on washingtondc=dc"
    more += " usvirginislands=vi colombiebritannique=bc nouvelleecosse=ns ileduprinceedouard=pe"
    more += " armedforcespacific=ap terreneuveetlabrador=nl aa=aa ae=ae ap=ap fm=fm mh=mh pw=pw"
    return names | dict(pair.split("=", 1) for pair in more.split())


def state(form: str, case: Case) -> str:
    """The code of a US or Canadian state named in the value, if it may be one; else the form."""
    if case.country not in {None, "us", "ca"}:
        return form
    noise = "us usa canada state province commonwealth of the"
    text = re.sub(r"(?i)^ca-", "", clean(case.value))
    names = (
        _spoken(clean(case.value), ""),
        _spoken(clean(case.value), noise),
        _spoken(text, noise),
    )
    return next((_states()[name] for name in names if name in _states()), form)


def first_five(form: str, case: Case) -> str:
    """The ZIP code in a form, in the United States and its territories, or if it looks like ZIP+4."""
    plus_4 = re.fullmatch(r"\d{5}\W\d{4}", unicodedata.normalize("NFKC", clean(case.value)))
    american = case.country in {"us", "pr", "gu", "vi", "as", "mp"}
    if not american and not (case.country is None and plus_4):
        return form
    digits = re.search(r"\d{5}", form)
    return digits.group() if digits else form[:5]


def birth_date(value: str) -> str | None:
    """YYYYMMDD of a date in an order people write, by the standard library's own parser."""
    text = clean(value)
    if re.fullmatch(r"\d{8}", text):
        return _parsed(text, "%Y%m%d")
    text = re.sub(r"(?<=[\d日.])[Tt\s]\s*\d\d?:.*$", "", text)  # a time of day
    text = re.sub(r"(?<=\d)[日.]$", "", text)
    text = re.sub(r"\s*([-/.年月])\s*", r"\1", text)
    text = re.sub(r"\s+|[年月]", "-", text)
    dashed = re.sub(r"[/.]", "-", text)
    if re.match(r"\d{4}-", dashed):
        return _parsed(dashed, "%Y-%m-%d")
    orders = ["%m-%d-%Y", "%d-%m-%Y"]
    if re.match(r"\d+\.", text):
        orders.reverse()
    return next((found for order in orders if (found := _parsed(dashed, order))), None)


def _parsed(text: str, order: str) -> str | None:
    try:
        found = datetime.strptime(text, order)
    except ValueError:
        return None
    return f"{found:%Y%m%d}" if is_birthday(f"{found:%Y%m%d}") else None


def is_birthday(form: str) -> bool:
    try:
        return 1900 <= datetime.strptime(form, "%Y%m%d").year <= 2100
    except ValueError:
        return False


LANGUAGES = split(" ", "de fr es it pt pl nl sv ru ja zh_CN")
_NOISE = "and the of"
# Everyday names that ISO's own list does not have.
_EVERYDAY = (
    "uk=gb us=us usamerica=us unitedstatesamerica=us america=us england=gb scotland=gb holland=nl el=gr"
    " greatbritain=gb turkey=tr ivorycoast=ci burma=mm russia=ru southkorea=kr northkorea=kp dprk=kp"
    " czechrepublic=cz macau=mo swaziland=sz capeverde=cv uae=ae xk=xk kosovo=xk oesterreich=at eeuu=us"
    " 日本国=jp 中国=cn 日本=jp 대한민국=kr ไทย=th россия=ru ελλαδα=gr україна=ua مصر=eg ישראל=il turkiye=tr"
    " cotedivoire=ci"
)


def countries_in(language: str) -> list[str]:
    """Names of countries as pycountry writes them in a language, but for ISO's formal ones."""
    talk = translation("iso3166-1", pycountry.LOCALES_DIR, [language])
    plain = (entry.name for entry in pycountry.countries if not re.search(r"[,(]", entry.name))
    return [name for name in map(talk.gettext, plain) if not re.search(r"[,(/]| - ", name)]


@cache
def unknown_countries() -> frozenset[str]:
    """The names in `unknown_countries.txt`."""
    text = (HERE / "unknown_countries.txt").read_text("utf-8")
    lines = [line.partition(": ")[2] for line in text.splitlines() if not line.startswith("#")]
    return frozenset(name for line in lines for name in line.split("; "))


@cache
def _countries() -> dict[str, str]:
    names: dict[str, set[str]] = {}
    talks = [translation("iso3166-1", pycountry.LOCALES_DIR, [code]) for code in LANGUAGES]
    for entry in pycountry.countries:
        english = (entry.name, getattr(entry, "common_name", entry.name))
        for name in (*english, *(talk.gettext(entry.name) for talk in talks)):
            names.setdefault(_spoken(name, _NOISE), set()).add(entry.alpha_2.lower())
    known = {name: codes.pop() for name, codes in names.items() if len(codes) == 1 and name}
    for name in unknown_countries():
        known.pop(_spoken(name, _NOISE), None)
    for entry in pycountry.countries:
        known |= dict.fromkeys(
            (entry.alpha_2.lower(), entry.alpha_3.lower()), entry.alpha_2.lower()
        )
    pairs = (pair.split("=") for pair in _EVERYDAY.split())
    return known | {_spoken(name, _NOISE): code for name, code in pairs}


def country(value: str) -> str | None:
    """ISO 3166-1 alpha-2 of a code or name, by pycountry's tables in twelve languages."""
    if any(c.isdigit() for c in value):
        return None
    spoken = (_spoken(clean(value), ""), _spoken(clean(value), _NOISE))
    return next((_countries()[name] for name in spoken if name in _countries()), None)


# Codes that CLDR keeps: nearly all were ISO 4217 once.
_HISTORIC = split(
    " ",
    "ADP AFA ALK ANG AOK AON AOR ARA ARL ARM ARP ATS AZM BAD BAN BEC BEF BEL BGL BGM BGN BGO"
    " BOL BOP BRB BRC BRE BRN BRR BRZ BUK BYB BYR CLE CNH CNX CSD CSK CUC CYP DDM DEM ECS ECV"
    " EEK ESA ESB ESP FIM FRF GEK GHC GNS GQE GRD GWE GWP HRD HRK IEP ILP ILR ISJ ITL KRH KRO"
    " LTL LTT LUC LUF LUL LVL LVR MAF MCF MDC MGF MKN MLF MRO MTL MTP MVP MXP MZE MZM NIC NLG"
    " PEI PES PLZ PTE RHD ROL RUR SDD SDP SIT SKK SLL SRG STD SUR TJR TMM TPE TRL UAK UGS USS"
    " UYP VEB VEF VNN XEU XFO XFU XRE YDD YUD YUM YUN YUR ZAL ZMK ZRN ZRZ ZWD ZWL ZWR",
)


def is_money(code: str) -> bool:
    """ISO 4217, in use or historic, but not its `none` and `test`."""
    known = pycountry.currencies.get(alpha_3=code) is not None
    return (known or code in _HISTORIC) and code not in {"XXX", "XTS"}


def _plain(value: str) -> str:
    """Clean, lower-case, with the digits 0 to 9 for those of every script."""
    text = unicodedata.normalize("NFKC", clean(value)).lower()
    return "".join(str(int(c)) if c.isdecimal() else c for c in text)


def _digits(text: str) -> str:
    return "".join(c for c in text if c in "0123456789")


def page_digits(value: str) -> str:
    """Meta's page to the letter: no symbols, letters or leading zeros; digits of any script."""
    return _digits(_plain(value)).lstrip("0")


def without_extension(value: str) -> str | None:
    """The number before its extension, or None if it has none."""
    text = _plain(value)
    match = re.search(r";|(?<=[\d)])[\s,(]*(extension|ext|x|#)[.\s]*\d{1,7}[\s)]*$", text)
    return text[: match.start()] if match else None


def bare_number(value: str) -> str:
    """Without the label before and the extension after."""
    return re.sub(r"^(tel|mobile|phone)[.:\s]*", "", without_extension(value) or _plain(value))


def is_spelled(value: str) -> bool:
    """Whether letters stand for digits that are not there."""
    text = bare_number(value)
    few = len(_digits(text)) < 9
    return (few and any(c.isalpha() for c in text)) or bool(re.fullmatch(r"[\d.]+e\+?\d+", text))


def _is_abroad(text: str) -> bool:
    marked = re.match(r"\D*\+", text) or re.search(r"\d\D*\(0\)", text)
    return bool(marked) or _digits(text).startswith("00")


def abroad(form: str, case: Case) -> str:
    """A number with its country code, without the trunk prefix, if its plan then knows it."""
    text = bare_number(case.value)
    if not _is_abroad(text):
        return form
    _, zero, tail = text.partition("(0)")
    rest = _digits(tail)
    without = form.removesuffix("0" + rest) + rest if zero and form.endswith("0" + rest) else form
    for candidate in (without, form):
        number, valid = _e164(f"+{candidate}", None)
        if valid:
            return number
    return _e164(f"+{without}", None)[0]


def at_home(form: str, case: Case) -> str | None:
    """A number as dialled in the event's country, with the country code put before it."""
    text = bare_number(case.value)
    region = (case.country or case.default_country or "").upper()
    if _is_abroad(text) or region not in phonenumbers.SUPPORTED_REGIONS:
        return form
    digits = _digits(re.sub(r"^(\d{7,})\.0$", r"\1", text))
    national, fits = _e164(digits, region)
    with_code, complete = _e164(f"+{digits}", None)
    plan = phonenumbers.PhoneMetadata.metadata_for_region(region)
    if complete and not digits.startswith("0") and plan is not None:
        own = digits.startswith(str(phonenumbers.country_code_for_region(region)))
        trunk = plan.national_prefix
        if not fits or (own and trunk and not digits.startswith(trunk)):
            return with_code
    return national if fits or len(digits) >= 7 else None


def _e164(text: str, region: str | None) -> tuple[str, bool]:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return text.lstrip("+"), False
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return e164[1:], phonenumbers.is_valid_number(number)
