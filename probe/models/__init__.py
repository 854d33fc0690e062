"""Loading a model and what the engine needs to know of its family."""
