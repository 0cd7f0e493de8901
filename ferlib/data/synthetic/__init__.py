"""The embedded data set of drawn faces."""
