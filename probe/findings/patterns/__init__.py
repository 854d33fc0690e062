"""What limiting attention costs: patterns against their cost, windows, single heads."""
