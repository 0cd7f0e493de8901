"""The library behind the commands at the root; docs/architecture.md draws its rooms."""
