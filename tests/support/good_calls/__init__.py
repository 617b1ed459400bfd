"""For every public callable of the library one call that works, by module: what the fuzz test starts from.

A module here is named after the library's, dots as underscores: `detection_boxes` for
`vlmbook.detection.boxes`. Its `GOOD_CALLS` maps a name as the module's readers write it, "conv2d", "ResNet",
"ResNet.forward", to a function without arguments that returns a fresh `Call`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Call:
    """What is called, and with what; `free` names arguments that may be anything, each with its reason
    in a comment.
    """

    function: Callable
    arguments: dict = field(default_factory=dict)  # by keyword; "*name" for a variadic argument, a tuple
    free: tuple[str, ...] = ()

    def run(self, **replaced):
        """Call it, some arguments replaced."""
        arguments = self.arguments | replaced
        variadic = [value for name, value in arguments.items() if name.startswith("*")]
        named = {name: value for name, value in arguments.items() if not name.startswith("*")}
        if not variadic:
            return self.function(**named)
        [more] = variadic
        return self.function(*named.values(), *more)
