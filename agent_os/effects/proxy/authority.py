"""The per-install certificate authority, and the TLS contexts of the guard.

Its key is in the state directory (`ca/ca.key`, 0600, outside every workspace and sandbox); a key that others may read
is refused. Leaf keys live in memory only, leaf certificates for a week. Verification of upstreams cannot be switched
off: extra roots can be added, pins and a higher TLS version can be asked for. Threat: an interception CA that leaks,
and an intercepting proxy that accepts what the client would have refused. RFC 5280, CA/Browser Forum validity limits.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
import ssl
import stat
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent_os.core.errors import IntegrityError
from agent_os.effects.proxy.limits import LEAF_CONTEXTS_MAX

CA_DAYS: Final = 730
LEAF_DAYS: Final = 7
RENEW_DAYS: Final = 30
_SKEW: Final = dt.timedelta(hours=1)
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class CertificateAuthority:
    """Issues leaf certificates for intercepted hosts."""

    def __init__(self, folder: Path, *, roots: Path | None = None) -> None:
        """Open or create the CA in `folder`. `roots`: PEM file of extra upstream roots, which clients trust too.

        Raises IntegrityError when the key or the folder can be read or written by others.
        """
        self.folder, self.roots = folder, roots
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _private(folder)
        self._key, self.certificate = self._load() or self._create()
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: OrderedDict[str, tuple[ssl.SSLContext, dt.datetime]] = OrderedDict()

    @property
    def certificate_path(self) -> Path:
        """The CA certificate alone (PEM)."""
        return self.folder / "ca.pem"

    @property
    def bundle_path(self) -> Path:
        """The CA certificate and the system's roots (PEM): what clients in a sandbox are told to trust."""
        return self.folder / "bundle.pem"

    def _load(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
        key_path = self.folder / "ca.key"
        if not key_path.exists() or not self.certificate_path.exists():
            return None
        _private(key_path)
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise IntegrityError("ca/ca.key and ca/ca.pem do not belong together")
        if certificate.not_valid_after_utc < _now() + dt.timedelta(days=RENEW_DAYS):
            return None
        self._write_bundle(certificate)
        return key, certificate

    def _create(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        name = x509.Name([
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Agent OS"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Agent OS egress guard {identifier.digest.hex()[:8]}"),
        ])  # fmt: skip
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() - _SKEW)
            .not_valid_after(_now() + dt.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _replace(self.folder / "ca.key", pem, 0o600)
        _replace(self.certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        self._write_bundle(certificate)
        return key, certificate

    def _write_bundle(self, certificate: x509.Certificate) -> None:
        parts = [certificate.public_bytes(serialization.Encoding.PEM)]
        system = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
        for path in (Path(system), self.roots):
            if path is not None and path.exists():
                parts.append(path.read_bytes())
        _replace(self.bundle_path, b"\n".join(parts), 0o644)

    def server_context(self, host: str) -> ssl.SSLContext:
        """Return the context that answers a client as `host` (a canonical name or IP literal); cached."""
        now = _now()
        held = self._contexts.get(host)
        if held is not None and held[1] > now:
            self._contexts.move_to_end(host)
            return held[0]
        leaf, until = self._issue(host, now)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.options |= ssl.OP_NO_RENEGOTIATION
        _load_chain(context, leaf.public_bytes(serialization.Encoding.PEM), self._leaf_key)
        self._contexts[host] = (context, until - dt.timedelta(days=1))
        while len(self._contexts) > LEAF_CONTEXTS_MAX:
            self._contexts.popitem(last=False)
        return context

    def _issue(self, host: str, now: dt.datetime) -> tuple[x509.Certificate, dt.datetime]:
        until = min(now + dt.timedelta(days=LEAF_DAYS), self.certificate.not_valid_after_utc)
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        common = [x509.NameAttribute(NameOID.COMMON_NAME, host)] if len(host) <= 64 else []
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(common))
            .issuer_name(self.certificate.subject)
            .public_key(self._leaf_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(until)
            .add_extension(x509.SubjectAlternativeName([name]), critical=not common)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._leaf_key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return leaf, until


class UpstreamContexts:
    """TLS contexts towards upstreams: always verifying, http/1.1 only where the guard speaks HTTP itself."""

    def __init__(self, roots: Path | None = None) -> None:
        self._roots = roots
        self._cache: dict[tuple[str, tuple[str, str]], ssl.SSLContext] = {}

    def context(self, minimum: str = "1.2", client_certificate: tuple[str, str] = ("", "")) -> ssl.SSLContext:
        """Return a context; `minimum` is "1.2" or "1.3", `client_certificate` paths of a chain and its key."""
        key = (minimum, client_certificate)
        context = self._cache.get(key)
        if context is None:
            context = ssl.create_default_context()
            if self._roots is not None:
                context.load_verify_locations(cafile=str(self._roots))
            context.minimum_version = _VERSIONS[minimum]
            context.set_alpn_protocols(["http/1.1"])
            context.options |= ssl.OP_NO_RENEGOTIATION
            if client_certificate[0]:
                context.load_cert_chain(client_certificate[0], client_certificate[1] or None)
            self._cache[key] = context
        return context


def pin_matches(certificate: bytes, pins: Sequence[str]) -> bool:
    """Return whether a DER certificate's public key is one of `pins` (`sha256:` and hex, or RFC 7469 base64)."""
    import base64  # noqa: PLC0415

    spki = x509.load_der_x509_certificate(certificate).public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    digest = hashlib.sha256(spki).digest()
    forms = {f"sha256:{digest.hex()}", f"sha256/{base64.b64encode(digest).decode()}"}
    return any(pin in forms for pin in pins)


def _load_chain(context: ssl.SSLContext, certificate: bytes, key: ec.EllipticCurvePrivateKey) -> None:
    """Give a context its chain through an anonymous file: the ssl module loads from paths only."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, certificate + pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _private(path: Path) -> None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise IntegrityError(f"{path.name} must belong to this user and be closed to others (chmod go= {path.name})")


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that no reader ever sees half of it, with its mode from the start."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
