"""The policy workbench: what people do with policies before and after they are in force. Pure.

Deciding streams, testing with coverage, checking for what is too broad or can never match, explaining one decision,
comparing two policies by behaviour, replaying what was recorded, and learning the smallest rules that were missing.
Files are read and written by the runtime; everything here takes and returns values.
"""
