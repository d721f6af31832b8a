"""Checksums and structure of identifiers: what turns a number-like string into evidence. Pure.

Each function takes the candidate as written (separators allowed) and returns whether its own check holds. Sources:
ISO/IEC 7812 (Luhn), ISO 13616 (IBAN), the publishing authority of each national identifier. Threat: a detector that
takes every number for a card is switched off by its users; one that checks nothing is noise.
"""

from __future__ import annotations

from collections import Counter
from typing import Final


def digits(value: str) -> str:
    """Return the ASCII digits of a text, in order."""
    return "".join(char for char in value if "0" <= char <= "9")


def compact(value: str) -> str:
    """Return a text in upper case without spaces, dots, dashes and slashes."""
    return "".join(char for char in value if char not in " .-/\u00a0\u2009\u202f").upper()


def luhn(value: str) -> bool:
    """Whether the digits end in their Luhn check digit (ISO/IEC 7812-1) and are not all one digit."""
    number = digits(value)
    total = 0
    for index, char in enumerate(reversed(number)):
        amount = ord(char) - 48
        if index % 2:
            amount = amount * 2 - 9 if amount > 4 else amount * 2
        total += amount
    return total % 10 == 0 and len(set(number)) > 1


def es_social_security(value: str) -> bool:
    """Whether this is a Spanish social security number: the first ten digits modulo 97 are the last two."""
    number = digits(value)
    if len(number) not in (11, 12):
        return False
    province, serial, control = int(number[:2]), int(number[2:-2]), int(number[-2:])
    base = province * 10**7 + serial if serial < 10**7 else int(number[:-2])
    return 1 <= province <= 66 and base % 97 == control


def ssn(value: str) -> bool:
    """Whether this could be a US Social Security number: no 000, 666 or 9xx area, no 00 group, no 0000 serial."""
    number = digits(value)
    if len(number) != 9 or len(set(number)) == 1:
        return False
    return number[:3] not in ("000", "666") and number[0] != "9" and number[3:5] != "00" and number[5:] != "0000"


def itin(value: str) -> bool:
    """Whether this could be a US individual taxpayer number: 9xx with a group of 50-65, 70-88, 90-92, 94-99."""
    number = digits(value)
    if len(number) != 9 or number[0] != "9":
        return False
    group = int(number[3:5])
    return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99


def _weighted(number: str, weights: tuple[int, ...]) -> int:
    return sum((ord(char) - 48) * weight for char, weight in zip(number, weights, strict=False))


def nhs(value: str) -> bool:
    """Whether this is a UK NHS number (mod 11 over ten digits)."""
    number = digits(value)
    if len(number) != 10 or len(set(number)) == 1:
        return False
    check = 11 - _weighted(number, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return check != 10 and check % 11 == int(number[9])


def nino(value: str) -> bool:
    """Whether the prefix of a UK National Insurance number was ever issued."""
    text = compact(value)
    return (
        text[:2] not in ("BG", "GB", "NK", "KN", "NT", "TN", "ZZ")
        and not set(text[:2]) & set("DFIQUV")
        and text[1] != "O"
    )


def es_nif(value: str) -> bool:
    """Whether this is a Spanish NIF or NIE (letter mod 23)."""
    text = compact(value)
    number = {"X": "0", "Y": "1", "Z": "2"}.get(text[0], text[0]) + text[1:-1]
    return number.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


def es_cif(value: str) -> bool:
    """Whether this is a Spanish company number (CIF)."""
    text = compact(value)
    body = text[1:8]
    if not body.isdigit():
        return False
    total = sum(int(char) for char in body[1::2])
    for char in body[0::2]:
        double = int(char) * 2
        total += double // 10 + double % 10
    check = (10 - total % 10) % 10
    return text[8] in (str(check), "JABCDEFGHI"[check])


def de_tax_id(value: str) -> bool:
    """Whether this is a German Steuer-ID (ISO 7064 mod 11,10; exactly one digit repeated among the first ten)."""
    number = digits(value)
    if len(number) != 11 or number[0] == "0":
        return False
    counts = sorted(Counter(number[:10]).values(), reverse=True)
    if counts[0] not in (2, 3) or counts.count(counts[0]) != 1 or (len(counts) > 1 and counts[1] > 1):
        return False
    return _iso7064(number[:10]) == int(number[10])


def _iso7064(body: str) -> int:
    product = 10
    for char in body:
        total = (int(char) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10


def de_social(value: str) -> bool:
    """Whether this is a German pension insurance number (RVNR): dates in range and the check digit."""
    text = compact(value)
    if len(text) != 12 or not text[8].isalpha() or not (text[:8] + text[9:]).isdigit():
        return False
    day, month = int(text[2:4]), int(text[4:6])
    if not (1 <= day <= 31 or 51 <= day <= 81) or not 1 <= month <= 12:
        return False
    expanded = text[:8] + f"{ord(text[8]) - 64:02d}" + text[9:11]
    total = 0
    for char, weight in zip(expanded, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=True):
        product = int(char) * weight
        total += product // 10 + product % 10
    return total % 10 == int(text[11])


def icao(value: str) -> bool:
    """Whether the last digit of a document number is its ICAO 9303 check digit (weights 7, 3, 1)."""
    text = compact(value)
    return text.isalnum() and text[-1].isdigit() and _icao_digit(text[:-1]) == int(text[-1])


def _icao_digit(text: str) -> int:
    return sum(int(char, 36) * (7, 3, 1)[index % 3] for index, char in enumerate(text)) % 10


def de_health(value: str) -> bool:
    """Whether this is a German health insurance number (KVNR): letter, eight digits, weighted check digit."""
    text = compact(value)
    if len(text) != 10 or not text[0].isalpha() or not text[1:].isdigit():
        return False
    total = 0
    for index, char in enumerate(f"{ord(text[0]) - 64:02d}" + text[1:9]):
        product = int(char) * (1, 2)[index % 2]
        total += product // 10 + product % 10
    return total % 10 == int(text[9])


_CF_ODD: Final = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
    23), strict=True))  # fmt: skip


