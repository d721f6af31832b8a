"""`filesystem_policy`, `landlock`, `process`: files and programs. A superset of the OpenShell v1 sections. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from agent_os.policy.schema.base import Duration, Enforcement, Part, Size, Text, Who


def _check_path(value: str) -> str:
    if ".." in value.split("/"):
        raise ValueError("must not contain '..'")
    if value.startswith("~"):
        raise ValueError("must not start with '~': write the whole path")
    if "\0" in value or any(char < " " for char in value):
        raise ValueError("holds a control character")
    return value


def _check_broad(value: str) -> str:
    if not value.strip("/."):
        raise ValueError("is the whole file system or the whole workspace; use include_workdir, or name folders")
    return value


FsPath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_check_path)]
WritablePath = Annotated[FsPath, AfterValidator(_check_broad)]


class FilesystemPolicy(Part):
    """Which paths may be read and written. Relative paths are taken against the workspace. The longest path wins."""

    include_workdir: bool = Field(default=False, description="The workspace may be read and written.")
    read_only: list[FsPath] = Field(default_factory=list, description="Paths that may be read, with all below them.")
    read_write: list[WritablePath] = Field(default_factory=list, description="Paths that may be read and written.")
    deny: list[FsPath] = Field(
        default_factory=list,
        description="Paths (or globs such as **/.env*) that may be neither read, written, listed nor deleted.",
    )
    hidden: list[FsPath] = Field(
        default_factory=list, description="As deny; in the sandbox the path does not exist at all."
    )
    ask_write: list[FsPath] = Field(default_factory=list, description="Paths or globs whose change asks a person.")
    protect: bool = Field(
        default=True,
        description="Protect version-control hooks, shell and editor settings, .env files, keys, the policy.",
    )
    protect_except: list[FsPath] = Field(default_factory=list, description="Protected paths that may be changed.")
    max_file_bytes: Size | None = Field(default=None, description="Greatest size of a file that is written.")
    quota: Size | None = Field(default=None, description="How much a run may write in all.")


class Landlock(Part):
    """Kernel file rules. `best_effort` never means unsandboxed: a missing layer is an error unless allowed by name."""

    compatibility: Literal["best_effort", "hard_requirement"] = Field(
        default="best_effort", description="Whether an older kernel's smaller set of rights is acceptable."
    )


class ExecRule(Part):
    """A program and its arguments."""

    binary: Text = Field(
        description="An absolute path or glob, ./ for the workspace, or a bare name in a system folder."
    )
    args: list[Text] | None = Field(
        default=None, description="Globs for the arguments in order; a last `**` stands for any rest. Absent: any."
    )
    deny_args: list[Text] = Field(default_factory=list, description="Globs that no argument may match.")
    cwd: Text | None = Field(default=None, description="The working directory must be at or below this path.")
    env: list[Text] | None = Field(default=None, description="Names of variables that may be passed.")
    who: Who | None = Field(default=None, description="Only for these principals.")
    enforcement: Enforcement = Field(default="enforce", description="`audit` records a violation and lets it pass.")
    reason: Text | None = Field(default=None, description="What is told when an ask or deny matches.")


ExecEntry = Annotated[
    Annotated[ExecRule, Tag("rule")] | Annotated[Text, Tag("name")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "rule"),
]


class Limits(Part):
    """Resource limits of a sandboxed program."""

    memory: Size | None = Field(default=None, description="Memory of the whole process tree.")
    swap: Size | None = Field(default=None, description="Swap of the whole process tree.")
    processes: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Processes and threads at once.")
    cpus: Annotated[float, Field(gt=0)] | None = Field(default=None, description="CPU cores.")
    cpu_time: Duration | None = Field(default=None, description="CPU time in all.")
    wall_time: Duration | None = Field(default=None, description="Time from start to end.")
    output: Size | None = Field(default=None, description="Bytes on stdout and stderr.")
    disk: Size | None = Field(default=None, description="Bytes written.")
    open_files: Annotated[int, Field(ge=8)] | None = Field(default=None, description="Open descriptors per process.")
    io_bytes_per_second: Size | None = Field(default=None, description="Disk bandwidth where cgroups allow it.")


class Process(Part):
    """As whom programs run, which may be started, and with what limits. Nothing in `allow` means none."""

    run_as_user: Annotated[str | int, Field(union_mode="left_to_right")] | None = Field(
        default=None, description="`sandbox` (a transient user) or a numeric id from 1; never 0."
    )
    run_as_group: Annotated[str | int, Field(union_mode="left_to_right")] | None = Field(
        default=None, description="As run_as_user, for the group."
    )
    allow: list[ExecEntry] = Field(default_factory=list, description="Programs that may be started.")
    ask: list[ExecEntry] = Field(default_factory=list, description="Programs whose start asks a person.")
    deny: list[ExecEntry] = Field(
        default_factory=list, description="Programs that may not be started, wrapped (env, sh -c, …) or not."
    )
    env: list[Text] = Field(default_factory=list, description="Names of environment variables passed on; globs.")
    set_env: dict[str, str] = Field(default_factory=dict, description="Variables set in the sandbox; never secrets.")
    limits: Limits | None = Field(default=None, description="Resource limits.")
    unix_sockets: list[FsPath] = Field(default_factory=list, description="Unix sockets that may be connected to.")
    localhost: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        default_factory=list, description="Ports on the host's loopback that may be reached through the guard."
    )
    tty: bool = Field(default=True, description="Whether interactive programs get a terminal of their own.")

    @model_validator(mode="before")
    @classmethod
    def _identity(cls, data: Any) -> Any:
        for key in ("run_as_user", "run_as_group"):
            value = data.get(key) if isinstance(data, dict) else None
            if value is None or value in ("sandbox", ""):
                continue
            text = str(value)
            if isinstance(value, bool) or not text.isascii() or not text.isdigit() or not 1 <= int(text) < 2**32 - 1:
                raise ValueError(f"{key} must be 'sandbox' or a numeric id from 1 to 4294967294")
        return data
