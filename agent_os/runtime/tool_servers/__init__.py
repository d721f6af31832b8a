"""Tool servers: MCP over stdio in a sandbox of its own, or over HTTP through the egress guard; accepted and pinned.

| room | holds |
|---|---|
| `records` | what is kept of a server: its command or address, what a person accepted, its state |
| `packs` | where servers come from: shipped packs, folders, commands; the digest of their code |
| `connection` | one server's conversation: opening, listing, calling, over any transport |
| `stdio` | the transport of a server in the sandbox |
| `door` | the session's door as a server's network meets it: hosts and secrets of its manifest only |
| `host` | starts servers: manifest and policy and the caller's rights become one sandbox |
| `session` | the servers of a session and of its sub-agents, started with their first call |
| `acceptance` | what a person looks at and accepts |
"""
