"""Reading pictures and pages: the process that does it, and who talks to it."""
