"""Hooks to the address that a caller named: what they say, and a signed POST to public machines."""
