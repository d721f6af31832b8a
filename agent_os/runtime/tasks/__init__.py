"""Durable tasks composed: the runtime of a worker, the desk of the command line, handles of the SDK."""
