"""What the stored trials say: savings, exports, reports. Pure functions over records."""
