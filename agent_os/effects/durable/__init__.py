"""Durable tasks: the ledger, who may take what, children, outcomes under a fence, schedules. Effects."""
