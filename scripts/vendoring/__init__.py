"""The ComfyUI that a lock names: fetched, proved by one digest, and put in place whole."""
