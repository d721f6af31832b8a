"""`agentos tools`: tool servers (MCP), in a sandbox of their own or behind the guard; a person accepts, digests pin."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Add, inspect, approve and remove tool servers.")
_Workspace = Annotated[str, typer.Option("--workspace", help="The workspace the server would see.")]
_Policy = Annotated[
    list[str] | None, typer.Option("--policy", "-p", help="The policy that grants (default: baseline).")
]
_Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
_Name = Annotated[str, typer.Argument(help="The server's name, as `agentos tools list` shows it.")]


def _desk(workspace: str, policy: list[str] | None) -> Any:
    from agent_os.runtime.tools_desk import ToolsDesk  # noqa: PLC0415

    return ToolsDesk(workspace, policy or ())


@app.command("list")
def list_servers(workspace: _Workspace = ".", json_: _Json = False) -> None:
    """List the tool servers that were added and the packs that could be."""
    found = _desk(workspace, None).list()
    if json_:
        typer.echo(json.dumps(found, indent=2))
        return
    for row in found["servers"]:
        typer.echo(f"{row['state']:<12} {row['name']:<16} {', '.join(row['tools'])}")
        if row["why"]:
            typer.echo(f"{'':<12} {row['why'][0]}  (agentos tools inspect {row['name']})")
    if found["shipped"]:
        typer.echo(f"to be added: {', '.join(found['shipped'])}")


@app.command(context_settings={"allow_interspersed_args": True})
def add(
    name: Annotated[str, typer.Argument(help="A shipped pack, a folder with a tool.yaml, or a name for a command.")],
    command: Annotated[list[str] | None, typer.Argument(help="After --: the command of a third-party server.")] = None,
    url: Annotated[str, typer.Option(help="The address of a server that speaks MCP over streamable HTTP.")] = "",
    header: Annotated[
        list[str] | None, typer.Option(help="With --url: 'Name: value'; a secret as agentos-secret:NAME.")
    ] = None,
    read: Annotated[list[str] | None, typer.Option(help="A path the command may read.")] = None,
    write: Annotated[list[str] | None, typer.Option(help="A path the command may write.")] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="A host (glob) the command may reach, if the policy lets it.")
    ] = None,
    secret: Annotated[list[str] | None, typer.Option(help="A secret it gets as a placeholder variable.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="A variable of yours it gets.")] = None,
    memory_mb: Annotated[
        int | None, typer.Option(min=16, max=65536, help="Memory a command may use, in MiB (default 256).")
    ] = None,
    workspace: _Workspace = ".",
    policy: _Policy = None,
    json_: _Json = False,
) -> None:
    """Look at a server in its sandbox and keep what it says; approve it to use it."""
    from agent_os.core.manifest import Needs  # noqa: PLC0415

    asked = {"read": read, "write": write, "host": host, "secret": secret, "env": env, "memory-mb": memory_mb}
    _fits(bool(command), url, header, [option for option, value in asked.items() if value])
    needs = Needs(
        read=tuple(read or ()), write=tuple(write or ()), hosts=tuple(host or ()), secrets=tuple(secret or ()),
        environment=tuple(env or ()), memory_mb=memory_mb or 256,
    )  # fmt: skip
    seen = _desk(workspace, policy).add(name, command or [], needs, url=url, headers=header or ())
    _show(seen, json_)
    if not json_:
        typer.echo(f"not in use yet: agentos tools approve {seen['name']}")


def _fits(command: bool, url: str, header: list[str] | None, asked: list[str]) -> None:
    """Refuse options that would be ignored. Raises typer.BadParameter."""
    if command and url:
        raise typer.BadParameter("give a command or --url, not both", param_hint="--url")
    if header and not url:
        raise typer.BadParameter("headers are sent to a server with --url", param_hint="--header")
    if url and asked:
        raise typer.BadParameter("a server elsewhere has no sandbox: leave it out", param_hint=f"--{asked[0]}")
    if not command and not url and asked:
        hint = "a pack asks in its tool.yaml; for a server of your own put the command after --"
        raise typer.BadParameter(hint, param_hint=f"--{asked[0]}")


@app.command()
def inspect(name: _Name, workspace: _Workspace = ".", policy: _Policy = None, json_: _Json = False) -> None:
    """Show what a server is now, and how it differs from what was accepted."""
    _show(_desk(workspace, policy).inspect(name), json_)


@app.command()
def approve(name: _Name, workspace: _Workspace = ".", policy: _Policy = None, json_: _Json = False) -> None:
    """Accept a server as it was shown last (add, inspect); any later difference quarantines it."""
    done = _desk(workspace, policy).approve(name)
    if json_:
        typer.echo(json.dumps(done, indent=2))
        return
    for tool in done["tools"]:
        arguments = ", ".join(f"{key}: {value['role']}" for key, value in tool["arguments"].items())
        typer.echo(f"{done['name']}/{tool['name']}  {tool['effect']}  ({arguments})")
    typer.echo(f"approved {done['name']}")


@app.command()
def remove(name: _Name, workspace: _Workspace = ".") -> None:
    """Forget a server; its tools are denied from now on."""
    _desk(workspace, None).remove(name)
    typer.echo(f"removed {name}")


def _show(seen: dict[str, Any], json_: bool) -> None:
    if json_:
        typer.echo(json.dumps(seen, indent=2))
        return
    typer.echo(f"{seen['name']}  {seen['state']}  {seen['url'] or ' '.join(seen['command'])}")
    needs = {key: value for key, value in seen["needs"].items() if value}
    if seen["url"]:
        needs.pop("memory_mb", None)
    typer.echo(f"asks for: {', '.join(f'{key}={value}' for key, value in needs.items())}")
    for wish in seen["not_granted"]:
        typer.echo(f"the policy does not grant: {wish}")
    for tool in seen["tools"]:
        typer.echo(f"  {tool['name']}: {_printable(tool['description'])}  [{tool['semantics']}]")
        if not seen["shipped"]:  # a stranger's schema speaks to the model too: names, descriptions, defaults
            typer.echo(f"    takes {_printable(json.dumps(tool['input_schema'], ensure_ascii=False))}")
    if seen["changed"]:
        typer.echo("differs from what was accepted:")
        for line in seen["changed"]:
            typer.echo(f"  {line}")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
