"""`agentos serve`: the model gateway over HTTP, its callers, their sessions, approvals and metrics."""
