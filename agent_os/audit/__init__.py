"""The audit, as pure functions: hash chain, checkpoints, verification, keyed digests and export formats.

Pure: no clock, no I/O. Files, threads and keys are in `effects/audit_log.py` and `effects/stores/keys.py`.
"""
