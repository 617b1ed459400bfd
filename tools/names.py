"""Two rules for the code of a notebook, held without running it: a name means one thing, and cells can
be run twice.
"""

import ast
from collections.abc import Iterator

# Methods by which the second run of a cell changes an object again.
ADDING = {"append", "extend", "insert", "appendleft", "pop", "popitem", "popleft", "remove", "reverse"}
ADDING |= {"add_", "sub_", "mul_", "div_", "addcmul_", "addcdiv_", "neg_"}
ADDING |= {"step"}  # of an optimizer
# Methods that change nothing when they are called on their own result: `net = net.cpu().eval()`.
CONVERTING = {"cpu", "cuda", "to", "float", "double", "half", "eval", "train", "detach", "contiguous"}
CONVERTING |= {"requires_grad_"}

Trees = dict[int, ast.Module]  # number of a cell -> its syntax tree
Definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


# --- a name means one thing ---------------------------------------------------------------------------------


def find_rebound_names(trees: Trees) -> Iterator[str]:
    """Sentences on each name that a cell imports or defines as a function or class, and that is bound to
    something else anywhere: by another import or definition, an assignment, a loop, a parameter.
    """
    defined = {}  # name -> (number of the cell, what it is)
    for number, tree in trees.items():
        for name, what in _definitions(tree):
            there, meant = defined.setdefault(name, (number, what))
            if meant != what or (there != number and not meant.startswith("the import")):
                yield f"cell {number} makes {name} {what}; in cell {there} it is {meant}"
    for number, tree in trees.items():
        for name in dict.fromkeys(_bindings(tree)):
            if name in defined:
                there, meant = defined[name]
                yield f"cell {number} binds {name} to a value; in cell {there} it is {meant}"


def _definitions(tree):
    """-> pairs (name, what it is) of imports anywhere, and of functions and classes at the top of a cell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], f"the import {_imported(alias)}"
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"the import {node.module}.{alias.name}"
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name, "a class"
        elif isinstance(node, Definition):
            yield node.name, "a function"


def _imported(alias):
    """`import torch.nn` binds torch, `import torch.nn as nn` binds the inner module."""
    return alias.name if alias.asname else alias.name.split(".")[0]


def _bindings(tree):
    """-> names that are bound to values: all but imports, attributes, and the functions at the top of a
    cell.
    """
    inside_class = {child for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for child in node.body}
    for node in ast.walk(tree):
        if node in inside_class and isinstance(node, (*Definition, ast.Assign, ast.AnnAssign)):
            continue  # an attribute of the class
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            if not _is_attribute(node, inside_class):
                yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, Definition) and node not in tree.body:
            yield node.name


def _is_attribute(name, inside_class):
    """Is this name a target of an assignment in the body of a class?"""
    for statement in inside_class:
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        if name in targets:
            return True
    return False


# --- a cell can be run twice --------------------------------------------------------------------------------


def find_unrepeatable_cells(trees: Trees) -> Iterator[str]:
    """Sentences on cells that would do something else when they are run again at once.

    What is found: a name of an earlier cell that is read and then bound anew (`x = x + 1`, `x += 1`),
    deleted, changed by a method (`runs.append(x)`), or trained further (`fit(net, …)`).
    """
    earlier = set()
    for number, tree in trees.items():
        cell = _Cell(earlier)
        for statement in tree.body:
            cell.visit(statement)
        for fault in dict.fromkeys(cell.faults):
            yield f"cell {number} cannot be run twice: {fault}"
        earlier |= cell.bound


class _Cell(ast.NodeVisitor):
    """What a cell does to names of earlier cells, in the order in which Python does it.

    Bodies of functions are passed over: they run when they are called.
    """

    def __init__(self, earlier):
        self.earlier = earlier
        self.bound = set()
        self.read = set()  # names of earlier cells that were read before this cell bound them
        self.faults = []

    def is_of_an_earlier_cell(self, node):
        return isinstance(node, ast.Name) and node.id in self.earlier and node.id not in self.bound

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Load):
            if self.is_of_an_earlier_cell(node):
                self.read.add(node.id)
        elif isinstance(node.ctx, ast.Del):
            if self.is_of_an_earlier_cell(node):
                self.faults.append(f"it deletes {node.id}")
        else:
            if node.id in self.read and node.id not in self.bound:
                self.faults.append(f"it reads {node.id} of an earlier cell and binds it anew")
            self.bound.add(node.id)

    def visit_Assign(self, node):
        self.visit(node.value)  # first, as Python does
        for target in node.targets:
            for part, value in _pairs(target, node.value):
                if _is_converted(part, value):
                    self.bound.add(part.id)
            self.visit(target)

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)

    def visit_AugAssign(self, node):
        self.visit(node.value)
        name = _innermost(node.target)
        unions = (ast.BitOr, ast.BitAnd)  # of sets and dicts, the same the second time
        if self.is_of_an_earlier_cell(name) and not isinstance(node.op, unions):
            self.faults.append(f"it changes {name.id} of an earlier cell")
        self.bound |= {name.id} if isinstance(node.target, ast.Name) else set()

    def visit_For(self, node):
        self.visit(node.iter)
        self.visit(node.target)
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    def visit_Call(self, node):
        called = node.func
        if isinstance(called, ast.Attribute):
            owner = _innermost(called.value)
            if called.attr in ADDING and self.is_of_an_earlier_cell(owner):
                self.faults.append(f"it calls {owner.id}.{called.attr}() of an earlier cell")
        elif isinstance(called, ast.Name) and called.id in {"fit", "next"} and node.args:
            if self.is_of_an_earlier_cell(node.args[0]):
                self.faults.append(f"it calls {called.id}({node.args[0].id}, …) of an earlier cell")
        self.generic_visit(node)

    def visit_comprehension_scope(self, node):
        """The variables of a comprehension are its own."""
        own = {
            name.id
            for each in node.generators
            for name in ast.walk(each.target)
            if isinstance(name, ast.Name)
        }
        hidden = own - self.bound
        self.bound |= own
        for each in node.generators:
            self.visit(each.iter)
            for condition in each.ifs:
                self.visit(condition)
        for value in (getattr(node, field, None) for field in ("elt", "key", "value")):
            if value is not None:
                self.visit(value)
        self.bound -= hidden

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_comprehension_scope

    def visit_FunctionDef(self, node):
        self.bound.add(node.name)
        for default in [*node.args.defaults, *node.args.kw_defaults, *node.decorator_list]:
            if default is not None:
                self.visit(default)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node):
        self.bound.add(node.name)

    def visit_Lambda(self, node):
        pass


def _pairs(target, value):
    """`a, b = x, y` -> (a, x), (b, y)."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def _is_converted(target, value):
    """`net = net.cpu().eval()`?"""
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        if value.func.attr not in CONVERTING:
            return False
        value = value.func.value
    return isinstance(target, ast.Name) and isinstance(value, ast.Name) and target.id == value.id


def _innermost(node):
    """`x`, `x[0].y` -> the name x; whatever else -> itself."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node
