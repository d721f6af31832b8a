"""The catalogue of identifiers of people: shapes, checksums and context words, as data.

A row says: entity, shape, how sure the shape alone is, its checksum, how sure a passed checksum is, the context words that
raise the score, and how far. What stays under SCORE_MIN is not reported, so a bare nine-digit number is nobody's social
security number until a word near it says so. Context words are lower case stems in English, German, French, Spanish and
Italian. Entity names are Presidio's where Presidio has one.
"""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent_os.guards.privacy import accounts, checks

SCORE_MIN: Final = 0.4


@dataclass(frozen=True, slots=True)
class Shape:
    """One recogniser: `regex` runs over regions that hold digits; `check` turns `base` into `checked` or drops it."""

    type: str
    regex: str
    base: float
    check: Callable[[str], bool] | None = None
    checked: float = 0.0
    context: str = ""
    boost: float = 0.4
    upper: bool = False
    """Needs a capital letter in the region: skipped for runs of digits alone."""


_D = r"(?<![\w.,-])(?<!\d[ ])"
_B = r"(?<![A-Za-z0-9])"
_E = r"(?![A-Za-z0-9])(?!-\d)"

NUMBERS: Final[tuple[Shape, ...]] = (
    Shape("CREDIT_CARD", r"(?<![\w.+-])(?:\d[ -]?){11,18}\d(?![\w-])(?!\.\d)", 0.0, accounts.card, 0.95),
    Shape("CREDIT_CARD", r"(?<![\w.+-])(?:\d[ -]?){11,18}\d(?![\w-])(?!\.\d)", 0.1, None, 0.0,
          "credit card|card number|card no|my card|kreditkart|kartennummer|carte de cr|num\u00e9ro de carte|mia carta|mi tarjeta|carte bancaire|tarjeta|carta di credito|numero carta|debit card|visa|"
          "mastercard|amex|cc |card ", 0.5),
    Shape("US_SSN", r"(?<![\w.-])\d{3}([- .])\d{2}\1\d{4}(?![\w-])", 0.5, checks.ssn, 0.6, "social security|ssn|soc sec|ss#|ss #|sozialvers", 0.35),
    Shape("US_SSN", r"(?<![\w.-])\d{9}(?![\w.-])", 0.05, checks.ssn, 0.1, "social security|ssn|soc sec|ss#|ssns", 0.65),
    Shape("US_ITIN", r"(?<![\w.-])9\d{2}[- ]?\d{2}[- ]?\d{4}(?![\w-])", 0.1, checks.itin, 0.3, "itin|taxpayer|tax id|tin", 0.5),
    Shape("UK_NHS", r"(?<![\w.-])\d{3}[- ]?\d{3}[- ]?\d{4}(?![\w-])", 0.0, checks.nhs, 0.35, "nhs|national health|health service|patient", 0.5),
    Shape("DE_TAX_ID", r"(?<![\w.-])\d{2}[ ]?\d{3}[ ]?\d{3}[ ]?\d{3}(?![\w-])", 0.0, checks.de_tax_id, 0.45,
          "steuer|tax id|tin|idnr|identifikationsnummer", 0.45),
    Shape("DE_TAX_NUMBER", r"(?<![\w.-])\d{2,3}/\d{3,4}/\d{4,5}(?![\w/-])", 0.1, None, 0.0, "steuernummer|st.-nr|steuer-nr|stnr", 0.6),
    Shape("FR_INSEE", r"(?<![\w.-])[12378] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?![\w-])", 0.0, checks.fr_insee, 0.9,
          "insee|s\u00e9curit\u00e9 sociale|securite sociale|nir|num\u00e9ro de s\u00e9cu", 0.1),
    Shape("FR_SIRET", r"(?<![\w.-])\d{3} ?\d{3} ?\d{3}(?: ?\d{5})?(?![\w-])", 0.0, checks.fr_siret, 0.1, "siret|siren", 0.7),
    Shape("ES_SOCIAL_SECURITY", r"(?<![\w.-])\d{2}[/ -]?\d{7,8}[/ -]?\d{2}(?![\w-])", 0.0, checks.es_social_security, 0.3, "seguridad social|n\u00famero de afiliaci|nuss|naf", 0.6),
    Shape("PL_PESEL", r"(?<![\w.-])\d{11}(?![\w.-])", 0.0, checks.pl_pesel, 0.42, "pesel", 0.5),
    Shape("NL_BSN", r"(?<![\w.-])\d{4}[. ]?\d{2}[. ]?\d{3}(?![\w-])", 0.0, checks.nl_bsn, 0.1, "bsn|burgerservice|sofinummer", 0.7),
    Shape("BE_NATIONAL_NUMBER", r"(?<![\w.-])\d{2}[. ]?\d{2}[. ]?\d{2}[- ]?\d{3}[. ]?\d{2}(?![\w-])", 0.0, checks.be_national, 0.45,
          "rijksregister|registre national|national number|niss|insz", 0.45),
    Shape("SE_PERSONNUMMER", r"(?<![\w.-])(?:19|20)?\d{6}[-+]?\d{4}(?![\w-])", 0.0, checks.se_personnummer, 0.2, "personnummer|personal number", 0.6),
    Shape("SE_PERSONNUMMER", r"(?<![\w.-])(?:19|20)?\d{6}[-+]\d{4}(?![\w-])", 0.0, checks.se_personnummer, 0.6, "personnummer", 0.3),
    Shape("IN_AADHAAR", r"(?<![\w.-])\d{4}([ -]?)\d{4}\1\d{4}(?![\w-])", 0.0, checks.aadhaar, 0.45, "aadhaar|aadhar|uidai", 0.5),
    Shape("CA_SIN", r"(?<![\w.-])\d{3}[- ]\d{3}[- ]\d{3}(?![\w-])", 0.0, checks.ca_sin, 0.45, "social insurance|sin|nas", 0.4),
    Shape("AU_TFN", r"(?<![\w.-])\d{3} ?\d{3} ?\d{3}(?![\w-])", 0.0, checks.au_tfn, 0.15, "tax file|tfn", 0.7),
    Shape("AU_ABN", r"(?<![\w.-])\d{2} ?\d{3} ?\d{3} ?\d{3}(?![\w-])", 0.0, checks.au_abn, 0.25, "abn|business number", 0.6),
    Shape("AU_ACN", r"(?<![\w.-])\d{3} ?\d{3} ?\d{3}(?![\w-])", 0.0, checks.au_acn, 0.1, "acn|company number", 0.7),
    Shape("AU_MEDICARE", r"(?<![\w.-])[2-6]\d{3} ?\d{5} ?\d(?: ?\d)?(?![\w-])", 0.0, checks.au_medicare, 0.2, "medicare", 0.6),
    Shape("BR_CPF", r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w-])", 0.3, checks.br_cpf, 0.9),
    Shape("BR_CPF", r"(?<![\w.-])\d{11}(?![\w.-])", 0.0, checks.br_cpf, 0.1, "cpf", 0.8),
    Shape("CH_AHV", r"(?<![\w.-])756\.?\d{4}\.?\d{4}\.?\d{2}(?![\w-])", 0.0, checks.ch_ahv, 0.9),
    Shape("KR_RRN", r"(?<![\w.-])\d{6}-[1-8]\d{6}(?![\w-])", 0.0, checks.kr_rrn, 0.6, "resident registration|rrn|\uc8fc\ubbfc", 0.3),
    Shape("ZA_ID_NUMBER", r"(?<![\w.-])\d{13}(?![\w.-])", 0.0, checks.za_id, 0.42, "south africa|id number|rsa id", 0.4),
    Shape("TH_TNIN", r"(?<![\w.-])\d-?\d{4}-?\d{5}-?\d{2}-?\d(?![\w-])", 0.0, checks.th_id, 0.3, "thai|national id", 0.4),
    Shape("TR_NATIONAL_ID", r"(?<![\w.-])[1-9]\d{10}(?![\w.-])", 0.0, checks.tr_id, 0.4, "kimlik|tckn|turk", 0.4),
    Shape("US_NPI", r"(?<![\w.-])[12]\d{9}(?![\w.-])", 0.0, checks.npi, 0.1, "npi|national provider|provider id", 0.7),
    Shape("ABA_ROUTING_NUMBER", r"(?<![\w.-])[0-3678]\d{8}(?![\w.-])", 0.0, accounts.aba, 0.1, "routing|aba|rtn", 0.7),
    Shape("US_BANK_NUMBER", r"(?<![\w.-])\d{8,17}(?![\w.-])", 0.05, None, 0.0,
          "bank account|account number|account no|account #|acct|kontonummer|konto|num\u00e9ro de compte|n\u00famero de cuenta|numero di conto|account:"
          "|checking|savings", 0.5),
    Shape("US_PASSPORT", r"(?<![\w.-])\d{9}(?![\w.-])", 0.05, None, 0.0, "passport|passeport|pasaporte|passaporto|reisepass", 0.55),
    Shape("US_DRIVER_LICENSE", r"(?<![\w.-])(?:\d{6,14}|\d{16})(?![\w.-])", 0.01, None, 0.0,
          "driver license|driver's license|drivers license|driving licen|driver licen|driver\u2019s licen|dl#|dl number|cdl|license number is", 0.6),
    Shape("MEDICAL_RECORD_NUMBER", r"(?<![\w.-])\d{5,12}(?![\w.-])", 0.05, None, 0.0,
          "mrn|medical record|patient id|patient number|patient no|chart number|patienten|fallnummer|dossier m\u00e9dical|historia cl\u00ednica", 0.6),
    Shape("HEALTH_INSURANCE_ID", r"(?<![\w.-])\d{8,12}(?![\w.-])", 0.05, None, 0.0, "member id|subscriber id|health insurance|health plan|policy number", 0.5),
    Shape("IMEI", r"(?<![\w.-])\d{2}-?\d{6}-?\d{6}-?\d(?![\w-])", 0.0, accounts.imei, 0.3, "imei|device", 0.6),
)  # fmt: skip

