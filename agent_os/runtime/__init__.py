"""The composition root: the only floor that imports effects; reads policy files, opens the state, wires the monitor."""
