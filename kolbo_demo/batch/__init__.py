"""Many generations from one list: read and looked at, made several at once, reported in one ZIP.

>>> rows = read_csv(Path("rows.csv"), from_folder(Path()))
>>> for line in Batch(KolboClient(), rows, Path("results")).run():
...     print(line.row.number, line.state)
"""

from kolbo_demo.batch.manifest import (
    Find,
    Row,
    check,
    check_links,
    from_folder,
    from_uploads,
    read_csv,
    read_pairs,
)
from kolbo_demo.batch.runner import Batch
from kolbo_demo.batch.state import Line, Store

__all__ = [
    "Batch",
    "Find",
    "Line",
    "Row",
    "Store",
    "check",
    "check_links",
    "from_folder",
    "from_uploads",
    "read_csv",
    "read_pairs",
]
