"""Scores of explanations: against exact values, by faithfulness, location, stability and sanity checks."""
