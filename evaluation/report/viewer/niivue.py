"""Takes NiiVue, which draws the planes of the viewer, out of the package ipyniivue.

The package is a widget for notebooks. It is not imported: only one of its files is read, a module
for browsers that contains NiiVue. The notebook packages that it depends on are therefore not
needed. The module exports only the widget, and a page that is opened from disk cannot load modules.
The module is therefore turned into a plain script that defines `Niivue`.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from shared.errors import InputError

PACKAGE: Final = "ipyniivue"
VERSION: Final = "2.4.4"
"""The version whose file is known to have the parts below; `pyproject.toml` pins it."""
MODULE: Final = "ipyniivue/static/widget.js"
LICENCE: Final = "licenses/LICENSE"
_CLASS: Final = re.compile(r'"Creating new Niivue instance"\).{0,200}?=new ([\w$]+)\(')
"""Where the widget creates its viewer; there the module names the class of NiiVue."""
_EXPORT: Final = re.compile(r"export\s*\{[^{}]*\};?\s*$")


def read_niivue() -> str:
    """Return NiiVue as a script for browsers that defines `Niivue`, with its licence.

    Raises
    ------
    InputError
        If the package is missing, or its file does not have the parts that are needed.
    """
    install = f"pip install --no-deps {PACKAGE}=={VERSION}"
    try:
        package = distribution(PACKAGE)
        module = Path(str(package.locate_file(MODULE))).read_text(encoding="utf-8")
    except (PackageNotFoundError, FileNotFoundError) as error:
        raise InputError(
            f"expected NiiVue in the package {PACKAGE}, found no {MODULE}; {install}"
        ) from error
    name, export = _CLASS.search(module), _EXPORT.search(module)
    if name is None or export is None or "</script" in module:
        raise InputError(
            f"expected NiiVue as in {PACKAGE} {VERSION}, found another file in version "
            f"{package.version}; {install}"
        )
    licence = (package.read_text(LICENCE) or "").replace("*/", "* /").strip()
    body = module[: export.start()]
    return (
        f'/*! NiiVue, {licence} */\n(() => {{"use strict";\n{body}\nwindow.Niivue={name[1]};}})();'
    )
