"""The engine: branches in, losses out, every shared prefix forwarded once."""