def it_fiscal_code(value: str) -> bool:
    """Whether this is an Italian codice fiscale (control letter after the decree of 23 December 1976)."""
    text = compact(value)
    if len(text) != 16 or not text.isascii() or not text.isalnum():
        return False
    total = 0
    for index, char in enumerate(text[:15]):
        total += _CF_ODD[char] if index % 2 == 0 else (int(char) if char.isdigit() else ord(char) - 65)
    return chr(65 + total % 26) == text[15]


def it_vat(value: str) -> bool:
    """Whether this is an Italian VAT number (eleven digits, Luhn)."""
    number = digits(value)
    return len(number) == 11 and luhn(number)


def fr_insee(value: str) -> bool:
    """Whether this is a French NIR (INSEE) number: sex, year, month, department and key 97 - n mod 97."""
    text = compact(value)
    body = text[:13].replace("2A", "19").replace("2B", "18")
    if len(text) != 15 or not body.isdigit() or not text[13:].isdigit() or text[0] not in "12378":
        return False
    month = int(text[3:5])
    return (1 <= month <= 12 or 20 <= month <= 42 or month >= 50) and 97 - int(body) % 97 == int(text[13:])


def fr_siret(value: str) -> bool:
    """Whether this is a French SIREN or SIRET (Luhn)."""
    number = digits(value)
    return len(number) in (9, 14) and luhn(number)


def pl_pesel(value: str) -> bool:
    """Whether this is a Polish PESEL."""
    number = digits(value)
    if len(number) != 11 or int(number[4:6]) == 0 or int(number[4:6]) > 31:
        return False
    return (10 - _weighted(number, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == int(number[10])


def nl_bsn(value: str) -> bool:
    """Whether this is a Dutch citizen service number (the eleven test)."""
    number = digits(value).zfill(9)
    return len(number) == 9 and number != "000000000" and _weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def be_national(value: str) -> bool:
    """Whether this is a Belgian national register number (97 - n mod 97, before or after 2000)."""
    number = digits(value)
    if len(number) != 11:
        return False
    check = int(number[9:])
    return 97 - int(number[:9]) % 97 == check or 97 - int("2" + number[:9]) % 97 == check


def fi_hetu(value: str) -> bool:
    """Whether this is a Finnish personal identity code."""
    text = value.strip().upper()
    number = text[:6] + text[7:10]
    return (
        number.isdigit()
        and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number) % 31] == text[-1]
        and 1 <= int(text[:2]) <= 31
    )


def se_personnummer(value: str) -> bool:
    """Whether this is a Swedish personal number (Luhn over ten digits, a month and a day in range)."""
    number = digits(value)[-10:]
    if len(number) != 10 or not 1 <= int(number[2:4]) <= 12:
        return False
    return 1 <= int(number[4:6]) % 60 <= 31 and luhn(number)


def aadhaar(value: str) -> bool:
    """Whether this is an Indian Aadhaar number (Verhoeff)."""
    number = digits(value)
    if len(number) != 12 or number[0] in "01" or number == number[::-1]:
        return False
    check = 0
    for index, char in enumerate(reversed(number)):
        check = _VERHOEFF[check][_PERMUTE[index % 8][int(char)]]
    return check == 0


