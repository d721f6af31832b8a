"""Realistic stand-ins that keep a value's kind and shape: names, e-mail addresses, IBANs, phones, cards. Pure.

All are recognisably nobody's: e-mail under the reserved top-level domain `.example` (RFC 2606), IBANs whose account part
begins with our mark 999990 and whose check digits hold, phone numbers of the ranges kept for fiction (555-01xx), IP addresses of
the documentation ranges (RFC 5737), cards that fail Luhn on purpose. Which one is chosen depends on the scope's key only.
"""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

from typing import Final

from agent_os.guards.privacy.accounts import iban_check_digits
from agent_os.guards.privacy.checks import compact, digits, luhn

ATTEMPTS_MAX: Final = 8
IBAN_MARK: Final = "999990"
MAIL_DOMAIN: Final = "pseudonym.example"
_FIRST: Final = (
    "Alva Brin Corin Dalia Elio Fenna Garin Halia Ilona Joris Kaia Loris Mirela Nevin Orla Perrin Quilla Rovan Selma Tavin Ulla Varis Wilma Xenia Yorick "
    "Zelda Arvid Bodil Cyrus Dorit Edda Falk Greta Hedda Ingram Jarl Knut Liv Malte Njal"
).split()
_LAST: Final = (
    "Ashgrove Birkmoor Calloway Dunmere Elmsford Fairholt Glenrowe Hartwick Ironwood Jessamy Kestrel Larkspur Marlowe Northcote Oakhurst Penrose Quillfeather "
    "Ravenhill Silverlake Thornbury Underhill Vantongeren Westerby Yarborough Zellweger Aldermann Brookhaus Clearwater Dornfeld Eberhall"
).split()
_CITIES: Final = "Alderton Brookvale Carrowmere Dunhaven Eastmoor Fernleigh Greywater Highcross Ivybridge Kingsmere Lindenau Mossford".split()


def surrogate(kind: str, original: str, number: int, seed: bytes, *, spelling: bytes) -> str:
    """Return a stand-in for a value, or an empty text where a placeholder serves better.

    `seed` is the same for every spelling of one entity, `spelling` differs with the spelling.
    """
    pick = int.from_bytes(seed[:8], "big")
    other = int.from_bytes(spelling[:8], "big")
    if kind == "PERSON":
        first, last = _FIRST[pick % len(_FIRST)], _LAST[pick // 97 % len(_LAST)]
        parts = original.split()
        mark = chr(65 + other % 26)
        return first if len(parts) == 1 else f"{first} {mark}. {last}"
    if kind == "EMAIL_ADDRESS":
        return f"person{number}.{spelling.hex()[:6]}@{MAIL_DOMAIN}"
    if kind == "IBAN_CODE":
        return _iban(original, other)
    if kind == "PHONE_NUMBER":
        return f"+1 {200 + other % 700:03d}-555-01{other // 700 % 100:02d}"
    if kind == "IP_ADDRESS" and ":" not in original:
        return f"{('192.0.2', '198.51.100', '203.0.113')[other % 3]}.{1 + other // 3 % 254}"
    if kind == "CREDIT_CARD":
        return _card(original, other)
    if kind == "LOCATION":
        return f"{_CITIES[pick % len(_CITIES)]}-{1 + other % 9000}"
    if kind == "URL":
        return f"https://site{number}-{spelling.hex()[:6]}.example/"
    return ""


def _iban(original: str, pick: int) -> str:
    text = compact(original)
    country, size = text[:2], len(text) - 4
    if country == "GB" and size == 18:  # four letters of the bank, then digits
        account = "ZZZZ" + IBAN_MARK + f"{pick % 10**8:08d}"
    elif text[4:].isdigit() and size > len(IBAN_MARK) + 4:
        account = IBAN_MARK + f"{pick % 10 ** (size - len(IBAN_MARK)):0{size - len(IBAN_MARK)}d}"
    else:  # letters in the account part differ by country: a German one is always well-formed
        country, account = "DE", IBAN_MARK + f"{pick % 10**12:012d}"
    return country + iban_check_digits(country, account) + account


def marked_iban(value: str) -> bool:
    """Whether an IBAN carries our mark: it is a surrogate and nobody's account."""
    return compact(value)[4:].removeprefix("ZZZZ").startswith(IBAN_MARK)


def _card(original: str, pick: int) -> str:
    count = len(digits(original))
    body = "9999" + f"{pick % 10 ** max(1, count - 4):0{max(1, count - 4)}d}"
    return body if not luhn(body) else body[:-1] + str((int(body[-1]) + 1) % 10)
