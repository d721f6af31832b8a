"""The privacy guard: spans -> rewrite, pseudonyms, restoration. Pure: no clock, no I/O, no randomness of its own."""
