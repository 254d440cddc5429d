"""Screens of the judging application."""
