"""Tournaments of debaters: who meets whom, their debates, and their ratings with intervals.

Players are agents with their engines. Two that meet debate the same questions, each defending the
right and the wrong answer, and the judge reads them in both orders; all debates are records of a
store, and every figure is made of these.
"""
