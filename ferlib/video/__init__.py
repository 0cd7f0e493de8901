"""Videos and cameras: frames read, faces tracked over time, annotated frames written and shown."""
