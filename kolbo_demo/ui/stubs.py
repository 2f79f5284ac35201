"""Gradio without the type stubs that it writes for editors: half of what its import takes.

With each class of a component Gradio parses the file that defines it and rewrites its `.pyi`, among
the installed packages. The wheel has these files already, and who runs the page needs none.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any


def leave_out() -> None:
    """Where Gradio is not imported yet, have it write none."""
    sys.meta_path.insert(0, _Finder)


class _Finder(PathFinder):
    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gradio.component_meta":
            return None
        spec = super().find_spec(fullname, path, target)
        if spec and spec.origin:
            spec.loader = _WithoutStubs(fullname, spec.origin)
        return spec


class _WithoutStubs(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        vars(module)["create_or_modify_pyi"] = _nothing


def _nothing(*_: Any) -> None:
    pass