CODES: Final[tuple[Shape, ...]] = (
    Shape("IBAN_CODE", r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{2,4}){2,8}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", 0.0, accounts.iban, 1.0),
    Shape("IBAN_CODE", r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", 0.15, None, 0.0, "iban", 0.4),
    Shape("UK_NINO", r"(?<![A-Za-z0-9])[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?![A-Za-z0-9])", 0.0, checks.nino, 0.6,
          "national insurance|nino|ni number", 0.35),
    Shape("ES_NIF", r"(?<![A-Za-z0-9])\d{7,8}-?[A-HJ-NP-TV-Z](?![A-Za-z0-9])", 0.0, checks.es_nif, 0.6, "dni|nif|documento nacional", 0.35),
    Shape("ES_NIE", r"(?<![A-Za-z0-9])[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z](?![A-Za-z0-9])", 0.0, checks.es_nif, 0.8, "nie|extranjero", 0.2),
    Shape("ES_CIF", r"(?<![A-Za-z0-9])[ABCDEFGHJKLMNPQRSUVW]-?\d{7}-?[0-9A-J](?![A-Za-z0-9])", 0.0, checks.es_cif, 0.42, "cif|nif|empresa", 0.4),
    Shape("IT_FISCAL_CODE",
          r"(?<![A-Za-z0-9])[A-Za-z]{6}[0-9LMNPQRSTUVlmnpqrstuv]{2}[ABCDEHLMPRSTabcdehlmprst][0-9LMNPQRSTUVlmnpqrstuv]{2}[A-Za-z]"
          r"[0-9LMNPQRSTUVlmnpqrstuv]{3}[A-Za-z](?![A-Za-z0-9])", 0.0, checks.it_fiscal_code, 0.95),
    Shape("IT_VAT_CODE", r"(?<![A-Za-z0-9])(?:IT ?)?\d{11}(?![A-Za-z0-9])", 0.0, checks.it_vat, 0.15, "partita iva|p.iva|p. iva|iva", 0.7),
    Shape("IT_PASSPORT", r"(?<![A-Za-z0-9])[A-Z]{2}\d{7}(?![A-Za-z0-9])", 0.05, None, 0.0, "passaporto", 0.6),
    Shape("IT_IDENTITY_CARD", r"(?<![A-Za-z0-9])(?:[A-Z]{2} ?\d{7}|[A-Z]{2}\d{5}[A-Z]{2}|\d{7}[A-Z]{2})(?![A-Za-z0-9])", 0.05, None, 0.0,
          "carta d'identit|carta di identit|carta d\u2019identit", 0.6),
    Shape("IT_DRIVER_LICENSE", r"(?<![A-Za-z0-9])(?:[A-Z]{2}\d{7}[A-Z]|U1[A-Z0-9]{7}[A-Z])(?![A-Za-z0-9])", 0.1, None, 0.0, "patente|guida", 0.5),
    Shape("DE_SOCIAL_SECURITY", r"(?<![A-Za-z0-9])\d{2} ?\d{6} ?[A-Z] ?\d{3}(?![A-Za-z0-9])", 0.0, checks.de_social, 0.75,
          "rentenvers|sozialvers|versicherungsnummer|rvnr|sv-nummer|svnr", 0.2),
    Shape("DE_HEALTH_INSURANCE", r"(?<![A-Za-z0-9])[A-Z]\d{9}(?![A-Za-z0-9])", 0.0, checks.de_health, 0.45,
          "krankenvers|versichertennummer|kvnr|krankenkasse|gesundheitskarte", 0.45),
    Shape("DE_ID_CARD", r"(?<![A-Za-z0-9])[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8}(?:\d|D)?(?![A-Za-z0-9])", 0.0, checks.icao, 0.2,
          "personalausweis|ausweis|identity card|id card|npa", 0.6),
    Shape("DE_PASSPORT", r"(?<![A-Za-z0-9])[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{7}[0-9](?![A-Za-z0-9])", 0.0, checks.icao, 0.15,
          "reisepass|passnummer|pass-nr|passport", 0.65),
    Shape("DE_VAT_ID", r"(?<![A-Za-z0-9])DE ?\d{9}(?![A-Za-z0-9])", 0.42, None, 0.0, "ust|umsatzsteuer|vat", 0.45),
    Shape("DE_KFZ", r"(?<![\w-])[A-Z\u00c4\u00d6\u00dc]{1,3}[- ][A-Z]{1,2}[- ]\d{1,4}[EH]?(?![\w-])", 0.1, None, 0.0,
          "kennzeichen|nummernschild|kfz|fahrzeug|license plate|number plate|licence plate|plate", 0.5),
    Shape("DE_FUEHRERSCHEIN", r"(?<![A-Za-z0-9])[A-Z0-9]\d{2}[A-Z0-9]{6}\d[A-Z0-9](?![A-Za-z0-9])", 0.05, None, 0.0, "f\u00fchrerschein|fahrerlaubnis", 0.6),
    Shape("ES_PASSPORT", r"(?<![A-Za-z0-9])[A-Z]{3}\d{6}[A-Z]?(?![A-Za-z0-9])", 0.05, None, 0.0, "pasaporte", 0.6),
    Shape("FR_PASSPORT", r"(?<![A-Za-z0-9])\d{2}[A-Z]{2}\d{5}(?![A-Za-z0-9])", 0.1, None, 0.0, "passeport|passport", 0.6),
    Shape("FR_ID_CARD", r"(?<![A-Za-z0-9])(?:\d{12}|[A-Z0-9]{9})(?![A-Za-z0-9])", 0.02, None, 0.0, "carte d'identit|carte d\u2019identit|cni|carte nationale", 0.6),
    Shape("FR_VAT_ID", r"(?<![A-Za-z0-9])FR ?[A-Z0-9]{2} ?\d{9}(?![A-Za-z0-9])", 0.45, None, 0.0, "tva|vat", 0.4),
    Shape("FI_PERSONAL_IDENTITY_CODE", r"(?<![A-Za-z0-9])\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y](?![A-Za-z0-9])", 0.0, checks.fi_hetu, 0.8),
    Shape("SG_NRIC_FIN", r"(?<![A-Za-z0-9])[STFGM]\d{7}[A-Z](?![A-Za-z0-9])", 0.0, checks.sg_nric, 0.8, "nric|fin", 0.2),
    Shape("IN_PAN", r"(?<![A-Za-z0-9])[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z](?![A-Za-z0-9])", 0.6, None, 0.0, "pan|income tax|permanent account", 0.3),
    Shape("IN_VOTER", r"(?<![A-Za-z0-9])[A-Z]{3}\d{7}(?![A-Za-z0-9])", 0.05, None, 0.0, "voter|epic|election", 0.6),
    Shape("IN_PASSPORT", r"(?<![A-Za-z0-9])[A-PR-WY][1-9]\d{6}(?![A-Za-z0-9])", 0.05, None, 0.0, "passport|indian passport", 0.5),
    Shape("MEDICAL_LICENSE", r"(?<![A-Za-z0-9])[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}(?![A-Za-z0-9])", 0.0, checks.dea, 0.6, "dea|medical|license|certificate", 0.35),
    Shape("US_MBI", r"(?<![A-Za-z0-9])[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d{2}(?![A-Za-z0-9])",
          0.5, None, 0.0, "medicare|mbi|beneficiary", 0.4),
    Shape("US_PASSPORT", r"(?<![A-Za-z0-9])[A-Z]\d{8}(?![A-Za-z0-9])", 0.1, None, 0.0, "passport|travel document", 0.6),
    Shape("UK_PASSPORT", r"(?<![A-Za-z0-9])[A-Z]{2}\d{7}(?![A-Za-z0-9])", 0.1, None, 0.0, "passport|travel document", 0.5),
    Shape("UK_DRIVING_LICENCE", r"(?<![A-Za-z0-9])[A-Z9]{5}\d(?:0[1-9]|1[0-2]|5[1-9]|6[0-2])(?:0[1-9]|[12]\d|3[01])\d[A-Z9]{2}[A-Z0-9][A-Z]{2}(?![A-Za-z0-9])",
          0.7, None, 0.0, "driving|dvla|licence", 0.25),
    Shape("US_DRIVER_LICENSE", r"(?<![A-Za-z0-9])(?:[A-Z]{1,3}\d{3,14}(?:[A-Z]\d{0,3})?|\d{2,3}[A-Z]{2,3}\d{3,6}|[A-Z]\d{3}-\d{3,4}-\d{2,4}-\d{3,4}(?:-\d)?)(?![A-Za-z0-9])",
          0.02, None, 0.0,
          "driver license|driver's license|drivers license|driving licen|driver licen|driver\u2019s licen|dl#|dl number|cdl|license number is", 0.6),
    Shape("UK_VEHICLE_REGISTRATION", r"(?<![A-Za-z0-9])[A-HJ-PR-Y]{2}(?:0[1-9]|[1-7]\d)[- ]?[A-HJ-PR-Z]{3}(?![A-Za-z0-9])", 0.2, None, 0.0,
          "vehicle|registration|plate|reg |vrn|dvla|car ", 0.5),
    Shape("LICENSE_PLATE", r"(?<![A-Za-z0-9])(?:[A-Z]{2}-\d{3}-[A-Z]{2}|[A-Z]{2} ?\d{3} ?[A-Z]{2}|\d{4} ?[BCDFGHJKLMNPRSTVWXYZ]{3}|[A-Z]{3}[- ]?\d{3,4}|\d[A-Z]{3}\d{3})(?![A-Za-z0-9])",
          0.1, None, 0.0, "plate|licence plate|plaque|immatriculation|matr\u00edcula|matricula|targa|kennzeichen|vehicle", 0.5),
    Shape("VIN", r"(?<![A-Za-z0-9])[A-HJ-NPR-Z0-9]{17}(?![A-Za-z0-9])", 0.0, accounts.vin, 0.7, "vin|vehicle|chassis|fahrgestell", 0.25),
    Shape("MEDICAL_RECORD_NUMBER", r"(?<![A-Za-z0-9])(?:MRN|PAT|PT)[-:# ]{0,2}(?=[A-Z0-9]{0,9}\d)[A-Z0-9]{5,12}(?![A-Za-z0-9])", 0.6, None, 0.0, "patient|medical", 0.3),
    Shape("MEDICAL_RECORD_NUMBER", r"(?<![A-Za-z0-9])[A-Z]{1,3}-?\d{5,10}(?![A-Za-z0-9])", 0.05, None, 0.0, "mrn|medical record|patient id|patient number|chart", 0.6),
    Shape("CRYPTO", r"(?<![A-Za-z0-9])(?:bc1|tb1|ltc1)[a-z0-9]{25,87}(?![A-Za-z0-9])", 0.0, accounts.crypto_address, 0.95),
    Shape("CRYPTO", r"(?<![A-Za-z0-9])[13LMDT][1-9A-HJ-NP-Za-km-z]{25,34}(?![A-Za-z0-9])", 0.0, accounts.crypto_address, 0.95),
    Shape("CRYPTO", r"(?<![A-Za-z0-9])0x[a-fA-F0-9]{40}(?![A-Za-z0-9])", 0.0, accounts.crypto_address, 0.8),
    Shape("UK_POSTCODE", r"(?<![A-Za-z0-9])(?:GIR ?0AA|[A-PR-UWYZ](?:\d{1,2}|[A-HK-Y]\d|[A-HK-Y]\d\d|\d[A-Z]|[A-HK-Y]\d[A-Z]) \d[ABD-HJLNP-UW-Z]{2})(?![A-Za-z0-9])",
          0.3, None, 0.0, "postcode|post code|address|postal", 0.4),
)  # fmt: skip
