"""Ways to change what is protected inside the workspace."""

import ctypes
import os
import time

from common import WS, X86, libc, program, reads, writes


@program("control")
def git_hook_existing_folder():
    return writes(WS + "/.git/hooks/pre-commit")


@program("control")
def git_config_existing():
    with open(WS + "/.git/config", "a") as file:
        file.write("[core]\n\tfsmonitor = touch /tmp/x\n")
    return True


@program()
def git_config_by_lock_and_rename():
    writes(WS + "/.git/config.lock", "[core]\n")
    os.rename(WS + "/.git/config.lock", WS + "/.git/config")
    return True


@program()
def git_commondir():
    os.makedirs(WS + "/evil/hooks", exist_ok=True)
    return writes(WS + "/.git/commondir", "../evil\n")


@program()
def git_folder_renamed_away():
    os.rename(WS + "/.git", WS + "/old")
    return True


@program()
def git_hooks_renamed_away():
    os.rename(WS + "/.git/hooks", WS + "/.git/old")
    return True


@program()
def git_hooks_removed():
    import shutil

    shutil.rmtree(WS + "/.git/hooks")
    return True


@program()
def git_hook_of_a_vendored_repository():
    return writes(WS + "/vendor/lib/.git/hooks/post-checkout")


@program()
def vendored_parent_renamed():
    os.rename(WS + "/vendor", WS + "/vendor2")
    return True


@program()
def exchange_with_other_folder():
    os.makedirs(WS + "/fake/hooks", exist_ok=True)
    result = libc.syscall(
        ctypes.c_long(316 if X86 else 276), -100, (WS + "/fake").encode(), -100, (WS + "/.git").encode(), 2
    )
    return result == 0


@program()
def shell_start_file_absent():
    return writes(WS + "/.bashrc") or writes(WS + "/.profile")


@program()
def shell_start_file_by_rename():
    writes(WS + "/bashrc")
    os.rename(WS + "/bashrc", WS + "/.bashrc")
    return True


@program()
def shell_start_file_by_unlink_first():
    os.unlink(WS + "/.zshrc")
    return writes(WS + "/.zshrc")


@program()
def shell_start_file_by_link():
    writes(WS + "/rc")
    os.symlink("rc", WS + "/.profile")
    return True


@program()
def editor_task_absent():
    os.makedirs(WS + "/.vscode", exist_ok=True)
    return writes(WS + "/.vscode/tasks.json", "{}")


@program()
def agent_settings_absent():
    os.makedirs(WS + "/.claude", exist_ok=True)
    return writes(WS + "/.claude/settings.json", "{}")


@program()
def mcp_settings_absent():
    return writes(WS + "/.mcp.json", "{}")


@program("control")
def environment_file_read():
    return b"sekret" in open(WS + "/.env.production", "rb").read()


@program()
def environment_file_absent():
    return writes(WS + "/.env", "A=1\n")


@program("control")
def ssh_key_read():
    return reads(WS + "/.ssh/id_ed25519")


@program("control")
def read_only_folder_written():
    return writes(WS + "/fixed/file")


@program()
def read_only_folder_replaced():
    os.rename(WS + "/nest/fixed", WS + "/nest/old")
    return True


@program()
def read_only_parent_replaced():
    os.rename(WS + "/nest", WS + "/nest2")
    return True


@program("control")
def hidden_folder_read():
    return reads(WS + "/hidden/file")


@program("control")
def hidden_by_glob_read():
    return reads(WS + "/sub/deep/key.pem")


@program()
def hidden_renamed_into_view():
    os.rename(WS + "/hidden", WS + "/seen")
    return True


@program()
def race_of_renames():
    stop = time.monotonic() + 1.0
    os.makedirs(WS + "/race", exist_ok=True)
    while time.monotonic() < stop:
        for name in (".git/hooks", ".git", ".vscode", "hidden"):
            try:
                os.rename(WS + "/" + name, WS + "/race/x")
                return True
            except OSError:
                pass
            try:
                os.rename(WS + "/race", WS + "/" + name)
                return True
            except OSError:
                pass
    return False
