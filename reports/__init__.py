"""Outcomes to HTML."""
