"""Explanation methods, and the driver that applies them to faces."""
