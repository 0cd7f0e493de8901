"""Data sets: what is known of each, how their files are read, decoded and cached."""
