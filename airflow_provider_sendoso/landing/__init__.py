"""Loads Sendoso's objects into the author's tables: the rows' content, how far a list is read, and the writes."""
