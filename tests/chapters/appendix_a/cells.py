"""The code of the appendix, as its reader sees it: functions of its cells, found by name."""

import ast

import numpy as np
import torch

from tools.execute import from_text
from vlmbook import chapters

[CHAPTER] = [chapter for chapter in chapters.TABLE if chapter.name == "appendix_a"]
CELLS = from_text(CHAPTER.text.read_text(encoding="utf-8")) if CHAPTER.text.exists() else []
CODE = [cell.source for cell in CELLS if cell.cell_type == "code"]
PROSE = "\n".join(cell.source for cell in CELLS if cell.cell_type == "markdown")


def find_definitions() -> dict[str, str]:
    """-> {name: code} of the functions and classes at the top of the cells."""
    found = {}
    for source in CODE:
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found[node.name] = ast.get_source_segment(source, node)
    return found


def load(*names: str) -> dict:
    """Names of functions and classes -> what they are, by name."""
    definitions = find_definitions()
    namespace = {"np": np, "torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    for name in names:
        exec(definitions[name], namespace)
    return namespace


def load_graph() -> dict:
    """-> the automatic differentiation of section 3."""
    return load("Node", "sort_nodes", "backward", "small_loss", "double_until")
