"""The sentences that a reader gets from `check` and `hint`, in the reader's language.

A sentence is a template with named fields, "{batch} images? There are two.", so that a catalogue can
translate it. `VLMBOOK_LANG=zh` looks it up in `vlmbook/locale/zh/LC_MESSAGES/vlmbook.mo`; what is not there
stays English.
"""

import gettext
import os
from functools import cache

from vlmbook.runtime import PACKAGE


def message(template: str, **fields) -> str:
    """str, named values -> str: the template in the reader's language, with the values filled in."""
    language = os.environ.get("VLMBOOK_LANG") or "en"
    return _catalogue(language).gettext(template).format(**fields)


@cache
def _catalogue(language):
    return gettext.translation("vlmbook", PACKAGE / "locale", languages=[language], fallback=True)
