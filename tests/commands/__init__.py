"""Commands as a user calls them: what they print, write and refuse."""
