"""The parts of app.py's page."""
