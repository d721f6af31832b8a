"""Values by the name of the field they stand in: JSON, YAML, INI, headers, CSV and tables, XML, form-like text. Pure.

A column called `ssn` makes nine digits a social security number, and `patient_name` makes two words a person. The value must still
look like what its field promises, so that `name: my-package` is no person. Threat: data that has no shape of its own in the
places where most of it stands, in structured payloads.
"""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from agent_os.core.facts import Finding

FIELD_CHARS_MAX: Final = 60
VALUE_CHARS_MAX: Final = 300
COLUMNS_MAX: Final = 200
_NAMES: Final[dict[str, str]] = {
    "PERSON": "firstname lastname surname givenname familyname fullname middlename maidenname customername clientname patientname employeename username_full contactname accountholder "
    "cardholder cardholdername holdername beneficiaryname recipientname sendername ownername guardianname doctorname physician manager_name "
    "vorname nachname familienname kundenname patientenname inhaber kontoinhaber nom prenom nomcomplet nomclient nombre apellido apellidos nombrecompleto nomecognome cognome nome "
    "nombrecliente fname lname legalname displayname",
    "EMAIL_ADDRESS": "email emailaddress mail mailaddress courriel correo correoelectronico emailadresse",
    "PHONE_NUMBER": "phone phonenumber telephone tel mobile mobilephone mobilenumber cell cellphone fax faxnumber homephone workphone telefon telefonnummer handy mobilnummer "
    "numerotelephone telefono movil cellulare contactnumber",
    "US_SSN": "ssn socialsecurity socialsecuritynumber socsec",
    "CREDIT_CARD": "card cardnumber creditcard creditcardnumber ccnumber ccnum pan debitcard kreditkarte kreditkartennummer cartebancaire tarjeta cartadicredito",
    "CREDIT_CARD_CVV": "cvv cvc cvv2 cvc2 cardcode securitycode cid",
    "IBAN_CODE": "iban ibannumber bankiban",
    "US_BANK_NUMBER": "accountnumber bankaccount acctnumber accountno acct kontonummer numerocuenta numerodeconto",
    "DATE_TIME": "dob dateofbirth birthdate birthday birth geburtsdatum geburtstag datenaissance datedenaissance fechanacimiento fechadenacimiento datadinascita",
    "LOCATION": "address streetaddress street homeaddress mailingaddress billingaddress shippingaddress addressline1 addressline2 address1 address2 city town zip zipcode postcode postalcode "
    "adresse strasse wohnort plz ort anschrift ville codepostal rue direccion calle ciudad codigopostal indirizzo via citta cap residence",
    "US_PASSPORT": "passport passportnumber passportno reisepass reisepassnummer passeport pasaporte passaporto",
    "US_DRIVER_LICENSE": "driverlicense driverslicense driverlicensenumber drivinglicence dlnumber fuehrerschein permisconduire",
    "MEDICAL_RECORD_NUMBER": "mrn medicalrecord medicalrecordnumber patientid patientnumber patientennummer",
    "HEALTH_INSURANCE_ID": "insuranceid memberid healthinsurance versichertennummer numerosecu tessera",
    "TAX_ID": "taxid taxidnumber tin steuerid steuernummer steueridentifikationsnummer nif dni nie codicefiscale fiscalcode numerofiscal vatid",
    "NATIONAL_ID": "nationalid nationalidnumber idnumber personalid idcard personalausweis ausweisnummer cni insee nir nino nationalinsurance aadhaar pesel bsn cpf",
    "LICENSE_PLATE": "licenseplate plate platenumber kennzeichen immatriculation matricula targa",
    "IP_ADDRESS": "ip ipaddress clientip remoteaddr remoteip sourceip",
    "MAC_ADDRESS": "mac macaddress",
    "SECRET_PASSWORD": "password passwd pwd passphrase passwort kennwort motdepasse contrasena dbpassword",
    "SECRET_TOKEN": "token accesstoken refreshtoken authtoken bearertoken sessiontoken",
    "SECRET_API_KEY": "apikey secretkey accesskey privatekey encryptionkey signingkey",
    "SECRET_SECRET": "secret clientsecret appsecret sharedsecret",
    "SALARY": "salary annualsalary gehalt salaire salario stipendio",
    "NRP": "nationality ethnicity religion nationalitaet staatsangehoerigkeit nationalite nacionalidad nazionalita",
}  # fmt: skip
TYPES: Final[dict[str, str]] = {word: kind for kind, words in _NAMES.items() for word in words.replace("_", "").split()}
KINDS: Final = frozenset(_NAMES)
_GENERIC_NAME: Final = frozenset(
    {
        "name",
        "nome",
        "nombre",
        "nom",
        "customer",
        "patient",
        "employee",
        "contact",
        "to",
        "from",
        "kunde",
        "client",
        "author",
        "owner",
        "attendee",
    }
)
_FOLD: Final = str.maketrans(
    "\u00e4\u00f6\u00fc\u00e9\u00e8\u00ea\u00e0\u00e1\u00f3\u00ed\u00fa\u00f1\u00e7", "aoueeeaaoiunc"
)
_NOTHING: Final = re.compile(
    r"(?i)^(?:null|none|nil|true|false|undefined|n/?a|unknown|string|str|int|number|text|yes|no|-+|\.+|x+|\*+|<.*>|\$.*|\{.*|.*\(.*|\[.*|todo|tbd|redacted|required|optional)$"
)
_DIGITS: Final = re.compile(r"\d")
_NAME_VALUE: Final = re.compile(r"[^\W\d_][\w'\u2019.-]*(?:[ ,]{1,2}[^\W\d_][\w'\u2019.-]*){0,4}")
_SEPARATOR: Final = re.compile(r"[ \t]{0,3}(?::|=>|=)(?![:=/])[ \t]{0,3}")
_KEY: Final = re.compile(
    r"(?:^|[^\w\u00c0-\u017f.])[\"']?([A-Za-z\u00c0-\u017f][\w\u00c0-\u017f-]{0,38}(?: [\w\u00c0-\u017f-]{1,20}){0,3})[\"']?\]?$"
)
_VALUE: Final = re.compile(
    r"(?P<q>[\"'`])(?P<quoted>(?:[^\"'`\\\n]|\\.){1,300}?)(?P=q)|(?P<number>-?\d[\d.]{2,40})(?=[\s,}\])])|(?P<plain>[^\s\"'`{\[(,;][^\n\"`{},;<>]{0,119})"
)
_TAG: Final = re.compile(r"<(?P<key>[A-Za-z][\w:-]{1,40})(?: [^<>]{0,80})?>(?P<value>[^<>\n]{2,200})</")


