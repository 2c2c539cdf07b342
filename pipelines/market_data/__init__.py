"""Bars from exchanges, and what a file of them holds."""
