"""Many generations from one list: checked, run concurrently, reported in one ZIP.

>>> rows = read_csv(Path("rows.csv"), folder_resolver(Path()))
>>> for status in Batch(KolboClient(), rows, Path("results")).run():
...     print(status.row.number, status.state)
"""

from kolbo_demo.batch.manifest import (
    ResolveCell,
    Row,
    check_links,
    check_rows,
    folder_resolver,
    read_csv,
    read_pairs,
    upload_resolver,
)
from kolbo_demo.batch.runner import Batch
from kolbo_demo.batch.state import BatchStore, RowStatus

__all__ = [
    "Batch",
    "BatchStore",
    "ResolveCell",
    "Row",
    "RowStatus",
    "check_links",
    "check_rows",
    "folder_resolver",
    "read_csv",
    "read_pairs",
    "upload_resolver",
]
