"""The sentences that a reader gets from `check` and `hint`, in the reader's language.

A sentence is a template with named fields, "{batch} images? There are two.", so that a catalogue can
translate it. `VLMBOOK_LANG=zh` looks it up in `vlmbook/locale/zh/LC_MESSAGES/vlmbook.mo`; what is not there
stays English.
"""

import gettext
import os
from functools import cache

from vlmbook.runtime import PACKAGE
from vlmbook.validation import require_type

MIME = "application/vnd.vlmbook.check+json"  # the output of a notebook in which `check` shows its sentence


def message(template: str, **fields) -> str:
    """str, named values -> str: the template in the reader's language, with the values filled in.

    Raises TypeError for what is no text, ValueError where the fields in braces are not those that are given.
    """
    require_type(template, "template", str, "a sentence with named fields")
    language = os.environ.get("VLMBOOK_LANG") or "en"
    try:
        return _catalogue(language).gettext(template).format(**fields)
    except (LookupError, ValueError, AttributeError) as error:
        given = ", ".join(fields) or "none"
        raise ValueError(f"template wants the fields {given} in braces, got {template!r} ({error})") from None


@cache
def _catalogue(language):
    return gettext.translation("vlmbook", PACKAGE / "locale", languages=[language], fallback=True)
