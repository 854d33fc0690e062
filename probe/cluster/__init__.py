"""One run on many workers: a queue of units, and Ray that carries them."""
