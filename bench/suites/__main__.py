"""`python -m bench.suites`: prints the table of bench/suites/replay.py."""

from bench.suites.replay import main

main()
