"""Loss at every length of the context, and what each of its tokens adds (protocol dense)."""
