"""Every picture that is drawn with matplotlib or Pillow."""
