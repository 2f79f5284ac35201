"""Runs a module of this package: `python -P start.py kolbo_demo.MODULE`.

Python's own `-m` reads the folder that the package lies in, which a confined process may not: there
may be other people's files beside it.
"""

import importlib.util
import runpy
import sys
from pathlib import Path


def _package() -> None:
    found = importlib.util.spec_from_file_location(
        "kolbo_demo", Path(__file__).parents[1] / "__init__.py"
    )
    assert found
    assert found.loader
    sys.modules["kolbo_demo"] = package = importlib.util.module_from_spec(found)
    found.loader.exec_module(package)


if __name__ == "__main__":
    _package()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
