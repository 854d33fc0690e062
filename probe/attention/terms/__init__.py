"""The terms of an attention pattern: masks, hard-coded heads, low-rank far keys."""
