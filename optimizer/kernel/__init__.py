"""A kernel source tree and what is built from it."""
