"""Run a module of this package: `python -P run_module.py kolbo_demo.MODULE`.

Python's own `-m` reads the folder that contains the package, which a confined process must not:
other people's files may be there.
"""

import importlib.util
import runpy
import sys
from pathlib import Path


def _load_package() -> None:
    spec = importlib.util.spec_from_file_location(
        "kolbo_demo", Path(__file__).parents[1] / "__init__.py"
    )
    assert spec
    assert spec.loader
    sys.modules["kolbo_demo"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    _load_package()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
