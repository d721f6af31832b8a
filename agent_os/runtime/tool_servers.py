"""Tool servers: MCP over stdio, each in a sandbox of its own, accepted by a person and pinned by digest.

What is accepted lies in `tools/NAME.json` of the state directory: the command, its code's digest, what each tool said of
itself when a person looked, and the semantics they accepted. A server that differs from that when started is quarantined:
its tools are denied until a person accepts the shown difference. Threats: a server that changes after approval, one that
speaks to the model through its descriptions, one that reaches further than its tools say, answers without end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from agent_os.adapters.mcp.pins import differences, pin
from agent_os.adapters.mcp.protocol import PAGES_MAX, TOOLS_MAX, Answer, Client, ServerTool, parse_tools, value_of
from agent_os.agents.toolbox import Toolbox
from agent_os.core import canonical
from agent_os.core.action import Action, NetConnect
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import ActionError, DeniedError, EffectError, EnforcementError, PolicyError, Problem
from agent_os.core.manifest import Manifest, Needs, ToolSpec
from agent_os.core.ports import Admission, Door, Outcome
from agent_os.core.principal import Principal
from agent_os.effects.proxy import EgressGuard
from agent_os.effects.sandbox.launch import Launcher, Running, launch
from agent_os.guards.confine import Confinement
from agent_os.guards.confine.server import server_confinement
from agent_os.guards.flow.derive import from_schema
from agent_os.policy import Policy
from agent_os.policy.globs import compile_any
from agent_os.runtime.data import data_dir
from agent_os.runtime.network import open_guard
from agent_os.runtime.sandbox import (
    Prepared,
    SandboxSettings,
    guard_listeners,
    guard_settings,
    policy_confinement,
    policy_files,
    prepare,
)

CALL_SECONDS_MAX: Final = 3600.0
HELLO_SECONDS: Final = 30.0
CODE_BYTES_MAX: Final = 64 * 1024 * 1024
CODE_FILES_MAX: Final = 2000
STDERR_BYTES_KEPT: Final = 20_000
RESULT_BYTES_MAX: Final = 1_000_000
PLACEHOLDER: Final = "agentos-secret:"


@dataclass(slots=True)
class ServerRecord:
    """A tool server as it is kept. `state`: waiting (never accepted), approved, quarantined. `tools`: shown, pin, spec."""

    name: str
    command: list[str]
    folder: str = ""
    description: str = ""
    needs: Needs = field(default_factory=Needs)
    code: str = ""
    tools: list[dict[str, Any]] = field(default_factory=list)
    state: str = "waiting"
    why: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        form = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "needs"}
        return {**form, "needs": self.needs.model_dump(mode="json")}

    @staticmethod
    def parse(form: Mapping[str, Any]) -> ServerRecord:
        """Return the record of a stored form."""
        values = dict(form)
        needs = Needs.model_validate(values.pop("needs"))
        return ServerRecord(**values, needs=needs)

    def specs(self) -> list[ToolSpec]:
        """Return the accepted semantics with the accepted schemas."""
        return [ToolSpec.model_validate(entry["spec"]) for entry in self.tools]


# ---- what is kept ----------------------------------------------------------------------------------------------------


class ServerStore:
    """The records in a state directory."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "tools"

    def names(self) -> list[str]:
        """Return the names of every kept server."""
        return sorted(path.stem for path in self._folder.glob("*.json")) if self._folder.is_dir() else []

    def load(self, name: str) -> ServerRecord:
        """Return one record. Raises EffectError for an unknown name."""
        path = self._path(name)
        try:
            return ServerRecord.parse(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise EffectError(f"no tool server {name!r}: agentos tools list") from None
        except (ValueError, TypeError, KeyError) as error:
            raise EffectError(f"the record of {name!r} is damaged: {type(error).__name__}") from None

    def save(self, record: ServerRecord) -> None:
        """Write a record, whole."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(record.name)
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(record.to_json(), indent=1, sort_keys=True), encoding="utf-8")
        temporary.chmod(0o600)
        temporary.replace(path)

    def remove(self, name: str) -> None:
        """Forget a server. Raises EffectError for an unknown name."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            raise EffectError(f"no tool server {name!r}: agentos tools list") from None

    def _path(self, name: str) -> Path:
        return self._folder / f"{server_name(name)}.json"


def server_name(name: str) -> str:
    """Return a usable server name. Raises EffectError."""
    if not name or len(name) > 64 or not all(c.isascii() and (c.isalnum() or c in "-_") for c in name):
        raise EffectError("a tool server's name is letters, digits, '-' and '_', at most 64")
    return name


def code_digest(command: Sequence[str], folder: str) -> str:
    """Return a digest over the server's program: its pack folder, or the files of the command that are its program.

    What the program loads beyond that (an interpreter, packages) is not covered; a container or lock file pins that.
    """
    digest = hashlib.sha256(canonical.json_bytes(list(command)))
    files: list[Path] = []
    if folder:
        root = Path(folder)
        files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        shared = root.parent / "serving.py"
        files += [shared] if shared.is_file() else []
    else:
        files = [Path(part) for part in program_files(command)]
    if len(files) > CODE_FILES_MAX:
        raise EffectError(f"the server's folder holds more than {CODE_FILES_MAX} files")
    total = 0
    for path in files:
        data = path.read_bytes()
        total += len(data)
        if total > CODE_BYTES_MAX:
            raise EffectError(f"the server's program is larger than {CODE_BYTES_MAX} bytes")
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(data).digest())
    return "sha256:" + digest.hexdigest()


