"""The flow guard: untrusted text never becomes authority (docs/flow.md says what it does; this is where it is done).

Every file is pure but for the state of its session.

Words: `normal` (strict and loose spellings), `lexicon` (verbs and nouns in groups), `synonyms` and `opposites` (verbs that mean
one thing, or undo each other), `numerals` and `days` (as people write them), `tongues`, `tongue_words` and `identifiers` (German,
French, Spanish, Italian), `draft_words` (what names of tools and fields say).

The user: `stated` (days, amounts and texts of a sentence), `sentence` and `reading` (what each one asks for), `prompt` (what
the words name and count).

Tools: `naming` (verb and object of a name), `shapes` (what a value is, whatever it is called), `derive` and `fields` (a draft for
a tool nobody described), `sinks` (files that run, invitations, memories), `kinds` (actions that are no tool calls).

Results: `forms` (JSON, YAML, CSV …), `leaves` (labels, records), `found` (what detectors saw), `taint` (is it in
untrusted text?), `secrets` (is it guarded?), `handles` (values by reference), `references` (lists an operator keeps).

Which row is meant: `select` (the extreme), `conditions` (what it lacks or holds), `picking` (bounds), `describing` (the prompt's
words in it), `choosing` (all of that for one column), `evidence` (all columns: what may vouch).

Judging: `scope` (is the effect asked for?), `knowledge` (what the session knows), `vouching` (does anything vouch for this
value?), `rows` (what the records say of the other arguments), `pins` (does it say otherwise than the request?), `places` (where
text is put), `judge`.

The session: `taking` (a result goes into what is known), `memo`, `kept` and `lasting` (what outlives it), `quarantine` (a reader
without tools), `session` (the guard itself), `wiring` and `replay` (as a policy, or a trace, asks for it).
"""
