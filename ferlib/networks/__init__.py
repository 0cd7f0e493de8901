"""What a model is made of: specifications, the classifier, checkpoints, and networks that no library has."""
