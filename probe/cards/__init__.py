"""A run made fit to share: its card, the records of other tools, and the data set on the hub."""
