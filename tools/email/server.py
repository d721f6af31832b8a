"""Mail over SMTP and IMAP. Servers come from SMTP_HOST, SMTP_PORT, IMAP_HOST, IMAP_PORT, MAIL_FROM, MAIL_USER.

They are the only hosts this server may reach, and must be endpoints of the policy. MAIL_PASSWORD is a placeholder: at an endpoint with
`login: smtp` or `login: imap` the egress guard logs in with the secret, which is never in here.
"""

from __future__ import annotations

import email
import email.message
import email.policy
import imaplib
import os
import smtplib
import ssl
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from serving import ToolError, serve, tool

TEXT_MAX = 100_000
ADDRESS = {"type": "string", "pattern": "^[^@\\s,;<>]+@[^@\\s,;<>]+$", "maxLength": 320}


def setting(name: str, default: str | None = None) -> str:
    """Return a variable of this server's. Raises ToolError where the operator has not set it."""
    value = os.environ.get(name, default)
    if value is None:
        raise ToolError(f"{name} is not set for this tool server")
    return value


@tool("Send a plain-text mail.",
      {"recipients": {"type": "array", "items": ADDRESS, "minItems": 1, "maxItems": 50}, "subject": {"type": "string", "maxLength": 500},
       "body": {"type": "string", "maxLength": 1_000_000}}, ["recipients", "subject", "body"])  # fmt: skip
def send_email(recipients: Sequence[str], subject: str, body: str) -> dict[str, Any]:
    if any(char in subject for char in "\r\n"):
        raise ToolError("the subject must be one line")
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["From"], message["To"], message["Subject"] = setting("MAIL_FROM"), ", ".join(recipients), subject
    message.set_content(body)
    port = int(setting("SMTP_PORT", "587"))
    context = ssl.create_default_context()
    refused: dict[str, Any]
    try:
        server: smtplib.SMTP
        if port == 465:
            server = smtplib.SMTP_SSL(setting("SMTP_HOST"), port, timeout=30, context=context)
        else:
            server = smtplib.SMTP(setting("SMTP_HOST"), port, timeout=30)
        with server:
            server.ehlo()
            if port != 465 and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
            if os.environ.get("MAIL_USER"):
                server.login(setting("MAIL_USER"), setting("MAIL_PASSWORD"))
            refused = server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        refused = error.recipients
    except smtplib.SMTPResponseException as error:
        text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        raise ToolError(f"the mail server says {error.smtp_code}: {text}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise ToolError(f"the mail server was not reached or broke off: {error}") from None
    return {"sent": len(recipients) - len(refused), "refused": sorted(refused)}


def mailbox() -> imaplib.IMAP4:
    """Return the mailbox, logged in. Raises ToolError saying what the server said."""
    port = int(setting("IMAP_PORT", "993"))
    context = ssl.create_default_context()
    box: imaplib.IMAP4
    try:
        if port == 993:
            box = imaplib.IMAP4_SSL(setting("IMAP_HOST"), port, timeout=30, ssl_context=context)
        else:
            box = imaplib.IMAP4(setting("IMAP_HOST"), port, timeout=30)
            if "STARTTLS" in box.capabilities:
                box.starttls(context)
        box.login(setting("MAIL_USER"), setting("MAIL_PASSWORD"))
    except (imaplib.IMAP4.error, OSError) as error:
        raise ToolError(f"no login at the mail server: {error}") from None
    return box


@tool("List the newest mails of a folder: id, from, subject, date.",
      {"folder": {"type": "string", "pattern": "^[A-Za-z0-9._/ -]+$", "maxLength": 200}, "limit": {"type": "integer", "minimum": 1, "maximum": 200}})  # fmt: skip
def list_emails(folder: str = "INBOX", limit: int = 20) -> dict[str, Any]:
    box = mailbox()
    try:
        status, _ = box.select(f'"{folder}"', readonly=True)
        if status != "OK":
            raise ToolError(f"no folder {folder}")
        ids = box.uid("search", "ALL")[1][0].split()[-limit:]
        mails = []
        for number in reversed(ids):
            head = box.uid("fetch", number, "(BODY.PEEK[HEADER.FIELDS (FROM SUBJECT DATE)])")[1][0][1]
            parsed = email.message_from_bytes(head, policy=email.policy.default)
            mails.append(
                {
                    "id": number.decode(),
                    "from": str(parsed["From"]),
                    "subject": str(parsed["Subject"]),
                    "date": str(parsed["Date"]),
                }
            )
        return {"emails": mails}
    finally:
        box.logout()


@tool(
    "Read one mail by its id.",
    {"id": {"type": "string", "pattern": "^[0-9]+$"}, "folder": {"type": "string", "pattern": "^[A-Za-z0-9._/ -]+$"}},
    ["id"],
)
def read_email(id: str, folder: str = "INBOX") -> dict[str, Any]:
    box = mailbox()
    try:
        status, _ = box.select(f'"{folder}"', readonly=True)
        if status != "OK":
            raise ToolError(f"no folder {folder}")
        found = box.uid("fetch", id, "(BODY.PEEK[])")[1]
        if not found or not isinstance(found[0], tuple):
            raise ToolError(f"no mail {id}")
        parsed = email.message_from_bytes(found[0][1], policy=email.policy.default)
        body = parsed.get_body(preferencelist=("plain", "html"))
        names = [part.get_filename() or "unnamed" for part in parsed.iter_attachments()]
        return {"from": str(parsed["From"]), "to": str(parsed["To"]), "subject": str(parsed["Subject"]), "date": str(parsed["Date"]),
                "body": body.get_content()[:TEXT_MAX] if body else "", "attachments": names}  # fmt: skip
    finally:
        box.logout()


if __name__ == "__main__":
    serve()
