"""Made-up values for every field, likely and hostile ones, the same in every run.

Each field has its own seeded generator; `cases` draws from it until it has enough distinct cases.
"""

import hashlib
import random
import unicodedata
from collections.abc import Callable
from datetime import date, timedelta

import phonenumbers
import pycountry

from .libraries import CURRENCY, Case
from .rules import LANGUAGES, countries_in, split, subdivisions

EACH = 3000  # distinct inputs a field

GIVEN_NAMES = split(
    " ",
    "John Mary Anne-Marie Jean-Luc José Zoë Björn Łukasz Żaneta Çağla İpek Işıl Đorđe Nguyễn Ægir"
    " Þóra Siân D'Arcy Ma’ayan Oʼbrien Αννα ΓΙΩΡΓΟΣ Σωκράτης Мария Олександр Ђорђе 太郎 さくら"
    " ガブリエル 佐々木 민준 小明 สมชาย प्रिया தமிழ் עדי محمد فاطمة ნინო Անի ሰላም John3 J. M Jr."
    " Straße ﬁona Ｊｏｈｎ ♥Mary Mary❤️ 👩‍👩‍👧Ann 😀 Àéîõü Nuñez Ŷr ǅemal A.J. K’naan ʻIolani Ke‘alohi",
)
FAMILY_NAMES = split(
    " ",
    "Smith O'Brien O’Neill O‘Shea García-Márquez Müller MÜLLER van_der_Berg de·la·Cruz d'Ávila"
    " Østergård Škvorecký Ğülşen Νικολάου Παπαδόπουλος Кузнецов Соловьёв Шевченко 田中 山本"
    " ﾔﾏﾀﾞ 김 王 ศรีสุข शर्मा রহমান கண்ணன் כהן الأحمد ბერიძე Պետրոսյան ተስፋዬ Smith(Jones) Smith,Jr."
    " Smith/Jones St.John 3rd II Ng X Æ Weiß N'Diaye M’Bappé Nuñez*Lara R&D #1 $mith Half–Dash"
    " Long—Dash Soft\u00adHyphen Left\u200eRight",
)
CITIES = split(
    ";",
    "New York;São Paulo;Zürich;Łódź;Washington, D.C.;L'Aquila;L’Aquila;75015 Paris;Paris 15;"
    "St. John's;Saint-Étienne;Winston-Salem;Coeur d'Alene;Москва;東京;서울;القاهرة;तेहरान;Αθήνα;"
    "København;Reykjavík;Kraków;Đà Nẵng;Stratford-upon-Avon;Frankfurt (Main);Frankfurt/Oder;"
    "Köln 1;Villers-la-Ville;'s-Hertogenbosch;’t Harde;Ñuñoa;Å;Y;Ho Chi Minh City;Bern3;10 Downing;"
    "Québec;México D.F.;Llanfair­pwll;Tel Aviv–Yafo;กรุงเทพฯ;Wien, Österreich;İstanbul;Iași;Győr",
)
STATES = (
    *(text for part in subdivisions() for text in part),
    *split(
        ";",
        "Calif.;Penn.;Mass.;Tex.;Fla.;Que.;Ont.;N.Y.;N.J.;B.C.;ca;NY;tx;on;bc;PR;dc;Bavaria;NSW;SP;X;06;"
        "Nordrhein-Westfalen;Baden-Württemberg;Île-de-France;Provence-Alpes;Jalisco;東京都;Московская;"
        "서울;Andalucía;Noord-Holland;Mazowieckie;Kent;Georgia;75;Rio de Janeiro;New York State;"
        "State of Texas;Texas, USA;CA 94035;Washington, D.C.;New South Wales;Commonwealth of Virginia;"
        "U.S. Virgin Islands;Virgin Islands, U.S.;Virgin Islands, U.S.;Colombie-Britannique;Nouvelle-Écosse;Île-du-Prince-Édouard;"
        "Armed Forces Pacific;Terre-Neuve-et-Labrador;Puerto Rico",
    ),
)
COUNTRY_WORDS = split(
    ";",
    "UK;u.k.;U.S.;U.S.A.;America;England;Scotland;Great Britain;Holland;EL;Czech Republic;Turkey;"
    "Ivory Coast;Burma;Russia;South Korea;North Korea;DPRK;Macau;Swaziland;Cape Verde;UAE;XK;"
    "Kosovo;the United States of America;Korea, Republic of;Congo;Oesterreich;EEUU;日本国;中国;日本;"
    "대한민국;ไทย;Россия;Ελλάδα;Україна;مصر;ישראל;Türkiye;TÜRKİYE;Osterreich;Espana;Côte d’Ivoire;"
    "AND;and;And;ıt;fı;Narnia;Europe;EU;XX;ZZ;AN;YUG;MI;840;US1;Atlantis;Earth;Bavaria;X;de-DE;en_US;Germany!;AAA;QQ",
)
GENDER_WORDS = split(
    " ",
    "m f male female man woman mr mrs ms miss boy girl he she his hers himself herself sir madam"
    " ma'am Mr. Mrs. Ms. männlich weiblich w Herr Frau homme femme Monsieur mme hombre mujer varón"
    " masculino feminino femenino homem mulher uomo donna mężczyzna kobieta vrouw мужской женский 男"
    " 女 男性 女性 남성 여성 lord lady king queen dude gal son daughter x d divers other non-binary"
    " unknown 1 2 0 male/female mf fm prefer_not_to_say nb they them malee fe.male Man! (female)"
    " femail m/f trans ungefragt Mannn",
)
POSTCODES = split(
    ";",
    "94035;94035-1234;94035 1234;940351234;00501;1234;SW1A 1AA;M1 1AE;m11ae;EC1A1BB;B33 8TH;CR2 6XH;"
    "DN55 1PT;GIR 0AA;K1A 0B1;H0H-0H0;V6B4Y8;01310-100;01310100;22.041-001;100-0001;1000001;"
    "〒100-0001;〒１００－０００１;00-950;31-042;75008;F-75008;D-10115;10115;1012 AB;1012ab;1000-205;"
    "110001;110 001;2000;0800;CA 94035;CA94035-1234;1;12;A;7;BT7 1NN;AD500;LV-1010;SE-114 55;"
    "114 55;๑๐๒๐๐;١٢٣٤٥;99501–0001;94035_1234;94035.1234;94035+1234;ＳＷ１Ａ １ＡＡ;-;--12;12-;1-2",
)
CURRENCIES = split(" ", "eur usd gbp jpy brl pln chf dem frf itl xcg xxx xts btc eth")
REGIONS = split(
    " ", "us gb de fr it br jp pl in ca au mx ru es nl ar hu cn sa kr ua tr sg no aq xk"
)

