"""Appendix B: the data sets of the book, their formats, and statistics of a reader's own folder."""
