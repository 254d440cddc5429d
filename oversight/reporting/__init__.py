"""Transcripts, runs and reports as pages: served, as a folder of files, and in the terminal.

`pages` says what a page shows, as plain data, and everything that shows it (`rendering` for HTML,
`terminal` for a screen) reads that. `index` answers lists, filters and searches.
"""
