"""Measuring judges: accuracy, calibration, scoring rules, agreement."""
