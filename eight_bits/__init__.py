"""The parts of quantization.py: a network's graph, that of its gradients, and both written anew in 8 bits."""
