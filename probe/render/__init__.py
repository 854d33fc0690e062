"""Renderers: any finding as terminal text, page and figures; none knows which it holds."""
