"""Runs ComfyUI's main.py as `python main.py` does, and is ready sooner:
`bootstrap.py MAIN_PY [ARG...]`.

ComfyUI is not changed and all its nodes are there. COMFY_STOCK=1 starts main.py without this.
"""

import importlib
import runpy
import sys
import threading
import traceback
from pathlib import Path

from worker_boot.collector import Collector, when_listening
from worker_boot.lazy_list import SOON, lazy_modules
from worker_boot.lazy_modules import install


def main() -> None:
    del sys.argv[0]
    main_py = Path(sys.argv[0]).absolute()
    sys.path[0] = str(main_py.parent)
    collector = Collector()
    try:
        when_listening(lambda: _settle(collector))
        collector.pause()
        install(lazy_modules(), main_py.parent)
    except Exception:
        # It then starts as slowly as by itself.
        traceback.print_exc()
    runpy.run_path(sys.argv[0], run_name="__main__")


def _settle(collector: Collector) -> None:
    collector.settle()
    threading.Thread(target=_load_soon, name="bootstrap", daemon=True).start()


def _load_soon() -> None:
    for name in SOON:
        try:
            dir(importlib.import_module(name))
        except Exception:
            # Whoever needs it gets the error, too.
            traceback.print_exc()


main()
