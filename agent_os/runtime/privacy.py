"""Composition of the privacy router: which detectors stand behind the port, and the vault of a session."""

from __future__ import annotations

from agent_os.effects.detectors.detector import LocalDetector


def local_detector() -> LocalDetector:
    """Return the detector of this machine."""
    return LocalDetector()
