"""The audit of a data set: counts, copies, leaks, pictures, labels, and known faces."""
