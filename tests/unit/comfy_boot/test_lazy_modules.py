"""comfy/worker_boot: modules that wait, and the start of a program under comfy/bootstrap.py."""

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROJECT_DIR = Path(__file__).resolve().parents[3]

Write = Callable[..., None]


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(PROJECT_DIR / "comfy"))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    yield importlib.import_module("worker_boot.lazy_modules")
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes modules into a folder of the search path; `loaded` in `log` lists who has run."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    (folder / "log.py").write_text("loaded = []\n")

    def write(**sources: str) -> None:
        for name, source in sources.items():
            path = folder / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"import log\nlog.loaded.append(__name__)\n{source}\n")
        importlib.invalidate_caches()

    return write


def core(tmp_path: Path, source: str, folder: str = "") -> dict[str, Any]:
    """The names of a module of ComfyUI itself, or of one in `folder`, that has just been run."""
    path = tmp_path / "ComfyUI" / folder / "module.py"
    names: dict[str, Any] = {"__name__": "module", "__file__": str(path)}
    exec(compile(source, str(path), "exec"), names)
    return names


def loaded() -> list[str]:
    return list(importlib.import_module("log").loaded)


def test_a_module_waits_until_something_of_it_is_used(
    lazy: Any, write: Write, tmp_path: Path
) -> None:
    write(late="value = 7")
    lazy.install([lazy.Lazy("late")], tmp_path)
    module = importlib.import_module("late")
    assert importlib.import_module("late") is module
    assert loaded() == []
    assert module.value == 7
    assert loaded() == ["late"]
    assert sys.modules["late"] is module


def test_a_name_taken_by_comfyui_waits_too_and_is_as_good_as_the_real_one(
    lazy: Any, write: Write, tmp_path: Path
) -> None:
    write(late="class Thing(str):\n    kind = 'thing'\ndef twice(n):\n    return 2 * n")
    lazy.install([lazy.Lazy("late", stand_ins=("Thing", "twice"))], tmp_path / "ComfyUI")
    names = core(tmp_path, "from late import Thing, twice")
    assert loaded() == []
    assert names["twice"](4) == 8
    real = sys.modules["late"].Thing
    stand_in = names["Thing"]
    assert isinstance(stand_in, lazy.StandIn)
    assert type(stand_in("a")) is real
    assert isinstance(real("a"), stand_in)
    assert not isinstance("a", stand_in)
    assert issubclass(real, stand_in)
    assert (stand_in == real, hash(stand_in) == hash(real)) == (True, True)
    assert stand_in | None == real | None

    class Heir(stand_in):  # type: ignore[misc, valid-type]
        pass

    assert Heir.__mro__[1] is real
    assert Heir.kind == "thing"


@pytest.mark.parametrize(("folder", "name"), [("custom_nodes", "Thing"), ("", "other")])
def test_a_custom_node_or_another_name_gets_the_real_thing(
    lazy: Any, write: Write, tmp_path: Path, folder: str, name: str
) -> None:
    write(late="class Thing: pass\nclass other: pass")
    lazy.install([lazy.Lazy("late", stand_ins=("Thing",))], tmp_path / "ComfyUI")
    names = core(tmp_path, f"from late import {name}", folder)
    assert loaded() == ["late"]
    assert isinstance(names[name], type)


def test_a_module_inside_a_waiting_package_is_loaded_after_it_and_once(
    lazy: Any, write: Write, tmp_path: Path
) -> None:
    write(**{
        "package/__init__": "from package import inner",
        "package/inner": "value = 1",
        "package/waiting": "from package import inner\nvalue = inner.value + 1",
    })  # fmt: skip
    lazy.install([lazy.Lazy("package"), lazy.Lazy("package.waiting")], tmp_path)
    from_package = core(tmp_path, "from package import waiting")["waiting"]
    assert loaded() == []
    inner = importlib.import_module("package.inner")
    assert loaded() == ["package", "package.inner"]
    assert inner is sys.modules["package"].inner
    assert inner.__spec__ is not None
    assert inner.__spec__.name == "package.inner"
    assert from_package.value == 2
    assert loaded() == ["package", "package.inner", "package.waiting"]


def test_a_package_that_is_loaded_imports_its_modules_in_its_own_order(
    lazy: Any, write: Write, tmp_path: Path
) -> None:
    write(**{
        "package/__init__": "from package import waiting, other",
        "package/waiting": "value = 1",
        "package/other": "",
    })  # fmt: skip
    lazy.install([lazy.Lazy("package"), lazy.Lazy("package.waiting", ("value",))], tmp_path)
    waiting = importlib.import_module("package.waiting")
    assert importlib.import_module("package").other is not None
    assert loaded() == ["package", "package.waiting", "package.other"]
    assert waiting.value == 1