@lru_cache(maxsize=4096)
def field_type(name: str) -> str:
    """Return the entity a field's name promises, or an empty text. `Customer-SSN`, `customerSsn` and `ssn` are one."""
    parts = [
        part.lower().translate(_FOLD) for part in re.findall(r"[A-Z]?[a-z\u00df-\u017f]+|[A-Z]+(?![a-z])|\d+", name)
    ]
    for size in range(len(parts), 0, -1):
        for start in range(len(parts) - size, -1, -1):
            joined = "".join(parts[start : start + size])
            kind = TYPES.get(joined)
            if kind and (
                start + size == len(parts)
                or (len(joined) > 3 and parts[-1] in ("number", "no", "nr", "id", "value", "1", "2", "str", "text"))
            ):
                return kind
    return "NAME" if parts and (parts[-1] in _GENERIC_NAME and len(parts) <= 2) else ""


def field_findings(text: str, lowered: str) -> list[Finding]:
    """Return findings of one text by its fields' names; `lowered` is the text in lower case, of the same length."""
    found: list[Finding] = []
    if ":" in text or "=" in text:
        for mark in _SEPARATOR.finditer(text):
            key = _KEY.search(text, max(0, mark.start() - FIELD_CHARS_MAX), mark.start())
            kind = field_type(key.group(1)) if key else ""
            match = _VALUE.match(text, mark.end()) if kind else None
            if match is not None:
                group = "quoted" if match.group("quoted") else "number" if match.group("number") else "plain"
                item = judged(kind, text, match.start(group), match.end(group), quoted=group != "plain")
                if item is not None:
                    found.append(item)
    if "</" in text:
        for match in _TAG.finditer(text):
            kind = field_type(match.group("key"))
            item = judged(kind, text, match.start("value"), match.end("value"), quoted=True) if kind else None
            if item is not None:
                found.append(item)
    found.extend(_tables(text))
    return found


