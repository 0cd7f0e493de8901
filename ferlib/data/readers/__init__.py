"""The layouts in which people keep each data set."""
