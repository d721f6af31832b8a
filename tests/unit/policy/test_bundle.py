"""Signed bundles: what is taken, what is refused, and that a refusal leaves the policy in force."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent_os.core import canonical
from agent_os.core.errors import EffectError, PolicyError
from agent_os.policy import Policy
from agent_os.policy.workbench.bundle import BundleError, check_succession, pack, unpack
from agent_os.policy.workbench.rollout import plan_rollout
from agent_os.runtime import bundles

KEY = Ed25519PrivateKey.generate()


def verify(key: str, message: bytes, signature: bytes) -> bool:
    """Trust one key."""
    try:
        KEY.public_key().verify(signature, message)
    except Exception:
        return False
    return key == "k1"


def made(files: dict[str, bytes] | None = None, **changes: Any) -> bytes:
    """Return a bundle of this test."""
    about: dict[str, Any] = {
        "name": "p", "revision": 3, "entry": "policy.yaml", "digest": "sha256:x", "created": 5.0, "key": "k1",
        "sign": KEY.sign, **changes,
    }  # fmt: skip
    return pack({"policy.yaml": b"version: 1", "data/s.yaml": b"[]"} if files is None else files, **about)


def archive(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return a tar.gz of raw members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member, data in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(out.getvalue()) + packer.flush()


def signed(
    content: dict[str, bytes], extra: list[tuple[tarfile.TarInfo, bytes]] | None = None, **changes: Any
) -> bytes:
    """Return an archive with a manifest that is signed well, and whatever else."""
    import hashlib

    manifest = {
        "schema": 1, "name": "p", "revision": 3, "entry": "policy.yaml", "policy": "sha256:x", "created": 5, "key": "k1",
        "files": {path: "sha256:" + hashlib.sha256(data).hexdigest() for path, data in content.items()}, **changes,
    }  # fmt: skip
    text = canonical.json_bytes(manifest)
    members = [(tarfile.TarInfo("manifest.json"), text), (tarfile.TarInfo("manifest.sig"), KEY.sign(text))]
    return archive([*members, *((tarfile.TarInfo(path), data) for path, data in content.items()), *(extra or [])])


def link(name: str, kind: bytes, target: str = "/etc/passwd") -> tuple[tarfile.TarInfo, bytes]:
    """Return a member that is a link or a device."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


GOOD = {"policy.yaml": b"version: 1"}


