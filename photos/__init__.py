"""Photos for predict.py and app.py: read, described in rows, and annotated."""
