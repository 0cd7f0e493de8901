"""The parts of live.py: frames in, faces tracked, frames out."""
