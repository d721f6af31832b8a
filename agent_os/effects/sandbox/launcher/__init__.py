"""The launcher in Python: a small process that turns an encoded sandbox plan into a confined program. Standard library alone.

It is started as `python3 -I -S .../launcher FD` with an empty environment and can import nothing of the agent's world
(`__main__` says how). On the socket FD come requests (`guards/confine/wire.py`); each starts one sandbox, so that a warm
launcher costs no interpreter start. What it does for one request, in this order (each step would be undone or be too late
in another):

    launcher  mount trees cloned and owner-mapped (as root) -> clone with name spaces -> id maps, cgroups -> "go"   start.py
    init      ids, host name, network and listeners -> private root, pivot -> terminal -> fork; then only waits     init.py
    worker    session, limits, descriptors, key ring, capabilities, no_new_privs, Landlock, seccomp LAST, exec      worker.py

The init is process 1 of the sandbox: when it ends, the kernel kills everything inside. It ends with the worker, and when
the control socket breaks off (the supervisor died). A step that fails is reported with its name and nothing is run.

It may not decide anything: what to mount, filter and allow stands in the plan. Threat: the request is trusted (our own
process made it); the paths it names are not (a sandbox may race for them), hence `openat2` without links everywhere.
`../compiled/` holds the same launcher in C, which does the same steps in the same order; the same tests judge both.
"""
