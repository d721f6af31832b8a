"""Checksums of accounts and things: cards, IBANs, bank and crypto addresses, vehicles, devices. Pure; people are in `checks`.

Each function takes the candidate as written (separators allowed) and returns whether its own check holds. Sources: ISO/IEC 7812
(Luhn), ISO 13616 (IBAN), ISO 3779 (VIN), BIP 173 and 350 (bech32).
"""

from __future__ import annotations

import hashlib
from typing import Final

from agent_os.guards.privacy.checks import _weighted, compact, digits, luhn

IBAN_LENGTHS: Final = dict(
    item.split(":")
    for item in (
        "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DJ:27 DK:18 "
        "DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HN:28 HR:21 HU:28 IE:22 IL:23 "
        "IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MN:20 MR:27 "
        "MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 RU:33 SA:24 SC:31 SD:18 SE:24 SI:19 "
        "SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20 YE:30"
    ).split()
)


def card(value: str) -> bool:
    """Whether this is a payment card number: an issuer's prefix, 12 to 19 digits, Luhn."""
    number = digits(value)
    return 12 <= len(number) <= 19 and number[0] in "23456" and luhn(number)


def iban(value: str) -> bool:
    """Whether this is an IBAN: a known country with its length and ISO 7064 mod 97-10."""
    text = compact(value)
    if IBAN_LENGTHS.get(text[:2]) != str(len(text)) or not text.isascii() or not text.isalnum():
        return False
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def iban_check_digits(country: str, account: str) -> str:
    """Return the two check digits that make `country` + digits + `account` a valid IBAN."""
    number = int("".join(str(int(char, 36)) for char in account + country + "00"))
    return f"{98 - number % 97:02d}"


def aba(value: str) -> bool:
    """Whether this is a US bank routing number."""
    number = digits(value)
    return len(number) == 9 and number != "000000000" and _weighted(number, (3, 7, 1) * 3) % 10 == 0


def vin(value: str) -> bool:
    """Whether this is a vehicle identification number with a valid check digit (ISO 3779, 49 CFR 565)."""
    text = compact(value)
    if len(text) != 17 or not any(char.isdigit() for char in text):
        return False
    total = 0
    for char, weight in zip(text, (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2), strict=True):
        place = "0123456789.ABCDEFGH..JKLMN.P.R..STUVWXYZ".find(char)
        if place < 0:
            return False
        total += place % 10 * weight
    return "0123456789X"[total % 11] == text[8]


def imei(value: str) -> bool:
    """Whether this is a device's IMEI (fifteen digits, Luhn)."""
    number = digits(value)
    return len(number) == 15 and luhn(number)


_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58check(value: str) -> bool:
    """Whether this is Base58Check with a valid double SHA-256 checksum (Bitcoin, Litecoin, Tron, Dogecoin)."""
    number = 0
    for char in value:
        place = _BASE58.find(char)
        if place < 0:
            return False
        number = number * 58 + place
    try:
        data = number.to_bytes(25, "big")
    except OverflowError:
        return False
    return hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4] == data[-4:]


_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bech32(value: str) -> bool:
    """Whether this is a Bech32 or Bech32m address (BIP 173, BIP 350)."""
    text = value.lower()
    prefix, _, data = text.rpartition("1")
    if not prefix or len(data) < 7 or any(char not in _BECH32 for char in data):
        return False
    values = [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]
    values += [_BECH32.index(char) for char in data]
    check = 1
    for item in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ item
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return check in (1, 0x2BC830A3)


def crypto_address(value: str) -> bool:
    """Whether this is a cryptocurrency address whose checksum holds."""
    if value.startswith("0x"):
        return len(set(value[2:].lower())) > 4
    return bech32(value) if value.lower().startswith(("bc1", "ltc1", "tb1")) else base58check(value)


def ipv4(value: str) -> bool:
    """Whether four decimal octets are in range and not 0.0.0.0-like."""
    parts = value.split(".")
    return len(parts) == 4 and all(part.isdigit() and len(part) < 4 and int(part) < 256 for part in parts)
