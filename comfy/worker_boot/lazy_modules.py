"""Imports that wait until somebody uses the module.

importlib.util.LazyLoader can't be used here: in Python 3.11 a second `import` of the module loads
it, and `from module import name` always does. What is loaded late is the real module, by its real
loader; only the moment differs, and so does the place where a broken module's error shows.
"""

import contextlib
import importlib
import importlib.util
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

# What the import system itself asks of a module; a module has these or does without.
_LOADING_DUNDERS = frozenset({"__all__", "__version__"})


@dataclass(frozen=True)
class Lazy:
    """A module that is loaded at its first use.

    `stand_ins` are the names that ComfyUI's own modules take with `from module import name`: they
    get an object that loads the module when it is called or looked at. Anybody else, and any other
    name, gets the real thing at once. `early` are functions that answer until the module is
    loaded, and `on_load` is called with it then.
    """

    name: str
    stand_ins: Sequence[str] = ()
    early: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    on_load: Callable[[types.ModuleType], None] = lambda module: None


def install(modules: Iterable[Lazy], comfy_dir: Path) -> None:
    """From now on. Modules that are loaded already stay as they are."""
    sys.meta_path.insert(0, _Finder({lazy.name: lazy for lazy in modules}, comfy_dir))


class _Finder(MetaPathFinder):
    def __init__(self, modules: Mapping[str, Lazy], comfy_dir: Path) -> None:
        self.modules = modules
        self._core = str(comfy_dir) + "/"
        self._custom = str(comfy_dir / "custom_nodes") + "/"
        self._is_looking = threading.local()
        self._loading: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if getattr(self._is_looking, "name", None) == name:
            return None
        if name in self.modules and not name.startswith(tuple(self._loading)):
            return self._lazy_spec(name)
        package = sys.modules.get(name.rpartition(".")[0])
        if isinstance(package, _LazyModule):
            package.__spec__.loader.load(package)
            # The package may have imported it meanwhile: once is enough.
            if name in sys.modules:
                return ModuleSpec(name, _Loaded(sys.modules[name]))
        return None

    @contextlib.contextmanager
    def nothing_waits_in(self, package: types.ModuleType) -> Iterator[None]:
        """The order in which a package imports its own modules may matter to it (kornia's does)."""
        inside = f"{package.__name__}."
        waiting = {
            name: module
            for name, module in sys.modules.items()
            if name.startswith(inside) and isinstance(module, _LazyModule)
        }
        for name in waiting:
            del sys.modules[name]
            vars(package).pop(name.removeprefix(inside), None)
        self._loading.add(inside)
        try:
            yield
        finally:
            self._loading.discard(inside)
            for name, module in waiting.items():
                if sys.modules.setdefault(name, module) is module:
                    vars(package).setdefault(name.removeprefix(inside), module)

    def _lazy_spec(self, name: str) -> ModuleSpec | None:
        self._is_looking.name = name
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._is_looking.name = None
        if spec is not None and spec.loader is not None:
            spec.loader = _LazyLoader(self, self.modules[name], spec.loader)
        return spec

    def is_for_core(self) -> bool:
        """Whether it is a module of ComfyUI itself that wants a name. A custom node may do with a
        name what a stand-in can't."""
        frame: types.FrameType | None = sys._getframe(2)
        while frame and frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        path = frame.f_code.co_filename if frame else ""
        return path.startswith(self._core) and not path.startswith(self._custom)


class _LazyLoader(Loader):
    def __init__(self, finder: _Finder, lazy: Lazy, loader: Loader) -> None:
        self.finder = finder
        self.lazy = lazy
        self._loader = loader
        self._lock = threading.RLock()
        self._state = "waiting"

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = _LazyModule(spec.name)
        vars(module).update(self.lazy.early)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass

    def load(self, module: types.ModuleType) -> None:
        """Other threads wait; within the thread that loads it this does nothing, as in any circle
        of imports."""
        with self._lock:
            if self._state != "waiting":
                return
            package = sys.modules.get(module.__name__.rpartition(".")[0])
            if isinstance(package, _LazyModule):
                package.__spec__.loader.load(package)
            for name in self.lazy.early:
                vars(module).pop(name, None)
            self._state = "loading"
            try:
                # Else its package has just loaded it.
                if sys.modules.get(module.__name__, module) is module:
                    with self.finder.nothing_waits_in(module):
                        self._loader.exec_module(module)
            except BaseException:
                self._state = "waiting"
                raise
            self._state = "loaded"
            self.lazy.on_load(sys.modules.get(module.__name__, module))

    @property
    def is_done(self) -> bool:
        return self._state == "loaded"


class _LazyModule(types.ModuleType):
    """Python asks __getattr__ for what the module does not have: all of it, until it is loaded."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _LOADING_DUNDERS:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        loader: _LazyLoader = self.__spec__.loader
        if not loader.is_done:
            if f"{self.__name__}.{name}" in loader.finder.modules:
                return importlib.import_module(f"{self.__name__}.{name}")
            if name in loader.lazy.stand_ins and loader.finder.is_for_core():
                return StandIn(self, name)
            loader.load(self)
            if name in vars(self):
                return vars(self)[name]
        # A module may put another object in its place while it loads, as transformers does.
        current = sys.modules.get(self.__name__, self)
        if current is not self:
            return getattr(current, name)
        if "__getattr__" in vars(self):
            return vars(self)["__getattr__"](name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> Iterable[str]:
        self.__spec__.loader.load(self)
        return dir(sys.modules[self.__name__]) if self._is_replaced() else super().__dir__()

    def _is_replaced(self) -> bool:
        return sys.modules.get(self.__name__, self) is not self


class StandIn:
    """For a class or a function of a module that is not loaded yet."""

    def __init__(self, module: types.ModuleType, name: str) -> None:
        vars(self).update(_module=module, _name=name)

    def _real(self) -> Any:
        self._module.__spec__.loader.load(self._module)
        return getattr(sys.modules[self._module.__name__], self._name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._real()(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real(), name, value)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._real())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self._real())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)

    def __eq__(self, other: object) -> bool:
        return self is other or bool(self._real() == other)

    def __hash__(self) -> int:
        return hash(self._real())

    def __or__(self, other: Any) -> Any:
        return self._real() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._real()


class _Loaded(Loader):
    """Hands the import system a module that is there already, and leaves it as it is.

    Until then the module has no spec: importlib would take that one, and run the module again.
    """

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__
        module.__spec__ = None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return self._module

    def exec_module(self, module: types.ModuleType) -> None:
        module.__spec__ = self._spec
