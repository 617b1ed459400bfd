"""Images for the chapters: real ones that come with the installed libraries and need no network."""

from vlmbook.data.embedded import digits, photo, photo_names

__all__ = ["digits", "photo", "photo_names"]
