"""Waiting until sends have reached a status: what is waited for, what is known, and what is asked in a round."""
