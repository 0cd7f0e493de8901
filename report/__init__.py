"""The report's parts: what the stages left, and each section of the page."""
