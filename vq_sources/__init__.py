"""Vector-quantised autoencoders as sources of probabilistic circuits."""
