"""Checks of the exercises: a table a notebook, and the code that some need."""
