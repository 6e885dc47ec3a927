"""Seconds from pressing return to the result, and of one dataset compared with a bank."""
