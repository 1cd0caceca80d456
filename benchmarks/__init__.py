"""What the worker adds around the GPU, measured: `make bench`."""
