"""Checksums accept published examples and refuse the same with one digit changed."""

from __future__ import annotations

import pytest

from agent_os.guards.privacy import accounts, checks

GOOD = [
    (accounts.card, "4111 1111 1111 1111"),
    (accounts.card, "378282246310005"),
    (accounts.iban, "DE89 3704 0044 0532 0130 00"),
    (accounts.iban, "GB82WEST12345698765432"),
    (accounts.iban, "FR1420041010050500013M02606"),
    (checks.nhs, "943 476 5919"),
    (checks.es_nif, "12345678Z"),
    (checks.es_nif, "X1234567L"),
    (checks.de_tax_id, "86095742719"),
    (checks.it_fiscal_code, "RSSMRA85T10A562S"),
    (checks.fr_insee, "2 55 08 14 168 025 38"),
    (checks.pl_pesel, "44051401359"),
    (checks.nl_bsn, "111222333"),
    (checks.fi_hetu, "131052-308T"),
    (checks.se_personnummer, "811228-9874"),
    (checks.aadhaar, "2341 2341 2346"),
    (checks.ca_sin, "130 692 544"),
    (checks.au_tfn, "123 456 782"),
    (checks.au_abn, "51 824 753 556"),
    (checks.br_cpf, "529.982.247-25"),
    (checks.ch_ahv, "756.9217.0769.85"),
    (checks.sg_nric, "S1234567D"),
    (checks.tr_id, "10000000146"),
    (checks.npi, "1234567893"),
    (accounts.aba, "021000021"),
    (checks.dea, "AB1234563"),
    (accounts.vin, "1HGCM82633A004352"),
    (accounts.imei, "490154203237518"),
    (checks.be_national, "85.07.30-033.28"),
    (checks.de_social, "65 170839 J 003"),
    (checks.de_health, "A123456780"),
    (accounts.base58check, "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"),
    (accounts.bech32, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
    (checks.icao, "L898902C36"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "value"), GOOD, ids=lambda item: getattr(item, "__name__", item))
def test_published_examples_pass(check, value) -> None:
    """An identifier from its authority's documentation passes its check."""
    assert check(value)


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, value in GOOD])
def test_one_changed_digit_fails(check, value) -> None:
    """A changed digit breaks the check."""
    place = max(index for index, char in enumerate(value) if char.isdigit())
    changed = value[:place] + str((int(value[place]) + 1) % 10) + value[place + 1 :]
    assert not check(changed)


@pytest.mark.parametrize("value", ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000"])
def test_social_security_numbers_never_issued(value: str) -> None:
    """Areas, groups and serials that are never issued are no social security number."""
    assert not checks.ssn(value)
    assert checks.ssn("536-22-1234")


def test_iban_check_digits_make_a_valid_iban() -> None:
    """The computed check digits pass the check."""
    assert accounts.iban("DE" + accounts.iban_check_digits("DE", "370400440532013000") + "370400440532013000")
