"""Other packages, as pip leaves them: folders of metadata that name entry points."""

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, group: str, points: Mapping[str, str]) -> None:
    """Installs a package with entry points of one group, in place of an earlier one.

    Args:
      site: folder of the packages, to be put on Python's path.
      group: of the entry points.
      points: "module:object" by the name of each.
    """
    info = site / "other-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\n")
    lines = (f"{name} = {target}" for name, target in points.items())
    (info / "entry_points.txt").write_text("\n".join((f"[{group}]", *lines, "")))
