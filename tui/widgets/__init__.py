"""Widgets of the judging screens: the transcript, what was seen of it, and the panels around it."""
