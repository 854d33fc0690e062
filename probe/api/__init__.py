"""What `import probe` offers: one function each for a text, for a run and for several runs."""
