"""Widgets of the judging screens, one a file."""