PLACEHOLDERS = split(
    ";",
    "null;NULL;None;(none);undefined;NaN;n/a;N/A;-;(not set);[object Object];(null);(not provided)"
    ";;   ;\t;...;--;’;\u200b;\ufeff;\u3164;null\u200b;nulls;nano;\ud83d;_;.;@;+",
)
INVISIBLE = ("\u200b", "\u200e", "\ufeff", "\u00ad", "\u2060", "\u202a")
SPACES = (" ", "  ", "\t", "\n", "\u00a0", "\u3000", "\u2009", " \r\n")
ALPHABET = (
    "aZ09 .-'’,_@+()/\\\"!?&;:#ßñÉıİσΣςжЯ中ア한ש٣७๑Ⅷ²½ªº\u0301\u0308\u200b\u00a0\ufe0f\u034f😀"
    "ǅﬁＡ１～―‑·ʼ`´^~<>[]{}|$€%*=\u2028\x1f\x00\ud83d"
)


def cases(field: str, count: int = EACH, seed: str = "") -> list[Case]:
    """Distinct cases of one field; the same for the same arguments."""
    rng = random.Random(field + seed)
    found: dict[Case, None] = {}
    while len(found) < count:
        found[_case(rng, field)] = None
    return list(found)


def _case(rng: random.Random, field: str) -> Case:
    kind = rng.random()
    if kind < 0.04:
        value = _dress(rng, rng.choice(PLACEHOLDERS))
    elif kind < 0.12:
        value = _hash(rng)
    elif kind < 0.20:
        value = "".join(rng.choices(ALPHABET, k=rng.randint(1, 14)))
    elif field == "ph":
        return _phone(rng)
    else:
        plain = _PLAIN[field](rng)
        # Names of countries are told by whole words; their codes are not.
        value = _dress(rng, plain, breaks=field != "country" or len(plain) < 4)
    if field not in {"ph", "st", "zp"}:
        return Case(field, value)
    country = rng.choice([None, None, *REGIONS, "us", "ca", "gb"])
    return Case(field, value, country, rng.choice([None, *REGIONS]))


def _dress(rng: random.Random, text: str, *, breaks: bool = True) -> str:
    """What keyboards, copying and programs do to a value on its way; `breaks` allows it in words."""
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        at = rng.randint(0, len(text))
        match rng.randint(0, 9 if breaks else 6):
            case 0 | 1:
                text = text.upper()
            case 2:
                text = text.title()
            case 3 | 4:
                text = rng.choice(SPACES) + text + rng.choice(("", *SPACES))
            case 5:
                text = unicodedata.normalize("NFD", text)
            case 6:
                text = text.swapcase()
            case 7:
                text = text[:at] + rng.choice(INVISIBLE) + text[at:]
            case 8:
                text = text[:at] + rng.choice(SPACES) + text[at:]
            case _:
                text = text[:at] + rng.choice(".-',!_/(’") + text[at:]
    return text


