"""Sandboxes composed: preparing one, `agentos run`, programs of tools, snapshots, reload of a running one."""
