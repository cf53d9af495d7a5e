"""The dashboard as people use it: a server of its own, and a real browser that looks at it."""
