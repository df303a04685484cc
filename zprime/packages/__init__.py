"""zprime's packages under names that nobody else has: below `zprime.packages`.

The packages `data`, `pipeline`, `generators`, `classifiers` and `stages` have plain names, which other
people's code may use too: a script that imports zprime may stand beside a folder `data` of its own. zprime
must not take that folder for its own, and that script must not find zprime's package under the plain name. So
the files are loaded here as `zprime.packages.data` and so on, and when one of them imports `data`, it gets
`zprime.packages.data`. Nothing else in the process changes.

In a wheel the packages lie in this folder; in a clone they lie beside the folder `zprime`.
"""

import builtins
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

NAMES = ("classifiers", "data", "generators", "pipeline", "stages")
_HERE = Path(__file__).parent
FOLDER = _HERE if (_HERE / "pipeline").is_dir() else _HERE.parents[1]
"""The folder that has the packages."""

__path__ = [str(FOLDER)]  # Python looks here for `zprime.packages.NAME`


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """Execute an import statement, with zprime's own packages found below `zprime.packages`.

    The arguments are those of `builtins.__import__`, and so is the result.

    Returns:
        the imported module or package.
    """
    if level or name.partition(".")[0] not in NAMES:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    if fromlist:  # from data.manifest import rows
        return builtins.__import__(f"{__name__}.{name}", globals, locals, fromlist, 0)
    importlib.import_module(f"{__name__}.{name}")  # import data.manifest, which binds the name `data`
    return sys.modules[f"{__name__}.{name.partition('.')[0]}"]


class _Loader(SourceFileLoader):
    """Loads a file of zprime; its import statements, late ones too, go through `_import`."""

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds `zprime.packages.NAME` and the modules below it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module below `zprime.packages`; None for any other."""
        if not fullname.startswith(f"{__name__}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder())
