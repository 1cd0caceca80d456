"""What comfy/bootstrap.py does before it runs ComfyUI."""