_OF_NOTHING = [hashlib.sha256(text.encode()).hexdigest() for text in ("", "null", "n/a", "none")]


def _hash(rng: random.Random) -> str:
    seed = str(rng.random()).encode()
    name = rng.choice(("sha256", "sha256", "sha256", "md5", "sha1", "sha384", "sha512"))
    hexed = hashlib.new(name, seed, usedforsecurity=False).hexdigest()
    hexed = rng.choice((hexed, hexed, hexed, hexed, hexed[:-1], rng.choice(_OF_NOTHING)))
    hexed = rng.choice((hexed, hexed, hexed.upper()))
    hexed += rng.choice(
        ("", "", ".AQQCAQMC", ".BA", ".AQYCAQMB.AQYCAQMB", ".abc", ".xy", ".nine_nine")
    )
    pad = rng.choice(("", "", "", " ", "\n", "\ufeff", "\u200b"))
    return pad + hexed + rng.choice(("", "", " "))


_LOCAL_PARTS = split(
    ";",
    'john;John.Smith;o\'brien;a..b;.a;a.;x+tag;josé;名前;a_b-c;j s;;a:.b;mailto:john;MAILTO:j.s;"q q";a,b;'
    "<john;a@b;1;a!#$%&*/=?^`{|}~",
)
_DOMAINS = split(
    ";",
    "x.com;Example.CO.UK;münchen.de;xn--mnchen-3ya.de;例え.jp;x;x..com;.com;x.com.;a_b.com;-a.com;a-.com;"
    "x.com>;x.com,;x.com?subject=hi;1.2;x .com",
)


def _email(rng: random.Random) -> str:
    number = rng.choice(("", "", str(rng.randint(1, 999))))
    return f"{rng.choice(_LOCAL_PARTS)}{number}{rng.choice('@@@@@@@ ')}{rng.choice(_DOMAINS)}"


_EXTENSIONS = (" ext 12", " x9", " extension 1234", ";ext=5", " #9", " ext. 7", ", ext 3", "x12")
_REMARKS = (" (mobile)", " home", " / 2", " or later", "tel: ", "Tel. ", "tel:", "mobile ", "p: ")
_ODD_PHONES = split(
    ";",
    "12345;1-800-FLOWERS;1 800 FLOWERS;1-800-555-TIPS;1.65056E+10;1.6505551212e10;+0000000000;000000;"
    "16505551212.0;123456;1234567;123456789012345;1234567890123456;+999 123456789;011 44 844 412 4653;"
    "+44 (0)20 7946 0958;+44 020 7946 0958;0044 (0)20 7946 0958;(0)171 1234567;+39 (0)6 1234 5678;+34 (0)91 123 45 67;+54 (0)11 1234-5678;"
    "٠٥٠١٢٣٤٥٦٧;+٩٦٦٥٠١٢٣٤٥٦٧;０３-１２３４-５６７８;++1 650 555 1212;+0044 844 412 4653;call me;+;44 (0)20 7946 0958",
)


