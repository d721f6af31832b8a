"""The built-in tools over a door with the real effectors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agent_os.agents.builtin_tools import BUILTIN_TOOLS, register_builtin_tools
from agent_os.agents.builtin_world import parse_url
from agent_os.agents.toolbox import Toolbox
from agent_os.core.action import ToolCall
from agent_os.core.errors import ActionError, DeniedError, EffectError
from agent_os.core.manifest import Effect, Role
from agent_os.core.ports import Permit
from tests.unit.agents.doors import ListDoor
from tests.unit.effects.servers import Seen, http_server


class Desk:
    def __init__(self, root: Path, *denied: str) -> None:
        self.root, self.box = root, Toolbox()
        self.door = ListDoor(root, tuple(str(root / name) if not name.startswith("!") else name[1:] for name in denied))
        register_builtin_tools(self.box, self.door)

    async def call(self, tool: str, **args: Any) -> Any:
        return (await self.box.execute(Permit("n", "a", "f", "k"), ToolCall(tool=tool, args=args))).value


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "inbox/a.eml").write_text("Total: 100\nFrom: a\n")
    (tmp_path / "inbox/b.eml").write_text("total: 200\n")
    (tmp_path / "secret/c.eml").write_text("Total: 300\n")
    return Desk(tmp_path, "secret")


async def test_read_and_write_and_edit(desk: Desk) -> None:
    """A file is written, edited in exactly one place and read back."""
    await desk.call("write_file", path="out/x.md", content="one two two")
    with pytest.raises(EffectError, match="occurs 2 times"):
        await desk.call("edit_file", path="out/x.md", old="two", new="three")
    assert (await desk.call("edit_file", path="out/x.md", old="two", new="3", count=2))["replaced"] == 2
    assert await desk.call("read_file", path="out/x.md") == {"content": "one 3 3", "lines": 1, "truncated": False}


async def test_reading_a_part(desk: Desk) -> None:
    """`offset` and `lines` choose lines and the result says that there is more."""
    assert await desk.call("read_file", path="inbox/a.eml", offset=1, lines=1) == {
        "content": "Total: 100\n", "lines": 2, "truncated": True,
    }  # fmt: skip


async def test_every_inner_effect_is_an_action(desk: Desk) -> None:
    """A search lists and reads through the door; what is denied is skipped and counted, never shown."""
    found = await desk.call("search_files", regex="(?i)total: \\d+", pattern="*.eml")
    assert [(hit["path"], hit["line"]) for hit in found["hits"]] == [("inbox/a.eml", 1), ("inbox/b.eml", 1)]
    assert found["not_permitted"] == 1
    kinds = [kind for kind, _ in desk.door.seen]
    assert kinds.count("fs.list") == 3
    assert kinds.count("fs.read") == 2


async def test_a_denied_file_is_denied_to_every_tool(desk: Desk) -> None:
    """Reading, writing, editing and deleting below a denied directory are all denied."""
    for tool, args in (
        ("read_file", {}), ("write_file", {"content": "x"}), ("edit_file", {"old": "T", "new": "x"}), ("delete_file",
        {}),
    ):  # fmt: skip
        with pytest.raises(DeniedError):
            await desk.call(tool, path="inbox/../secret/c.eml", **args)
    assert (desk.root / "secret/c.eml").read_text() == "Total: 300\n"


async def test_list_and_delete(desk: Desk) -> None:
    """Listing names files with their type; a deleted file is gone."""
    listed = await desk.call("list_files", path="inbox", pattern="*.eml")
    assert [entry["path"] for entry in listed["files"]] == ["inbox/a.eml", "inbox/b.eml"]
    await desk.call("delete_file", path="inbox/a.eml")
    assert [entry["path"] for entry in (await desk.call("list_files", path="inbox"))["files"]] == ["inbox/b.eml"]
    everything = await desk.call("list_files", recursive=True)
    assert {entry["path"] for entry in everything["files"]} == {"inbox", "secret", "inbox/b.eml"}


@pytest.mark.parametrize(
    ("tool", "args", "said"),
    [
        ("read_file", {}, "missing path"),
        ("read_file", {"path": 7}, "path: must be string"),
        ("read_file", {"path": "x", "mode": "w"}, "unknown mode"),
        ("read_file", {"path": "x", "offset": 0}, "offset: does not satisfy minimum"),
        ("run_command", {"argv": "ls -l"}, "argv: must be array"),
        ("http_request", {"url": "https://x", "method": "TRACE"}, "method: does not satisfy enum"),
    ],
)
async def test_arguments_are_checked_against_the_schema(desk: Desk, tool: str, args: dict[str, Any], said: str) -> None:
    """Missing, unknown and wrongly typed arguments are named, never their values, and nothing is done."""
    with pytest.raises(ActionError, match=re.escape(said)):
        await desk.call(tool, **args)
    assert desk.door.seen == []


async def test_run_command_without_a_sandbox_says_so(desk: Desk) -> None:
    """Where nothing carries out `process.exec`, the command does not run."""
    with pytest.raises(EffectError, match=r"process\.exec"):
        await desk.call("run_command", argv=["true"])


async def test_each_redirect_is_judged_and_credentials_stay_at_their_origin(tmp_path: Path) -> None:
    """A redirect to a denied host is denied before it is contacted; an allowed one loses the Authorization header."""

    with (
        http_server(lambda seen: (200, {"content-type": "application/json"}, b'{"ok": true}')) as end,
        http_server(lambda seen: (302, {"location": f"http://{seen.target[1:]}/x"}, b"")) as first,
    ):
        desk = Desk(tmp_path, "!evil.example")
        url = f"http://start.example:{first.port}"
        value = await desk.call(
            "http_request", url=f"{url}/good.example:{end.port}", headers={"Authorization": "Bearer x", "X-Y": "z"}
        )
        assert (value["status"], value["json"]) == (200, {"ok": True})
        assert value["redirects"] == [f"http://good.example:{end.port}/x"]
        assert first.seen[0].headers["authorization"] == "Bearer x"
        assert "authorization" not in end.seen[0].headers
        assert end.seen[0].headers["x-y"] == "z"
        with pytest.raises(DeniedError):
            await desk.call("http_request", url=f"{url}/evil.example:{end.port}")
        assert len(end.seen) == 1


async def test_redirect_loops_end(tmp_path: Path) -> None:
    """A server that redirects for ever is left after a bounded number of hops."""
    with http_server(lambda _: (307, {"location": "/again"}, b"")) as server:
        with pytest.raises(EffectError, match="redirects"):
            await Desk(tmp_path).call("http_request", url=f"http://a.example:{server.port}/")
        assert len(server.seen) == 6


async def test_a_post_becomes_a_get_after_303_and_stays_after_307(tmp_path: Path) -> None:
    """Methods and bodies survive redirects as RFC 9110, 15.4 says."""

    def answer(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if seen.target in ("/303", "/307"):
            return int(seen.target[1:]), {"location": "/end"}, b""
        return 200, {}, seen.method.encode() + seen.body

    with http_server(answer) as server:
        desk, url = Desk(tmp_path), f"http://a.example:{server.port}"
        assert (await desk.call("http_request", url=f"{url}/303", method="POST", body="b"))["text"] == "GET"
        assert (await desk.call("http_request", url=f"{url}/307", method="POST", body="b"))["text"] == "POSTb"


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "https://user:pw@x.example/", "https://x.example\\@evil.example/", "ftp://x",
    "https://x:99999/",
     "https://x.example/a b", "https://x.example/\n", "gopher://x/", "//x.example/", "https://"],
)  # fmt: skip
def test_urls_with_two_readings_are_refused(url: str) -> None:
    """Schemes other than http(s), user information, backslashes and control characters are no URL here."""
    with pytest.raises(ActionError):
        parse_url(url)


def test_a_url_is_split_into_what_is_judged() -> None:
    """Host, port, path and query are the parts of the request."""
    assert parse_url("HTTPS://ERP.corp.example/a?x=1&x=2&y=") == {
        "scheme": "https", "host": "erp.corp.example", "port": 443, "path": "/a", "query": {"x": ["1", "2"], "y": [""]},
    }  # fmt: skip


def test_a_second_tool_cannot_take_a_known_name(tmp_path: Path) -> None:
    """Registering the same tool again is fine; another one under its name is refused."""
    desk = Desk(tmp_path)
    register_builtin_tools(desk.box, desk.door)

    async def impostor(_: Any) -> str:
        return "x"

    with pytest.raises(ActionError, match="different tool"):
        desk.box.register(BUILTIN_TOOLS[0].spec, impostor, code=b"other")


def test_manifests_state_what_decides_where_an_effect_goes() -> None:
    """Every argument of a built-in tool has a role; paths and URLs that an effect goes to are authority."""
    specs = {tool.spec.name: tool.spec for tool in BUILTIN_TOOLS}
    assert set(specs) == {
        "read_file", "write_file", "edit_file", "list_files", "search_files", "delete_file", "http_request",
        "run_command", "remember", "recall", "send_message", "read_messages",
    }  # fmt: skip
    for spec in specs.values():
        assert set(spec.arguments) == set(spec.input_schema["properties"])  # type: ignore[index]
        for name, argument in spec.arguments.items():
            if spec.effect is not Effect.READ and name in ("path", "url", "argv", "cwd", "method", "headers", "to"):
                assert argument.role is Role.AUTHORITY
    assert specs["read_file"].results["$"].integrity == "untrusted"
    assert specs["http_request"].results["$"].integrity == "untrusted"
    assert specs["read_messages"].results["$"].integrity == "untrusted"
