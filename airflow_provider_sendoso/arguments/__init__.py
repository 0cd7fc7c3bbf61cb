"""Parsing of arguments that DAG authors and templates give: single values, and whole sends."""
