"""Models that a server holds: log-probabilities of prompts over HTTP, engine by another name."""
