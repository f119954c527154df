"""A table of many columns for a terminal of 80."""

from rich.box import SIMPLE_HEAD
from rich.table import Table


def compact(title: str) -> Table:
    """Returns a table without columns, as narrow as its cells let it be."""
    return Table(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
    )
