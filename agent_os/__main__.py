"""`python -m agent_os` is `agentos`."""

from agent_os.cli.main import main

if __name__ == "__main__":
    main()
