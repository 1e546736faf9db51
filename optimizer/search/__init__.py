"""Which variant comes next, and what becomes of it."""
