"""Faces in photos and frames: detected, cropped, classified."""
