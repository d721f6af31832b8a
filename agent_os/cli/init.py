"""`agentos init`: a first policy for this folder, and the operator's configuration. Never overwrites without --force."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agent_os.core.errors import EffectError

POLICY_FILE: Final = "policy.yaml"
KINDS: Final = {"openai", "anthropic", "nvidia", "ollama"}
TEMPLATE: Final = """\
# What agents may do in this folder. Everything that is not allowed is denied; deny > ask > allow, in any order.
# Check it:    agentos policy check {file}
# Try it:      agentos run --policy {file} -- ls
# Explain it:  agentos policy explain {file} --action '{{"kind": "fs.write", "path": "notes.txt"}}'
version: 1
name: {name}

# The safe default: work inside this folder, no network, no secrets, system programs only.
extends: [pack:baseline]

filesystem_policy:
  include_workdir: true
  # Paths that stay out of reach, beside those of the baseline pack.
  deny: [{deny}]

tools:
  delete_file: {{allow: true, ask: true}}
  # http_request:
  #   allow: {{url: {{host_in: [api.example.com]}}}}

# Hosts that may be reached, with methods and paths:
# network_policies:
#   api:
#     endpoints:
#       - {{host: api.example.com, port: 443, protocol: rest, rules: [{{allow: {{method: GET, path: "/v1/**"}}}}]}}

# Models that may be called. Keys are never written here: they come from the environment or `agentos secret set`.
{models}

# budgets: [{{per: user, window: day, tokens: 500000}}]

approvals: {{timeout: 15m}}
"""
CONFIG: Final = """\
# The operator's configuration. It names defaults and grants nothing: what may be done stands in policies.
[agent]
model = {model}
"""


def init(
    folder: Annotated[Path, typer.Argument(help="The folder the policy is for.")] = Path("."),
    model: Annotated[str, typer.Option("--model", "-m", help="The model the agent uses by default.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write a policy for this folder and the operator's configuration."""
    from agent_os.runtime.agent_terms import config_file  # noqa: PLC0415
    from agent_os.runtime.policies import load_policy  # noqa: PLC0415
    from agent_os.runtime.state import state_directory  # noqa: PLC0415

    if not folder.is_dir():
        raise EffectError(f"no such folder: {folder}")
    if model and not re.fullmatch(r"[A-Za-z0-9_-]+:[A-Za-z0-9_./:@-]+", model):
        raise typer.BadParameter("must be provider:model, for example openai:gpt-5", param_hint="--model")
    written: dict[str, str] = {}
    target = folder / POLICY_FILE
    _write(target, _policy_text(folder, model), force, written)
    policy = load_policy(target)
    config = config_file()
    if model and (force or not config.exists()):
        state_directory()
        _write(config, CONFIG.format(model=json.dumps(model)), force, written)
    if json_:
        typer.echo(
            json.dumps({"written": list(written), "policy": policy.digest, "rules": len(policy.rules)}, indent=2)
        )
        return
    for path in written:
        typer.echo(f"wrote {path}")
    typer.echo(
        f"{len(policy.rules)} rules; next: agentos policy check {target}, then agentos run --policy {target} -- ls"
    )
    typer.echo("Keep the policy under version control, and let nobody change it who works under it.")


def _policy_text(folder: Path, model: str) -> str:
    provider, _, name = (model or "openai:gpt-5").partition(":")
    kind = provider if provider in KINDS else "langchain"
    lines = ["models:", "  providers:", f"    {provider}: {{kind: {kind}, models: [{json.dumps(name)}]}}"]
    sensitive = [each for each in (".env", "secrets", "credentials", "private") if (folder / each).exists()]
    values: dict[str, Any] = {
        "file": POLICY_FILE,
        "name": re.sub(r"[^a-z0-9-]+", "-", folder.resolve().name.lower()).strip("-") or "workspace",
        "deny": ", ".join(json.dumps(each) for each in sensitive),
        "models": "\n".join(line if model else f"# {line}" for line in lines),
    }
    return TEMPLATE.format(**values)


def _write(path: Path, content: str, force: bool, written: dict[str, str]) -> None:
    """Write a file that was not there, or replace one with --force; a link is never followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileExistsError:
        raise EffectError(f"{path} is there already: --force replaces it") from None
    except OSError as error:
        raise EffectError(f"{path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    written[str(path)] = content
