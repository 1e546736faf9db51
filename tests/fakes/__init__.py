"""A kernel tree, an emulator and a study that cost seconds instead of hours."""
