"""Policy: parse, compile, decide. Pure: text in, values out; no clock, no I/O."""
