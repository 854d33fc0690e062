"""From a measured run to training: weights of tokens, data, losses."""