def program_files(command: Sequence[str]) -> list[str]:
    """Return the files of a command that are its program: the first word, and the first argument that is a file.

    Other files among the arguments are data: a person grants them with --read.
    """
    found = [part for part in command[:1] if part.startswith("/") and os.path.isfile(part)]
    script = next((part for part in command[1:] if part.startswith("/") and os.path.isfile(part)), None)
    return [*found, script] if script else found


def read_pack(folder: Path) -> Manifest:
    """Return the manifest of a pack folder. Raises PolicyError naming the file, EffectError if there is none."""
    path = folder / "tool.yaml"
    try:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Manifest.model_validate(form)
    except FileNotFoundError:
        raise EffectError(f"no tool.yaml in {folder}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise PolicyError(Problem(f"{path}: {str(error).splitlines()[0]}")) from None


def shipped_packs() -> list[str]:
    """Return the names of the packs that come with the installation."""
    return sorted(path.parent.name for path in data_dir("tools").glob("*/tool.yaml"))


# ---- a server at work ------------------------------------------------------------------------------------------------


class ToolServer:
    """One running server: a sandbox, a protocol state, and the calls under way."""

    def __init__(self, running: Running, prepared: Prepared, reader: int, writer: int, errors: int) -> None:
        self._running, self._prepared = running, prepared
        self._client = Client()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._writer_fd = writer
        self._loop = asyncio.get_running_loop()
        self._pending = bytearray()
        self._failure = ""
        self.stderr = bytearray()
        for descriptor in (reader, writer, errors):
            os.set_blocking(descriptor, False)
        self._reader, self._errors = reader, errors
        self._loop.add_reader(reader, self._readable)
        self._loop.add_reader(errors, self._said)

    def _readable(self) -> None:
        try:
            data = os.read(self._reader, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._fail("the tool server ended")
            return
        try:
            for answer in self._client.feed(data):
                future = self._waiting.pop(answer.id, None)
                if future is not None and not future.done():
                    future.set_result(answer)
        except EffectError as error:
            self._fail(str(error))
        while self._client.refusals:
            self._send(self._client.refusals.pop(0))

    def _said(self) -> None:
        try:
            data = os.read(self._errors, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._errors)
            return
        self.stderr = (self.stderr + data)[-STDERR_BYTES_KEPT:]

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._loop.remove_reader(self._reader)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(EffectError(self._failure))
        self._waiting.clear()
        self._running.kill("protocol")

    def _send(self, data: bytes) -> None:
        self._pending += data
        self._flush()

    def _flush(self) -> None:
        while self._pending:
            try:
                done = os.write(self._writer_fd, self._pending)
            except BlockingIOError:
                self._loop.add_writer(self._writer_fd, self._flush)
                return
            except OSError:
                self._fail("the tool server takes no more calls")
                return
            del self._pending[:done]
        self._loop.remove_writer(self._writer_fd)

    async def _ask(self, number: int, data: bytes, seconds: float) -> Answer:
        if self._failure:
            raise EffectError(self._failure)
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[number] = future
        self._send(data)
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            self._fail("the tool server did not answer in time")
            raise EffectError("the tool server did not answer in time") from None

    @property
    def alive(self) -> bool:
        """Whether calls can be made."""
        return not self._failure and not self._running.ended.done()

    async def hello(self) -> list[ServerTool]:
        """Open the connection and return the server's tools. Raises EffectError."""
        answer = await self._ask(*self._client.hello(), HELLO_SECONDS)
        if answer.error:
            raise EffectError(f"the tool server refuses: {answer.error}")
        self._send(self._client.ready())
        tools: list[ServerTool] = []
        cursor = ""
        for _ in range(PAGES_MAX):
            params = {"cursor": cursor} if cursor else {}
            answer = await self._ask(*self._client.call("tools/list", params), HELLO_SECONDS)
            if answer.error:
                raise EffectError(f"the tool server does not list its tools: {answer.error}")
            page, cursor = parse_tools(answer.result)
            tools += page
            if len(tools) > TOOLS_MAX:
                raise EffectError(f"the tool server lists more than {TOOLS_MAX} tools")
            if not cursor:
                return tools
        raise EffectError(f"the tool server lists more than {PAGES_MAX} pages")

    async def call(self, name: str, args: Mapping[str, Any]) -> Any:
        """Call a tool and return its value. Raises EffectError with what the tool says went wrong."""
        number, data = self._client.call("tools/call", {"name": name, "arguments": dict(args)})
        answer = await self._ask(number, data, CALL_SECONDS_MAX)
        if answer.error:
            raise EffectError(f"the tool server refused the call: {answer.error}")
        value, failed = value_of(answer.result)
        if failed:
            raise EffectError(f"the tool failed: {str(value)[:2000]}")
        return value

    async def aclose(self) -> None:
        """End the server and its sandbox."""
        self._fail("closed")
        await self._running.wait()
        self._loop.remove_reader(self._errors)
        for descriptor in (self._reader, self._writer_fd, self._errors):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._prepared.close()


class ServerHost:
    """Starts tool servers under a policy, in sandboxes of their own, behind one guard."""

    def __init__(
        self, policy: Policy, workspace: str, state: Path, principal: Principal, *, network: bool = True
    ) -> None:
        self._policy, self._workspace, self._state, self._principal = policy, workspace, state, principal
        self._confinement: Confinement = policy_confinement(policy, workspace)
        self._network = network
        self._launcher: Launcher | None = None
        self._guard: EgressGuard | None = None
        self._door: Door | None = None

    def bind(self, door: Door) -> None:
        """Say whose door the servers' network goes through."""
        self._door = door

    def refused(self, record: ServerRecord) -> tuple[str, ...]:
        """Return which of a server's wishes the policy does not grant."""
        return server_confinement(self._confinement, record.needs, (), self._workspace).refused

    async def start(self, record: ServerRecord, *, strict: bool = True) -> ToolServer:
        """Start a server. `strict`: refuse if the policy does not grant all it asks for. Raises EffectError."""
        code = self._code(record)
        found = server_confinement(self._confinement, record.needs, code, self._workspace)
        if strict and found.refused:
            raise EffectError(f"the policy does not grant {record.name}: {'; '.join(found.refused)}")
        confinement = found.confinement if self._network else replace(found.confinement, network=False)
        environment = {name: PLACEHOLDER + name for name in record.needs.secrets}
        settings = SandboxSettings(
            workspace=self._workspace,
            environment=tuple(name for name in record.needs.environment if name in os.environ),
            values=environment,
            hide=policy_files(self._policy),
            read_only=tuple(code),
        )
        listeners: Any = None
        if confinement.network:
            guard = await self._open_guard()
            settings = guard_settings(settings, guard)
            if self._door is None:
                raise EnforcementError(["network"], "the session's door is not bound yet")
            door = HostsDoor(self._door, record.name, record.needs.hosts)
            listeners = guard_listeners(guard, door, replace(self._principal, agent=f"tool-{record.name}"))
        prepared = await asyncio.to_thread(prepare, confinement, settings, state=self._state)
        in_read, in_write = os.pipe2(os.O_CLOEXEC)
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        try:
            prepared.hold()
            self._launcher = self._launcher or Launcher(warm=True)
            running = await launch(
                self._launcher,
                prepared.plan,
                _argv(record),
                stdio=(in_read, out_write, err_write),
                on_listeners=listeners,
            )
        except BaseException:
            prepared.close()
            for descriptor in (in_write, out_read, err_read):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (in_read, out_write, err_write):
                os.close(descriptor)
        return ToolServer(running, prepared, out_read, in_write, err_read)

    def _code(self, record: ServerRecord) -> list[str]:
        if record.folder:
            shared = os.path.join(os.path.dirname(record.folder), "serving.py")
            return [record.folder, *([shared] if os.path.isfile(shared) else [])]
        return program_files(record.command)

    async def _open_guard(self) -> EgressGuard:
        if self._guard is None:
            if self._door is None:
                raise EnforcementError(["network"], "the session's door is not bound yet")
            self._guard = await open_guard(self._policy, self._door, state=self._state, workspace=self._workspace)
        return self._guard

    async def aclose(self) -> None:
        """End the guard and the launcher; servers are closed by who started them."""
        if self._guard is not None:
            await self._guard.stop()
        if self._launcher is not None:
            await asyncio.to_thread(self._launcher.close)
        self._guard = self._launcher = None


def _argv(record: ServerRecord) -> list[str]:
    if not record.folder:
        return list(record.command)
    places = ((part, os.path.join(record.folder, part)) for part in record.command)
    return [inside if os.path.isfile(inside) else part for part, inside in places]


class HostsDoor:
    """A session's door for one tool server: hosts its manifest does not name are denied before the policy is asked."""

    def __init__(self, door: Door, server: str, hosts: Sequence[str]) -> None:
        self._door, self._server = door, server
        self._matches = compile_any([host.replace(".", "/") for host in hosts]) if hosts else (lambda _text: False)

    async def admit(self, action: Action, *, stated: Mapping[str, Any] | None = None) -> Admission:
        """Deny what the manifest does not ask for; else ask the session."""
        if isinstance(action, NetConnect) and not self._matches(action.host.replace(".", "/")):
            reason = f"the manifest of the tool server {self._server} does not name this host"
            raise DeniedError(Decision(Verdict.DENY, (f"tools.{self._server}.needs.hosts",), reason))
        return await self._door.admit(action, stated=stated)

    async def settle(self, admission: Admission, outcome: Outcome) -> None:
        """Settle at the session's door."""
        await self._door.settle(admission, outcome)


# ---- the servers of a session ----------------------------------------------------------------------------------------


class SessionServers:
    """The accepted servers of one session: registered from their records, started with their first call, checked then."""

    def __init__(self, host: ServerHost, store: ServerStore) -> None:
        self._host, self._store = host, store
        self._running: dict[str, ToolServer] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def register(self, toolbox: Toolbox) -> list[str]:
        """Make the tools of accepted servers known as `server/tool`; return the names of those left out."""
        left = []
        for name in self._store.names():
            record = self._store.load(name)
            if record.state != "approved":
                left.append(name)
                continue
            for entry, spec in zip(record.tools, record.specs(), strict=True):
                code = f"{record.code}:{entry['pin']}".encode()
                toolbox.register(spec, self._caller(name, spec.name), code=code, server=name)
        return left

    def _caller(self, server: str, tool: str) -> Any:
        async def run(args: Mapping[str, Any]) -> Any:
            connection = await self._connected(server)
            return await connection.call(tool, args)

        return run

    async def _connected(self, name: str) -> ToolServer:
        async with self._locks.setdefault(name, asyncio.Lock()):
            held = self._running.get(name)
            if held is not None and held.alive:
                return held
            if held is not None:
                await held.aclose()
            record = self._store.load(name)
            if record.state != "approved":
                raise EffectError(f"the tool server {name} is {record.state}: agentos tools inspect {name}")
            code = code_digest(record.command, record.folder)
            if code != record.code:
                self._quarantine(record, differences(record.tools, _shown(record), (record.code, code)))
            server = await self._host.start(record)
            try:
                found = differences(record.tools, await server.hello(), (record.code, code))
            except BaseException:
                await server.aclose()
                raise
            if found:
                await server.aclose()
                self._quarantine(record, found)
            self._running[name] = server
            return server

    def _quarantine(self, record: ServerRecord, why: list[str]) -> None:
        record.state, record.why = "quarantined", why
        self._store.save(record)
        raise EffectError(
            f"the tool server {record.name} is not what was accepted: quarantined (agentos tools inspect {record.name})"
        )

    async def aclose(self) -> None:
        """End every server."""
        for server in self._running.values():
            await server.aclose()
        self._running.clear()
        await self._host.aclose()


def _shown(record: ServerRecord) -> list[ServerTool]:
    return [ServerTool(**entry["shown"]) for entry in record.tools]


# ---- what a person does ----------------------------------------------------------------------------------------------


async def examine(host: ServerHost, record: ServerRecord) -> tuple[list[ServerTool], str]:
    """Start a server and return its tools and its code's digest now. Raises EffectError with what it said on stderr."""
    code = code_digest(record.command, record.folder)
    server = await host.start(record, strict=False)
    try:
        return await server.hello(), code
    except EffectError as error:
        said = bytes(server.stderr).decode(errors="replace").strip()[-500:]
        raise EffectError(f"{error}" + (f"; it said: {said}" if said else "")) from None
    finally:
        await server.aclose()


def accept(record: ServerRecord, tools: Sequence[ServerTool], code: str, manifest: Manifest | None) -> ServerRecord:
    """Return the record with what a person has now seen: pins, and the manifest's semantics or a drafted worst case."""
    known = {spec.name: spec for spec in manifest.tools} if manifest is not None else {}
    entries = []
    for tool in tools:
        try:
            canonical.name(tool.name, field="tool")
        except ActionError as error:
            raise EffectError(str(error)) from None
        spec = known.get(tool.name) or from_schema(tool.name, tool.input_schema, tool.description)
        spec = spec.model_copy(
            update={
                "description": tool.description,
                "input_schema": dict(tool.input_schema),
                "sandboxed": True,
                "output_bytes_max": min(spec.output_bytes_max, RESULT_BYTES_MAX),
            }
        )
        entries.append({"shown": tool.to_json(), "pin": pin(tool), "spec": spec.model_dump(mode="json")})
    record.tools, record.code, record.state, record.why = entries, code, "approved", []
    return record


def new_record(name: str, command: Sequence[str], needs: Needs) -> tuple[ServerRecord, Manifest | None]:
    """Return the record of a shipped pack, a pack folder, or a command. Raises EffectError."""
    if command:
        program = list(command)
        if "/" in program[0]:
            program[0] = os.path.realpath(program[0])
        program = [program[0], *(_file(part) for part in program[1:])]
        return ServerRecord(server_name(name), program, needs=needs), None
    folder = Path(name)
    if name in shipped_packs():
        folder = data_dir("tools") / name
    elif not (folder / "tool.yaml").is_file():
        raise EffectError(f"{name!r} is no shipped pack ({', '.join(shipped_packs())}) and no folder with a tool.yaml")
    folder = folder.resolve()
    manifest = read_pack(folder)
    if not manifest.server:
        raise EffectError(f"the manifest of {manifest.name} names no server")
    record = ServerRecord(
        server_name(manifest.name), list(manifest.server), str(folder), manifest.description, manifest.needs
    )
    return record, manifest


def manifest_of(record: ServerRecord) -> Manifest | None:
    """Return the manifest of a pack's record, None for a plain command."""
    return read_pack(Path(record.folder)) if record.folder else None


def _file(part: str) -> str:
    try:
        regular = stat.S_ISREG(os.stat(part).st_mode)
    except OSError:
        return part
    return os.path.realpath(part) if regular else part
