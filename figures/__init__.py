"""Every picture but those of plots.py: how it looks and what it shows."""
