"""Meta's rule for each customer field, then SHA-256. Pure: text and a country in, text out.

Where Meta's page and Meta's libraries disagree the page wins and the other form is an alternate.
Limits: a year of birth is 1900 to 2100, for there is no clock here; a date that could be D/M or
M/D is read as Meta's own code reads it, unless it has dots; the first country that is not an ISO
code loads Babel's tables (about 0.3 s, once).
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from typing import assert_never

import babel
import phonenumbers
from babel import localedata
from babel.core import get_global
from babel.numbers import list_currencies


class Field(StrEnum):
    """The keys of `user_data` that travel hashed, by Meta's names."""

    EM = "em"
    PH = "ph"
    FN = "fn"
    LN = "ln"
    GE = "ge"
    DB = "db"
    CT = "ct"
    ST = "st"
    ZP = "zp"
    COUNTRY = "country"
    EXTERNAL_ID = "external_id"
    F5FIRST = "f5first"
    F5LAST = "f5last"
    FI = "fi"
    DOBD = "dobd"
    DOBM = "dobm"
    DOBY = "doby"


@dataclass(frozen=True, slots=True)
class Locale:
    """Where a value comes from, in the form `country` returns.

    `country` is the event's own and decides phone, state and postcode. `default_country` is the
    site's and stands in for phones only: they alone are worthless without one.
    """

    country: str | None = None
    default_country: str | None = None


def digest(text: str) -> str:
    """Lower-case hex SHA-256 of the UTF-8 bytes (Meta, Customer Information Parameters)."""
    # surrogatepass: half an emoji, left by somebody's length limit, must not raise.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# What templates, forms and analytics exports print where there is nothing.
_PLACEHOLDERS = {"null", "none", "undefined", "nan", "n/a", "-", "(not set)", "[object object]"}
_PLACEHOLDERS |= {"(null)", "(none)", "(not provided)"}
_HASHES_OF_NOTHING = frozenset(digest(text) for text in ("", *_PLACEHOLDERS))

_SHA256 = re.compile(r"([0-9a-f]{64})(?:\.(?:[\w-]{8}|[\w-]{2}))*", re.ASCII | re.IGNORECASE)
_OTHER_HASH = re.compile(  # MD5, SHA-1, SHA-384, SHA-512
    r"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{96}|[0-9a-f]{128})(?:\.[\w-]{2,8})?",
    re.ASCII | re.IGNORECASE,
)


def already_hashed(value: str) -> str | None:
    """The 64 lower-case hex digits, if `value` is a SHA-256 in any case and with space around.

    The appendix of Meta's parameter builder (`.` and 2 or 8 characters, at times repeated) is
    taken off. Never MD5: Meta names SHA-256 only, and 32 hex digits may be a UUID.
    """
    match = _SHA256.fullmatch(value.strip())
    return match[1].lower() if match else None


def hashes(field: Field, value: str, locale: Locale, *, alternates: bool = True) -> tuple[str, ...]:
    """What to send for one value: at most three distinct SHA-256 in hex, the documented form first.

    Empty means: send nothing for this key. The alternate is the form Meta's parameter builder, and
    so the browser, hashes for `fn`, `ln`, `ct` and `zp` (`zrich` beside `zürich`); keys take lists.
    """
    given = already_hashed(value)
    if given is not None:
        return () if given in _HASHES_OF_NOTHING else (given,)
    documented = normalise(field, value, locale)
    if documented is None:
        return ()
    other = _parameter_builder(field, value) if alternates else None
    return tuple(dict.fromkeys(digest(form) for form in (documented, other) if form))


def normalise(field: Field, value: str, locale: Locale) -> str | None:
    """The form to hash (Meta, Customer Information Parameters); None means send nothing.

    None too for what is already hashed, with whatever function: only `hashes` lets SHA-256 through.
    """
    text = "".join(c for c in value if unicodedata.category(c) != "Cf").strip()
    if text.casefold() in _PLACEHOLDERS or not any(c.isalnum() for c in text):
        return None
    if already_hashed(text) or (_OTHER_HASH.fullmatch(text) and field is not Field.EXTERNAL_ID):
        return None
    # An identifier is trimmed and lower-cased, nothing else: both channels must do the same to it.
    return _form(field, value.strip() if field is Field.EXTERNAL_ID else text, locale) or None


