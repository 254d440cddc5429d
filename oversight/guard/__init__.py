"""A guard in front of any model: what goes in and what comes out is checked by a policy.

`policy` holds the settings, `checks/` the checks (a family to a file), `streaming` the rule by
which no character of what a check stops is sent, `screening` the checks applied to messages and to
choices, `exchanges` one call from its request to its last word, `upstreams` the models behind the
guard, `serving` the server, and `recording` what the store keeps.
"""
