"""Storage of one installation: its state directory, keys and `state.db`. Effects: reached through ports only."""
