"""The site: `make docs` builds it into build/docs, without a network."""

import os
import re
import sys
from collections import _tuplegetter
from importlib.metadata import version as version_of
from pathlib import Path

from myst_nb.core import render


ROOT = Path(__file__).parents[1]

project = "fedjax_sl"
copyright = "the authors of fedjax_sl, Apache-2.0"
version = release = version_of("fedjax-sl")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_static"]

html_theme = "sphinx_book_theme"
html_title = "fedjax_sl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],
    "footer_content_items": ["copyright"],
    "show_toc_level": 2,
}

# Formulas are Unicode text: MathJax would come from a network.
myst_heading_anchors = 4
highlight_language = "none"

# Tutorials call the command of the environment that builds them.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
# Its progress is then lines of this width, not a live bar: a kernel is no terminal.
os.environ.update(TTY_COMPATIBLE="0", COLUMNS="112")

# A tutorial is executed again when its own code changes; `make clean` forgets all.
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build/docs-cache")
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

# Docstrings are in Google's style, with names between single backticks.
default_role = "code"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_attr_annotations = False
python_maximum_signature_line_length = 72
python_use_unqualified_type_names = True
add_module_names = False


def joined(outputs):
    """Joins the pieces of a stream; myst_nb ends a line after each.

    A `%%bash` cell prints what its command does in pieces of 100 characters.
    """
    found = []
    for output in outputs:
        earlier = [o for o in found if o.get("name") == output.get("name")]
        if output["output_type"] == "stream" and earlier:
            earlier[0]["text"] += output["text"]
        else:
            found.append(output)
    return found


def skip_field(app, what, name, obj, skip, options):
    """Leaves out fields of a NamedTuple: its docstring has them under Attributes."""
    return True if isinstance(obj, _tuplegetter) else None


def keep_formulas(app, what, name, obj, options, lines):
    """Leaves |x| as it is, no substitution, and a lone "B.", no item of a list."""
    for index, line in enumerate(lines):
        line = re.sub(r": (\w)\.$", r": \1\\.", line)
        parts = re.split("(`[^`]*`)", line)
        parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
        lines[index] = "".join(parts)


def setup(app):
    """Registers the functions above."""
    render.coalesce_streams = joined
    app.connect("autodoc-process-docstring", keep_formulas)
    app.connect("autodoc-skip-member", skip_field)
