"""Good calls of the public callables of `vlmbook.notebook.cells`."""

from tests.support.good_calls import Call
from vlmbook.notebook import cells

SOURCE = 'assert check("ch03a.1", ...)'
GOOD_CALLS = {
    "parse": lambda: Call(cells.parse, {"source": SOURCE}),
    "checked_exercises": lambda: Call(cells.checked_exercises, {"source": SOURCE}),
    "count_claims": lambda: Call(cells.count_claims, {"source": SOURCE}),
}
