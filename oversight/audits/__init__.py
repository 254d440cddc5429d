"""Audits of judges before they are used: interventions, runs over them, measures and a page.

An intervention changes one thing in a transcript and nothing else; the judge is asked about the
transcript as it was and as it is then, and the two beliefs are compared.
"""
