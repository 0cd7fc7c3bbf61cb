"""Sendoso's objects in a table of the author's: what rows hold, how much of a list is read, how it is written."""
