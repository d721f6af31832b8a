"""Durable tasks on DBOS (extra `[durable]`): engine, ledger, schedules, control socket. Effects."""
