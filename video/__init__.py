"""The parts of live.py: frames in, faces followed, frames out."""
