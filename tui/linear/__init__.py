"""Judging and rating line by line: plain text and numbered choices.

For screen readers, pipes and scripts: the same desk, log, live debate and assistants as the full
screen, and no state beside them, so that what is done here goes on there. Nothing is ever written
over; no colour, no cursor.
"""
