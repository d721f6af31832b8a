"""The Model Context Protocol as we speak it to tool servers. Pure: bytes in, messages out."""