def test_using_a_waiting_module_loads_its_waiting_package_first(
    lazy: Any, write: Write, tmp_path: Path
) -> None:
    write(**{"package/__init__": "unit = 5", "package/waiting": "from package import unit"})
    lazy.install([lazy.Lazy("package"), lazy.Lazy("package.waiting")], tmp_path)
    assert importlib.import_module("package.waiting").unit == 5
    assert loaded() == ["package", "package.waiting"]


def test_a_module_that_puts_another_in_its_place_is_followed(
    lazy: Any, write: Write, tmp_path: Path
) -> None:
    write(late="import sys, types\nother = types.ModuleType('late')\nother.value = 3\n"
          "other.Thing = int\nsys.modules[__name__] = other")  # fmt: skip
    lazy.install([lazy.Lazy("late", stand_ins=("Thing",))], tmp_path / "ComfyUI")
    module = importlib.import_module("late")
    stand_in = core(tmp_path, "from late import Thing")["Thing"]
    assert stand_in("12") == 12
    assert module.value == 3
    assert "value" in dir(module)


def test_a_missing_module_is_missing_at_once_and_a_broken_one_at_its_use(
    lazy: Any, write: Write, tmp_path: Path
) -> None:
    write(broken="raise OSError('no such library')")
    lazy.install([lazy.Lazy("no_such_module"), lazy.Lazy("broken")], tmp_path)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module")
    module = importlib.import_module("broken")
    for _ in range(2):
        with pytest.raises(OSError, match="no such library"):
            _ = module.value


def test_two_threads_that_need_a_module_load_it_once_and_see_all_of_it(
    lazy: Any, write: Write, tmp_path: Path
) -> None:
    write(late="import time\ntime.sleep(0.1)\nvalue = 7")
    lazy.install([lazy.Lazy("late")], tmp_path)
    module = importlib.import_module("late")
    values: list[int] = []
    threads = [threading.Thread(target=lambda: values.append(module.value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [7] * 4
    assert loaded() == ["late"]


def test_early_functions_answer_until_the_module_is_loaded(
    lazy: Any, write: Write, tmp_path: Path
) -> None:
    write(late="def state(): return 'loaded'\ndef other(): pass")
    told: list[ModuleType] = []
    early = {"state": lambda: "waiting"}
    lazy.install([lazy.Lazy("late", early=early, on_load=told.append)], tmp_path)
    module = importlib.import_module("late")
    assert (module.state(), told) == ("waiting", [])
    module.other()
    assert (module.state(), told) == ("loaded", [module])


def run_program(tmp_path: Path, source: str, *before: str) -> dict[str, Any]:
    """What a program prints as JSON when it is run as `PYTHON [before...] program.py one two`."""
    program = tmp_path / "program.py"
    program.write_text(source)
    run = subprocess.run(
        [sys.executable, *before, str(program), "one", "two"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


BOOTSTRAP = str(PROJECT_DIR / "comfy" / "bootstrap.py")


def test_a_program_sees_the_same_under_the_bootstrap_as_by_itself(tmp_path: Path) -> None:
    source = (
        "import json, sys\nmain = sys.modules['__main__']\n"
        "print(json.dumps({'name': __name__, 'file': __file__, 'argv': sys.argv, "
        "'path': sys.path, 'main': main.__dict__ is globals()}))"
    )
    by_itself = run_program(tmp_path, source)
    assert run_program(tmp_path, source, BOOTSTRAP) == by_itself


def test_the_collector_waits_for_the_server_and_then_leaves_the_start_alone(
    tmp_path: Path,
) -> None:
    """But for the caches of what runs prompts, which are made anew."""
    source = """
import asyncio, gc, json
from aiohttp import web
class PromptExecutor:
    resets = 0
    def reset(self): self.resets += 1
executor = PromptExecutor()
def state(): return [gc.isenabled(), gc.get_freeze_count() > 1000]
async def serve():
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await runner.cleanup()
before = state()
asyncio.run(serve())
print(json.dumps({"before": before, "after": state(), "resets": executor.resets}))
"""
    assert run_program(tmp_path, source, BOOTSTRAP) == {
        "before": [False, False],
        "after": [True, True],
        "resets": 1,
    }
