"""Figures of merit of predictions, their intervals, and what runs left on disk."""