_VERHOEFF: Final = tuple(
    tuple(int(char) for char in row)
    for row in (
        "0123456789 1234067895 2340178956 3401289567 4012395678 5987604321 6598710432 7659821043 8765932104 9876543210"
    ).split()
)
_PERMUTE: Final = tuple(
    tuple(int(char) for char in row)
    for row in "0123456789 1576283094 5803796142 8916043527 9453126870 4286573901 2793806415 7046913258".split()
)


def ca_sin(value: str) -> bool:
    """Whether this is a Canadian social insurance number."""
    number = digits(value)
    return len(number) == 9 and number[0] not in "08" and luhn(number)


def au_tfn(value: str) -> bool:
    """Whether this is an Australian tax file number."""
    number = digits(value)
    return len(number) == 9 and _weighted(number, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def au_abn(value: str) -> bool:
    """Whether this is an Australian business number."""
    number = digits(value)
    if len(number) != 11 or number[0] == "0":
        return False
    return _weighted(str(int(number[0]) - 1) + number[1:], (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) % 89 == 0


def au_acn(value: str) -> bool:
    """Whether this is an Australian company number."""
    number = digits(value)
    return len(number) == 9 and (10 - _weighted(number, (8, 7, 6, 5, 4, 3, 2, 1)) % 10) % 10 == int(number[8])


def au_medicare(value: str) -> bool:
    """Whether this is an Australian Medicare number."""
    number = digits(value)
    return (
        len(number) in (10, 11)
        and number[0] in "23456"
        and _weighted(number, (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(number[8])
    )


def br_cpf(value: str) -> bool:
    """Whether this is a Brazilian CPF."""
    number = digits(value)
    if len(number) != 11 or len(set(number)) == 1:
        return False
    first = _weighted(number, (10, 9, 8, 7, 6, 5, 4, 3, 2)) * 10 % 11 % 10
    second = _weighted(number, (11, 10, 9, 8, 7, 6, 5, 4, 3, 2)) * 10 % 11 % 10
    return first == int(number[9]) and second == int(number[10])


def ch_ahv(value: str) -> bool:
    """Whether this is a Swiss AHV number (EAN-13 starting with 756)."""
    number = digits(value)
    if len(number) != 13 or not number.startswith("756"):
        return False
    return (10 - _weighted(number, (1, 3) * 6) % 10) % 10 == int(number[12])


def sg_nric(value: str) -> bool:
    """Whether this is a Singapore NRIC or FIN."""
    text = compact(value)
    if len(text) != 9 or not text[1:8].isdigit():
        return False
    total = _weighted(text[1:8], (2, 7, 6, 5, 4, 3, 2)) + (4 if text[0] in "TG" else 3 if text[0] == "M" else 0)
    letters = "JZIHGFEDCBA" if text[0] in "ST" else "XWUTRQPNMLK" if text[0] in "FG" else "KLJNPQRTUWX"
    remainder = total % 11
    return letters[10 - remainder if text[0] == "M" else remainder] == text[8]


def kr_rrn(value: str) -> bool:
    """Whether a Korean resident number has a date and a gender digit in range."""
    number = digits(value)
    return len(number) == 13 and 1 <= int(number[2:4]) <= 12 and 1 <= int(number[4:6]) <= 31 and number[6] in "12345678"


def za_id(value: str) -> bool:
    """Whether this is a South African identity number."""
    number = digits(value)
    return (
        len(number) == 13
        and 1 <= int(number[2:4]) <= 12
        and 1 <= int(number[4:6]) <= 31
        and number[10] in "012"
        and luhn(number)
    )


def th_id(value: str) -> bool:
    """Whether this is a Thai national identity number."""
    number = digits(value)
    return (
        len(number) == 13
        and number[0] != "0"
        and (11 - _weighted(number, tuple(range(13, 1, -1))) % 11) % 10 == int(number[12])
    )


def tr_id(value: str) -> bool:
    """Whether this is a Turkish identity number."""
    number = digits(value)
    if len(number) != 11 or number[0] == "0":
        return False
    values = [int(char) for char in number]
    return (sum(values[0:9:2]) * 7 - sum(values[1:8:2])) % 10 == values[9] and sum(values[:10]) % 10 == values[10]


def npi(value: str) -> bool:
    """Whether this is a US national provider identifier (Luhn with prefix 80840)."""
    number = digits(value)
    return len(number) == 10 and luhn("80840" + number)


def dea(value: str) -> bool:
    """Whether this is a US DEA registration number."""
    text = compact(value)
    number = text[2:]
    if len(number) != 7 or not number.isdigit():
        return False
    total = _weighted(number[0:6:2], (1, 1, 1)) + 2 * _weighted(number[1:6:2], (1, 1, 1))
    return total % 10 == int(number[6])
