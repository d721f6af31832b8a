"""`agentos demo`: the invoice desk, then agents as processes."""