def _phone(rng: random.Random) -> Case:
    """Example numbers of libphonenumber, as their owners write them at home and abroad."""
    region = rng.choice(REGIONS)
    kind = rng.choice(
        (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    )
    example = phonenumbers.example_number_for_type(region.upper(), kind)
    if example is None or rng.random() < 0.15:
        text = rng.choice(_ODD_PHONES)
    else:
        shape = phonenumbers.PhoneNumberFormat
        style = rng.choice((shape.E164, shape.INTERNATIONAL, shape.NATIONAL, shape.NATIONAL))
        text = phonenumbers.format_number(example, style)
    digit = str(rng.randint(0, 9))  # one digit near the end, so that numbers differ
    last = max((at for at, c in enumerate(text) if "0" <= c <= "9"), default=-1)
    if last > 6 and rng.random() < 0.8:
        text = text[:last] + digit + text[last + 1 :]
    match rng.randint(0, 13):
        case 0:
            text = "".join(c for c in text if c.isdigit())
        case 1:
            text = text.replace("+", "00", 1)
        case 2:
            text = text.replace(" ", rng.choice(".-/\u00a0‑"))
        case 3:
            text += rng.choice(_EXTENSIONS)
        case 4:
            remark = rng.choice(_REMARKS)
            text = text + remark if remark.startswith(" ") else remark + text
        case 5:
            text = text.replace("+", "")
        case 6:
            text = "".join(chr(0x660 + int(c)) if c in "0123456789" else c for c in text)
        case 7 | 8:
            text = rng.choice(SPACES) + text + rng.choice(("", *INVISIBLE, *SPACES))
        case 9:
            text = text.lstrip("0")
        case _:
            pass
    where = rng.choice((region, region, None, rng.choice(REGIONS)))
    site = rng.choice((None, region, rng.choice(REGIONS)))
    return Case("ph", text, where, site)


_DATES = split(
    " ",
    "%Y%m%d %Y-%m-%d %m/%d/%Y %d/%m/%Y %d.%m.%Y %d-%m-%Y %Y/%m/%d %Y.%m.%d %Y年%m月%d日 %d%m%Y %m%d%Y"
    " %m/%d/%y %y-%m-%d %d~%b~%Y %Y-%m %Y %Y-%d-%m %m-%Y-%d %d.~%m.~%Y %d~%m~%Y %Y-%m-%dT00:00:00Z"
    " %Y-%m-%d~12:30:00 %m/%d/%Y~00:00 %d,%m,%Y %Y_%m_%d born~%d/%m/%Y %d/%m/%Y? %j/%Y %s",
)


def _birth_date(rng: random.Random) -> str:
    born = date(1900, 1, 1) + timedelta(days=rng.randint(0, 45_000))
    year = rng.choice((born.year, born.year, born.year, 1850, 1797, 2095, 2150, 1899, 1900, 2100))
    shape = rng.choice(_DATES).replace("~", " ")
    text = shape.replace("%s", str(rng.randint(10**8, 10**9)))
    day, month = born.day, born.month
    if rng.random() < 0.1:
        day, month = rng.choice(((30, 2), (31, 4), (29, 2), (13, 13), (0, 0), (32, 1), (1, 13)))
    wide = rng.random() < 0.7
    for key, number, width in (
        ("d", day, 2),
        ("m", month, 2),
        ("Y", year, 4),
        ("y", year % 100, 2),
    ):
        text = text.replace(f"%{key}", f"{number:0{width}d}" if wide else str(number))
    return text.replace("%b", f"{born:%b}").replace("%j", f"{born:%j}")


def _country(rng: random.Random) -> str:
    kind = rng.random()
    entry = rng.choice(list(pycountry.countries))
    if kind < 0.2:
        return str(entry.alpha_2)
    if kind < 0.35:
        return str(entry.alpha_3)
    if kind < 0.5:
        return rng.choice(COUNTRY_WORDS)
    if kind < 0.75:
        return str(getattr(entry, rng.choice(("name", "common_name")), entry.name))
    return rng.choice(countries_in(rng.choice(LANGUAGES)))


def _postcode(rng: random.Random) -> str:
    text = rng.choice(POSTCODES)
    digits = (rng.choice("0123456789") if c in "0123456789" else c for c in text)
    return "".join(digits) if rng.random() < 0.8 else text


def _currency(rng: random.Random) -> str:
    known = [str(entry.alpha_3) for entry in pycountry.currencies]
    made_up = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.choice((2, 3, 3, 3, 3, 4))))
    odd = rng.choice(
        ("US$", "€", "R$", "EURO", "e u r", "u.s.d", "EUR 5", "ｅｕｒ", "é€u", "usd/eur")
    )
    return str(rng.choice((*CURRENCIES, *rng.sample(known, 60), made_up, odd)))


def _identifier(rng: random.Random) -> str:
    n = rng.randint(1, 10**9)
    shapes = [f"user{n}", f"USER {n}", f"{n}", f"{n:032x}", f"{n:x}-AB_c", f"mail{n}@x.com"]
    shapes += [f"a b {n % 100}", f"José{n % 99}", f"JOSE\u0301{n % 99}", f"id\u200b{n}"]
    shapes += [f"user\t{n}", f"ΟΔΟΣ{n % 9}"]
    return rng.choice(shapes)


def _words(words: tuple[str, ...] | list[str]) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(words)


def _name(words: list[str]) -> Callable[[random.Random], str]:
    """One name, or two in a row."""

    def draw(rng: random.Random) -> str:
        first, second = rng.choice(words), rng.choice(words)
        return rng.choice((first, f"{first}{rng.choice(' -’. ')}{second}"))

    return draw


_PLAIN: dict[str, Callable[[random.Random], str]] = {
    "em": _email,
    "fn": _name(GIVEN_NAMES),
    "ln": _name(FAMILY_NAMES),
    "ge": _words(GENDER_WORDS),
    "db": _birth_date,
    "ct": _name(CITIES),
    "st": _words(STATES),
    "zp": _postcode,
    "country": _country,
    "external_id": _identifier,
    CURRENCY: _currency,
}
