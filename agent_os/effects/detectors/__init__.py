"""Detectors of personal data and secrets behind the port `core.ports.Detector`."""
