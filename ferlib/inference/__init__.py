"""Trained models applied to faces: views of a face, predictions of a split, networks made fast."""