def judged(kind: str, text: str, start: int, end: int, *, quoted: bool) -> Finding | None:
    """Return the finding of a value whose field promises `kind`, or None if it does not look like it."""
    value = text[start:end]
    start += len(value) - len(value.lstrip())
    value = value.strip().rstrip(",;")
    end = start + len(value)
    if len(value) < 2 or _NOTHING.match(value):
        return None
    count = len(_DIGITS.findall(value))
    if kind == "NAME":
        words = value.split()
        if not (2 <= len(words) <= 4 and all(word[0].isupper() for word in words) and _NAME_VALUE.fullmatch(value)):
            return None
        if not quoted and text[end : end + 1] in ("(", ".", "[", "="):
            return None
        return Finding("PERSON", start, end, 0.5, "field")
    if kind == "PERSON":
        good = bool(_NAME_VALUE.fullmatch(value)) and any(char.isupper() for char in value[:1]) and "_" not in value
        if not quoted and (text[end : end + 1] in ("(", ".", "[", "=") or (value[0].isupper() and "." in value)):
            return None
        return Finding(kind, start, end, 0.7, "field") if good and len(value) <= 60 else None
    if kind == "LOCATION":
        good = quoted or (value[0].isupper() or count >= 3)
        good = (
            good
            and not re.search(r"[{}()\[\]=\\@_]|://|^\d{1,3}\.\d", value)
            and (any(char.isupper() for char in value) or count >= 4)
        )
        return Finding(kind, start, end, 0.6, "field") if good else None
    if kind == "NRP":
        return (
            Finding(kind, start, end, 0.6, "field") if value.replace(" ", "").isalpha() and value[0].isupper() else None
        )
    if kind == "SALARY":
        return Finding(kind, start, end, 0.6, "field") if count >= 4 else None
    if kind.startswith("SECRET_"):
        good = (
            quoted
            and len(value) >= 8
            and count >= 1
            and any(char.isalpha() for char in value)
            and " " not in value
            and not value.isdigit()
        )
        good = good and not re.fullmatch(r"[a-z_.]+\d?|[A-Z_]+", value)
        return Finding(kind, start, end, 0.7, "field") if good and "/" not in value[:1] else None
    if kind == "EMAIL_ADDRESS":
        return Finding(kind, start, end, 0.7, "field") if "@" in value and " " not in value else None
    if kind == "CREDIT_CARD_CVV":
        return Finding(kind, start, end, 0.7, "field") if re.fullmatch(r"\d{3,4}", value) else None
    if kind == "DATE_TIME":
        return Finding(kind, start, end, 0.9, "field") if 4 <= count <= 14 and len(value) <= 40 else None
    if kind in ("IP_ADDRESS", "MAC_ADDRESS"):
        return None  # their own shape is proof enough where it is there
    least = {"US_SSN": 9, "CREDIT_CARD": 12, "PHONE_NUMBER": 7, "IBAN_CODE": 12, "LICENSE_PLATE": 1}.get(kind, 4)
    good = (
        count >= least
        and len(value) <= 45
        and bool(re.fullmatch(r"[\w .+()/-]+", value))
        and not re.search(r"[a-z]{4,}", value)
    )
    return Finding(kind, start, end, 0.75, "field") if good else None


# ---- tables ---------------------------------------------------------------------------------------------------------


def _tables(text: str) -> Iterator[Finding]:
    """CSV, TSV, semicolon and Markdown tables: a line whose cells are field names types the cells below it."""
    if "\n" not in text:
        return
    columns: list[str] = []
    separator = ""
    place = 0
    for line in text.split("\n"):
        if columns:
            cells = _cells(line, separator)
            if abs(len(cells) - len(columns)) <= 1 and len(cells) > 1:
                for kind, (start, end) in zip(columns, cells, strict=False):
                    if kind and end > start:
                        item = judged(kind, text, place + start, place + end, quoted=True)
                        if item is not None:
                            yield item
            elif line.strip(" |-+:"):
                columns = []
        if not columns and len(line) < 4000:
            separator = next((char for char in ("\t", "|", ";", ",") if line.count(char) >= 1), "")
            if separator:
                cells = _cells(line, separator)
                names = [line[start:end] for start, end in cells][:COLUMNS_MAX]
                kinds = [
                    field_type(name) if re.fullmatch(r"[\w .\u00c0-\u017f-]{1,40}", name) and not name.isdigit() else ""
                    for name in names
                ]
                if sum(bool(kind) for kind in kinds) >= (2 if separator == "," else 1) and all(
                    len(name) < 41 for name in names
                ):
                    columns = kinds
        place += len(line) + 1


def _cells(line: str, separator: str) -> list[tuple[int, int]]:
    """Return the ranges of the cells of a line, without quotes and blanks around them."""
    cells: list[tuple[int, int]] = []
    start, quoted = 0, False
    for place, char in enumerate(line):
        if char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            cells.append((start, place))
            start = place + 1
    cells.append((start, len(line)))
    result = []
    for first, last in cells:
        while first < last and line[first] in " \t\"'\r":
            first += 1
        while last > first and line[last - 1] in " \t\"'\r":
            last -= 1
        result.append((first, last))
    if separator == "|" and result and result[0][0] == result[0][1]:
        result = result[1:]
    if separator == "|" and result and result[-1][0] == result[-1][1]:
        result = result[:-1]
    return result
