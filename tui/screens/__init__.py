"""Screens of the judging application, one a file."""