def _form(field: Field, text: str, locale: Locale) -> str | None:
    match field:
        case Field.EM:
            return _email(text)
        case Field.PH:
            return _phone(text, locale.country or locale.default_country)
        case Field.FN | Field.LN:
            return _name(text)
        case Field.F5FIRST | Field.F5LAST:
            return _name(text)[:5]
        case Field.FI:
            return _name(text)[:1]
        case Field.GE:
            return _GENDERS.get(_name(text))
        case Field.DB:
            return _birth_date(text)
        case Field.DOBD:
            return _number(text, digits=2, least=1, most=31)
        case Field.DOBM:
            return _number(text, digits=2, least=1, most=12)
        case Field.DOBY:
            return _number(text, digits=4, least=1900, most=2100)
        case Field.CT:
            return _keep("LM", text)
        case Field.ST:
            return _state(text, locale.country)
        case Field.ZP:
            return _postcode(text, locale.country)
        case Field.COUNTRY:
            return country(text)
        case Field.EXTERNAL_ID:
            return text.lower()
        case _:
            assert_never(field)


# JavaScript's idea of white space, which is not Python's.
_JS_SPACE = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    chr(code) for code in range(0x2000, 0x200B)
)


def _parameter_builder(field: Field, value: str) -> str | None:
    """What capi-param-builder-nodejs 1.3.2 hashes for the fields where that is worth a second try.

    Faithful to its faults (src/piiUtil): no NFC, a postcode ends at its hyphen, a city is ASCII.
    """
    match field:
        case Field.FN | Field.LN:
            return re.sub(rf"[{_JS_SPACE}!-/:-@\[-`{{-~]", "", value).lower()
        case Field.CT:
            city = re.sub(r"[^a-zA-Z0-9]", "", value).lower()
            return city if city[:1].isalpha() else None
        case Field.ZP:
            head = value.lower().partition("-")[0].strip(_JS_SPACE)
            return head if len(head) > 1 else None
        case _:
            return None


