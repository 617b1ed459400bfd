"""The package behind the notebooks of `vlmbook`: one module a chapter, `from vlmbook.convolution import
conv2d`.
"""

__version__ = "0.1.0"
