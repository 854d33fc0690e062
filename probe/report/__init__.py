"""The page of a run: frames in, one self-contained HTML file out; needs no torch."""
