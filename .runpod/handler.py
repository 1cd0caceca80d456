"""RunPod's Hub looks for a file of this name; the image itself runs `python -m handler`."""

import runpy
import sys
from pathlib import Path

# Python puts this folder first, where `handler` is this file.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

if __name__ == "__main__":
    runpy.run_module("handler", run_name="__main__", alter_sys=True)