# Letters by their Unicode category, yet not to the eye: fillers, variation selectors, frames around
# a character (which make emoji of digits), and the apostrophes among the modifier letters.
_NO_LETTER = re.compile(
    r"[\u02b9-\u02bd\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u20dd-\u20e4\u3164"
    r"\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def _keep(kinds: str, text: str) -> str:
    """Composed and lower-case, only characters of these Unicode categories (first letters)."""
    kept = "".join(c for c in _NO_LETTER.sub("", text) if unicodedata.category(c)[0] in kinds)
    kept = unicodedata.normalize("NFC", kept.lower())
    return re.sub(r"^\W+", "", kept)  # marks left without their letter


def _name(text: str) -> str:
    """Digits stay, as in Meta's own code: the page forbids punctuation only."""
    return _keep("LMN", text)


_LABEL = r"[^\s!-,./:-@\[-^`{-~\x00-\x1f\x7f]"  # of a domain, in any script
_EMAIL = re.compile(rf"[^\s@<>()\[\],;:\"\\\x00-\x1f\x7f]+@{_LABEL}+(?:\.{_LABEL}+)+")


def _email(text: str) -> str | None:
    """No composing, no folding of dots or tags: Meta compares the bytes that were typed."""
    text = text.lower()
    if text.startswith("mailto:"):
        text = text.removeprefix("mailto:").partition("?")[0].strip()
    return text if _EMAIL.fullmatch(text) else None


_PHONE_LABEL = re.compile(r"^\s*(?:tel(?:ephone|efono?)?|phone|mobile?|cell|fon)[\s.:]*")
_EXTENSION = re.compile(
    r";.*|(?<=[\d)])[\s,(]*(?:ext(?:ension|n)?|x|#|durchwahl|dw|poste|ramal|anexo|int(?:erno)?)"
    r"[-\s.:=]*\d{1,7}[\s)]*$"
)


def _phone(text: str, where: str | None) -> str | None:
    """Digits with the country code, 7 to 15 of them; without any country, the digits as they are.

    Extensions and remarks go. A number spelled in letters (1-800-FLOWERS) keeps at most eight
    digits and is dropped; so is one in scientific notation, which has lost digits.
    """
    if len(text) > 100:  # no number; bounds the work of the patterns below
        return None
    text = "".join(
        str(unicodedata.decimal(c)) if c.isdecimal() else c
        for c in unicodedata.normalize("NFKC", text).lower()
    )
    text = _EXTENSION.sub("", _PHONE_LABEL.sub("", text))
    text = re.sub(r"^(\d{7,})\.0$", r"\1", text)  # a float, as JSON prints it
    digits = _digits(text)
    spelled = any(c.isalpha() for c in text) and len(digits) < 9
    if spelled or not digits.strip("0") or re.fullmatch(r"[\d.]+e\+?\d+", text):
        return None
    # Nobody writes (0) after digits unless these are the country code.
    if re.match(r"\D*\+", text) or digits.startswith("00") or re.search(r"\d\D*\(0\)", text):
        number: str | None = _international(text, digits)
    elif where and where.upper() in phonenumbers.SUPPORTED_REGIONS:
        number = _national(digits, where.upper())
    else:
        number = digits.lstrip("0")
    return number if number and 7 <= len(number) <= 15 else None


def _digits(text: str) -> str:
    return "".join(c for c in text if "0" <= c <= "9")


def _international(text: str, digits: str) -> str:
    # The (0) is the trunk prefix, not dialled from abroad, except in Italy, where it is.
    bare = _digits(text.replace("(0)", "")).lstrip("0")
    for candidate in (bare, digits.lstrip("0")):
        number, valid = _parse(f"+{candidate}", None)
        if valid:
            return number
    return _parse(f"+{bare}", None)[0]


def _national(digits: str, region: str) -> str | None:
    """The reading that is a number in service; where two are, the one people mean.

    `4915112345678` in Germany is a mobile with its country code and also, with the trunk prefix 0
    left out, a landline: where a trunk prefix exists, its absence says country code.
    """
    national, national_valid = _parse(digits, region)
    international, international_valid = _parse(f"+{digits}", None)
    plan = phonenumbers.PhoneMetadata.metadata_for_region(region)
    if international_valid and not digits.startswith("0") and plan is not None:
        trunk = plan.national_prefix
        own = digits.startswith(str(plan.country_code))
        if not national_valid or (own and trunk and not digits.startswith(trunk)):
            return international
    return national if national_valid or len(digits) >= 7 else None


def _parse(number: str, region: str | None) -> tuple[str, bool]:
    """The number in E.164 without its plus, and whether its plan knows it; else its digits."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return number.lstrip("+"), False
    e164 = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return e164.lstrip("+"), phonenumbers.is_valid_number(parsed)


_SEPARATOR = r"(?:\s*[-/.年月]\s*|\s+)"
_TIME = r"[.日]?(?:[Tt\s]\s*\d\d?:.*)?"
_YEAR_FIRST = re.compile(rf"(\d{{4}}){_SEPARATOR}(\d\d?){_SEPARATOR}(\d\d?){_TIME}")
_YEAR_LAST = re.compile(rf"(\d\d?)({_SEPARATOR})(\d\d?){_SEPARATOR}(\d{{4}}){_TIME}")


def _birth_date(text: str) -> str | None:
    """YYYYMMDD. Month first, as Meta's code reads it; day first with dots, or above twelve."""
    if match := re.fullmatch(r"(\d{4})(\d\d)(\d\d)", text) or _YEAR_FIRST.fullmatch(text):
        year, month, day = (int(group) for group in match.groups())
    elif match := _YEAR_LAST.fullmatch(text):
        month, day, year = int(match[1]), int(match[3]), int(match[4])
        if "." in match[2]:
            month, day = day, month
        if month > 12:
            month, day = day, month
    else:
        return None
    try:
        return f"{date(year, month, day):%Y%m%d}" if 1900 <= year <= 2100 else None
    except ValueError:  # 30 February: nobody's birthday
        return None


def _number(text: str, *, digits: int, least: int, most: int) -> str | None:
    if not re.fullmatch(rf"\d{{1,{digits}}}", text) or not least <= int(text) <= most:
        return None
    return f"{int(text):0{digits}d}"


# Countries whose post is the United States' own.
_US_POST = frozenset({"us", "pr", "gu", "vi", "as", "mp"})


def _postcode(text: str, where: str | None) -> str | None:
    """Complete, without space or punctuation; in the United States the first five digits."""
    text = unicodedata.normalize("NFKC", text)
    code = _keep("LMN", text)
    if where in _US_POST or (where is None and re.fullmatch(r"\d{5}(?:\W\d{4})?", text)):
        first_five = re.search(r"\d{5}", code)
        code = first_five[0] if first_five else code[:5]
    return code if len(code) > 1 else None


def _words(text: str) -> list[str]:
    """Words to look up: letters only, no case, no Latin, Greek or Cyrillic diacritics."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return re.split(r"[\W\d_]+", "".join(c for c in folded if unicodedata.category(c) != "Mn"))


_STATE_NOISE = frozenset({"us", "usa", "canada", "state", "province", "commonwealth", "of", "the"})


def _state(text: str, where: str | None) -> str:
    """US and Canadian names as two-letter codes, elsewhere the whole name without digits."""
    plain = _keep("LM", text)
    if where not in (None, "us", "ca"):
        return plain
    words = _words(text)
    rest = [word for word in words if word not in _STATE_NOISE]
    if re.match(r"(?i)ca-", text):  # ISO 3166-2, CA-ON
        rest = rest[1:]
    return _STATES.get("".join(words)) or _STATES.get("".join(rest)) or plain


def currency(value: str) -> str | None:
    """The upper-case ISO 4217 code, in use or historic; None if there is no such money."""
    code = value.strip().upper()
    # XXX and XTS are ISO's "no currency" and "test".
    return code if code in list_currencies() and code not in {"XXX", "XTS"} else None


def country(value: str) -> str | None:
    """ISO 3166-1 alpha-2, lower-case, of a code or name; None if unknown (Meta, country).

    Knows alpha-2, alpha-3, UK, XK (Kosovo), and names in the languages of `_LANGUAGES`, formal or
    short, whatever their case, accents and punctuation.
    """
    if any(c.isdigit() for c in value):
        return None
    if "".join(_words(value)) == "and":  # Andorra's code, before it is dropped as a word
        return "ad"
    name = _country_key(value)
    if name.isascii() and name.upper() in _alpha2():
        return name
    if len(name) == 3 and (codes := get_global("territory_aliases").get(name.upper())):
        return str(codes[0]).lower() if len(codes) == 1 and codes[0] in _alpha2() else None
    spellings = (name, _short(value))
    everyday = next((_COUNTRY_NAMES[key] for key in spellings if key in _COUNTRY_NAMES), None)
    return everyday or next((_names()[key] for key in spellings if key in _names()), None)


# CLDR territories that are no countries: Ascension, Europe, test data and the like.
_NO_COUNTRY = "AC CP CQ DG EA EU EZ IC QO TA UN XA XB ZZ"

# Babel's name of a country is searched in these languages; a name that two share is left out.
_LANGUAGES = (
    "en de fr es it pt ca nl sv da nb fi is et lv lt pl cs sk sl hr sr bs mk sq hu ro bg el ru uk"
    " be ka hy tr az ar he fa ur hi bn th vi id ms ja ko zh zh_Hant fil af"
)


def _country_key(name: str) -> str:
    words = ("st" if word == "saint" else word for word in _words(name))
    return "".join(word for word in words if word not in {"and", "the", "of"})


def _short(name: str) -> str:
    """Without the words of a formal name: Korea, Republic of; Federal Republic of Germany."""
    formal = "republic kingdom state states federal federated islamic bolivarian plurinational"
    return _country_key(" ".join(w for w in _words(name) if w not in formal.split()))


@cache
def _alpha2() -> frozenset[str]:
    codes = babel.Locale("en").territories
    return frozenset(str(code) for code in codes if len(str(code)) == 2) - {*_NO_COUNTRY.split()}


@cache
def _names() -> dict[str, str]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for language in _LANGUAGES.split():
        for code, name in babel.Locale.parse(language).territories.items():
            if code in _alpha2():
                for spelling in (name, name.partition("(")[0]):
                    found[_country_key(spelling)].add(code.lower())
        # Babel keeps all it ever read of a language: measured, 56 MB for these, of which 3 are names.
        localedata._cache.pop(language, None)
    return {name: codes.pop() for name, codes in found.items() if len(codes) == 1}


def _table(rows: str) -> dict[str, str]:
    """`code=name name, ...` turned round: every name, and the code itself, to the code."""
    pairs = (row.strip().partition("=") for row in rows.split(","))
    return {name: code for code, _, names in pairs for name in (code, *names.split())}


# The English words are those of Meta's parameter builder (genderUtil.js).
_GENDERS = _table(
    """
    m=man male boy gentleman guy sir mister mr son father dad daddy papa uncle nephew brother
    husband boyfriend groom widower king prince duke count emperor god lord lad fellow chap bloke
    dude he him his himself mann männlich herr homme masculin monsieur hombre masculino varón señor
    homem senhor uomo maschio mężczyzna mannelijk мужской 男 男性 남성,
    f=woman female girl lady miss ms mrs madam maam daughter mother mom mama mommy aunt niece sister
    wife girlfriend bride widow queen princess duchess countess empress goddess maiden lass gal
    chick dame belle she her hers herself w frau weiblich femme féminin madame mme mujer femenino
    señora señorita mulher feminino senhora donna femmina kobieta vrouw vrouwelijk женский 女 女性 여성
    """
)

# Postal codes of the United States (states, DC, territories, armed forces) and Canada, with the
# full name, the traditional abbreviation and, in Canada, the French name.
_STATES = _table(
    """
    al=alabama ala, ak=alaska, az=arizona ariz, ar=arkansas ark, ca=california calif cal,
    co=colorado colo, ct=connecticut conn, de=delaware del, fl=florida fla, ga=georgia, hi=hawaii,
    id=idaho, il=illinois ill, in=indiana ind, ia=iowa, ks=kansas kan kans, ky=kentucky,
    la=louisiana, me=maine, md=maryland, ma=massachusetts mass, mi=michigan mich, mn=minnesota minn,
    ms=mississippi miss, mo=missouri, mt=montana mont, ne=nebraska neb nebr, nv=nevada nev,
    nh=newhampshire, nj=newjersey, nm=newmexico nmex, ny=newyork, nc=northcarolina ncar,
    nd=northdakota ndak, oh=ohio, ok=oklahoma okla, or=oregon ore, pa=pennsylvania penn penna,
    ri=rhodeisland, sc=southcarolina scar, sd=southdakota sdak, tn=tennessee tenn, tx=texas tex,
    ut=utah, vt=vermont, va=virginia, wa=washington wash, wv=westvirginia wva, wi=wisconsin wis wisc,
    wy=wyoming wyo, dc=districtofcolumbia washingtondc, pr=puertorico, gu=guam,
    vi=virginislands usvirginislands unitedstatesvirginislands virginislandsus, as=americansamoa,
    mp=northernmarianaislands, um=usminoroutlyingislands unitedstatesminoroutlyingislands,
    fm=micronesia federatedstatesofmicronesia, mh=marshallislands, pw=palau,
    aa=armedforcesamericas, ae=armedforceseurope armedforcesafrica armedforcescanada
    armedforcesmiddleeast armedforces, ap=armedforcespacific,
    ab=alberta alta, bc=britishcolumbia colombiebritannique, mb=manitoba man,
    nb=newbrunswick nouveaubrunswick, nl=newfoundlandandlabrador newfoundlandlabrador newfoundland
    labrador nfld nf terreneuveetlabrador, ns=novascotia nouvelleecosse,
    nt=northwestterritories nwt territoiresdunordouest, nu=nunavut, on=ontario ont,
    pe=princeedwardisland pei ileduprinceedouard, qc=quebec que pq, sk=saskatchewan sask,
    yt=yukon yukonterritory yk
    """
)

# What Babel lacks or calls otherwise: everyday, former and ISO's formal names, as `_country_key`
# folds them (no the, of, and).
_COUNTRY_NAMES = _table(
    """
    us=america unitedstatesamerica estadosunidosdeamerica etatsunisdamerique statiunitidamerica
    vereinigtestaatenvonamerika eeuu eua, gb=uk greatbritain britain england scotland wales
    northernireland grossbritannien grandebretagne granbretana granbretagna inglaterra
    unitedkingdomgreatbritainnorthernireland, gr=el, nl=holland hollande hollanda olanda, ie=eire,
    cz=czechrepublic, de=brd bundesrepublikdeutschland, at=oesterreich, tr=turkey tuerkei, xk=xkx,
    kr=korea rok koreasouth, kp=dprk koreanorth koreademocraticpeoplesrepublic
    democraticpeoplesrepublickorea, ru=russianfederation, jp=日本国, th=ประเทศไทย, vn=vietnam,
    cn=peoplesrepublicchina chinapeoplesrepublic mainlandchina prc 中华人民共和国, hk=hongkong,
    tw=taiwanprovincechina taiwanchina, mo=macau macao, mm=burma, la=laopeoplesdemocraticrepublic,
    cd=democraticrepubliccongo congodemocraticrepublic drc zaire, cg=congo, ci=ivorycoast,
    cv=capeverde caboverde, sz=swaziland, tl=easttimor, bn=bruneidarussalam, sy=syrianarabrepublic,
    mk=macedonia formeryugoslavrepublicmacedonia macedoniaformeryugoslavrepublic, ae=uae emirates,
    tz=unitedrepublictanzania tanzaniaunitedrepublic, ps=palestine, va=vatican holysee holyseevaticancity,
    fk=falklandislandsmalvinas malvinas, vi=virginislandsus usvirginislands, vg=virginislandsbritish,
    sx=sintmaartendutchpart, mf=stmartinfrenchpart, bq=bonairesinteustatiussaba, ba=bosnia,
    sh=sthelenaascensiontristandacunha, hm=heardislandmcdonaldislands, um=unitedstatesminoroutlyingislands
    """
)
