"""Damaged and hostile inputs by the thousand: ``python -m tests.fuzz --runs 20000``."""
