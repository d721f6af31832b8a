"""The reference monitor: `perform` is the only door through which anything happens (law 8)."""

from agent_os.monitor.door import Monitor
from agent_os.monitor.wiring import Ports

__all__ = ["Monitor", "Ports"]