def test_a_bundle_comes_back_as_it_went_in() -> None:
    """Files, name and revision; the same input is the same bytes."""
    bundle = unpack(made(), verify)
    assert bundle.files == {"policy.yaml": b"version: 1", "data/s.yaml": b"[]"}
    assert (bundle.name, bundle.revision, bundle.entry, bundle.key) == ("p", 3, "policy.yaml", "k1")
    assert made() == made()
    assert unpack(signed(GOOD), verify).files == GOOD


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (b"nonsense", "not a tar.gz"),
        (made()[:-20], "cut off"),
        (made() + b"x", "something follows"),
        (made(sign=Ed25519PrivateKey.generate().sign), "not by a trusted key"),
        (made(key="k2"), "not by a trusted key"),
        (archive([(tarfile.TarInfo("policy.yaml"), b"x")]), "no manifest"),
        (archive([(tarfile.TarInfo("manifest.json"), b"{}"), (tarfile.TarInfo("a"), b"")]), "not signed"),
        (archive([(tarfile.TarInfo("manifest.json"), b"["), (tarfile.TarInfo("manifest.sig"), b""), (tarfile.TarInfo("a"), b"")]), "malformed"),
        (signed(GOOD, [(tarfile.TarInfo("extra.yaml"), b"x")]), "not those of the manifest"),
        (signed(GOOD, [(tarfile.TarInfo("policy.yaml"), b"swapped")]), "twice"),
        (signed(GOOD, files={"policy.yaml": "sha256:" + "0" * 64}), "not the one that was signed"),
        (signed(GOOD, files={**dict.fromkeys(GOOD, ""), "gone": "x"}), "not those of the manifest"),
        (signed(GOOD, entry="other.yaml"), "entry"),
        (signed(GOOD, schema=2), "another version"),
        (signed(GOOD, revision="x"), "malformed"),
        (signed(GOOD, [(tarfile.TarInfo("/etc/cron.d/x"), b"x")]), "leaves its folder"),
        (signed(GOOD, [(tarfile.TarInfo("../x"), b"x")]), "leaves its folder"),
        (signed(GOOD, [(tarfile.TarInfo("a/../../x"), b"x")]), "leaves its folder"),
        (signed(GOOD, [(tarfile.TarInfo(".hidden"), b"x")]), "leaves its folder"),
        (signed(GOOD, [(tarfile.TarInfo("a\\b"), b"x")]), "leaves its folder"),
        (signed(GOOD, [link("l", tarfile.SYMTYPE)]), "no plain file"),
        (signed(GOOD, [link("l", tarfile.LNKTYPE)]), "no plain file"),
        (signed(GOOD, [link("d", tarfile.DIRTYPE)]), "no plain file"),
        (signed(GOOD, [link("c", tarfile.CHRTYPE)]), "no plain file"),
        (signed(GOOD, [link("f", tarfile.FIFOTYPE)]), "no plain file"),
        (signed(GOOD, [(tarfile.TarInfo(f"f{n}"), b"") for n in range(600)]), "more than 500"),
        (zlib.compress(b"\0" * (70 * 2**20), 9, 31), "unpacks to more than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_trusted_is_refused(data: bytes, message: str) -> None:
    """Signature first, then exactly the files it lists; no links, no devices, no paths out, no bombs."""
    with pytest.raises(BundleError, match=message):
        unpack(data, verify)


def test_every_flipped_byte_is_found() -> None:
    """No byte of a bundle can change without being refused or leaving the content the same."""
    data = made()
    good = unpack(data, verify)
    for index in range(0, len(data), 7):
        changed = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        try:
            assert unpack(changed, verify) == good
        except BundleError:
            continue


def test_an_older_revision_is_no_successor() -> None:
    """What was ever in force sets the bar; going back is a command of its own."""
    bundle = unpack(made(), verify)
    check_succession(bundle, None)
    check_succession(bundle, 2)
    for highest in (3, 4):
        with pytest.raises(BundleError, match="rollback"):
            check_succession(bundle, highest)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A policy with an extended file and a data file."""
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "policy.yaml").write_text(
        "version: 1\nrevision: 1\nextends: [team.yaml, pack:baseline]\n"
        "data: {s: {file: s.yaml}}\ntools: {pay: {allow: {iban: {in: data.s.iban}}}}\n"
    )
    (folder / "team.yaml").write_text("tools: {read: {allow: true}}")
    (folder / "s.yaml").write_text("[{iban: DE1}]")
    return folder / "policy.yaml"


def test_install_and_roll_back(source: Path, tmp_path: Path) -> None:
    """Versions come into force in order; what fails leaves the last good one; one command goes back."""
    state = tmp_path / "state"
    first, about = bundles.build(str(source), state=state)
    assert about["files"] == ["policy.yaml", "s.yaml", "team.yaml"]
    assert bundles.current(state=state) is None
    one = bundles.install(first, state=state)
    in_force = bundles.current(state=state)
    assert in_force is not None
    assert in_force.digest == about["policy"]
    assert bundles.install(first, state=state)["changed"] is False

    source.write_text(
        source.read_text().replace("revision: 1", "revision: 2") + "memory: allow\nprocess: {allow: [ls]}\n"
    )
    second, _ = bundles.build(str(source), state=state)
    two = bundles.install(second, state=state)
    assert (two["dynamic"], two["needs_restart"]) == (["memory"], ["process"])
    with pytest.raises(BundleError, match="not above 2"):
        bundles.install(first, state=state)
    with pytest.raises(BundleError):
        bundles.install(second[:-5], state=state)
    assert [item["in_force"] for item in bundles.listed(state=state)] == [False, True]

    assert bundles.roll_back(state=state)["version"] == one["version"]
    now = bundles.current(state=state)
    assert now is not None
    assert now.digest == about["policy"]
    with pytest.raises(EffectError, match="no earlier policy"):
        bundles.roll_back(state=state)
    assert bundles.roll_back(two["version"], state=state)["version"] == two["version"]
    with pytest.raises(EffectError, match="is installed"):
        bundles.roll_back("9-nothing", state=state)


def test_another_installation_takes_it_only_with_trust(source: Path, tmp_path: Path) -> None:
    """A bundle by a key nobody named is refused; `--trust` or a kept key lets it in."""
    data, about = bundles.build(str(source), state=tmp_path / "one")
    other = tmp_path / "two"
    with pytest.raises(BundleError, match="trusted key"):
        bundles.install(data, state=other)
    assert bundles.current(state=other) is None
    folder = other / "trust" / "bundle"
    folder.mkdir(parents=True)
    (folder / "team.pub").write_text(about["public_key"] + "\n")
    assert bundles.install(data, state=other)["changed"]
    assert bundles.install(data, trust=[about["public_key"]], state=tmp_path / "three")["changed"]
    with pytest.raises(EffectError, match="in hex"):
        bundles.install(data, trust=["zz"], state=tmp_path / "four")


def test_a_signed_policy_that_does_not_load_is_refused(source: Path, tmp_path: Path) -> None:
    """A good signature is not enough: the candidate must parse, and be the policy that was signed."""
    state = tmp_path / "state"
    key = bundles._keys(state).current("bundle")
    for text, error in (
        (b"tools: {x: {alow: 1}}", PolicyError),
        (b"extends: [gone.yaml]", PolicyError),
        (b"memory: allow", BundleError),
    ):
        data = pack(
            {"policy.yaml": text}, name="p", revision=1, entry="policy.yaml", digest="sha256:other", created=0, key=key.id,
            sign=key.signer(),
        )  # fmt: skip
        with pytest.raises(error):
            bundles.install(data, state=state)
    assert bundles.current(state=state) is None


def test_files_outside_the_folder_are_not_bundled(source: Path, tmp_path: Path) -> None:
    """A link out of the policy's folder does not carry other files along."""
    secret = tmp_path / "secret.yaml"
    secret.write_text("[{iban: DE1}]")
    (source.parent / "s.yaml").unlink()
    (source.parent / "s.yaml").symlink_to(secret)
    with pytest.raises(PolicyError):
        bundles.build(str(source), state=tmp_path / "state")


def test_a_rollout_says_what_needs_a_restart() -> None:
    """Sections compiled into a sandbox are static, the others hold at once."""
    old = Policy.parse("filesystem_policy: {read_only: [/usr]}\ntools: {x: {allow: true}}\nname: a")
    new = Policy.parse("filesystem_policy: {read_only: [/usr]}\ntools: {x: {deny: true}}\nmemory: allow\nname: b")
    plan = plan_rollout(old, new)
    assert (plan.dynamic, plan.static, plan.changed) == (("memory", "tools"), (), True)
    assert not plan_rollout(old, old).changed
    assert json.dumps(plan.dynamic)
