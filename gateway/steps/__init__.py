"""Background work. Each step does one short thing and says how many rows it has moved."""
