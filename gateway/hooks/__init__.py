"""Hooks to the address that a caller named: what they say, their signature, and who may get them."""
