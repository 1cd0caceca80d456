"""A RunPod serverless worker for Qwen Image Edit on ComfyUI."""
