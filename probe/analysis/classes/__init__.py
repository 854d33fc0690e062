"""Token classes: which kind of token a target is, and curves and answers for each kind."""
