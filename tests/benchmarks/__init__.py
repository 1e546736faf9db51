"""Measurements of the product against its rivals; not tests."""
