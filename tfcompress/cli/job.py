"""What a job of the command is: what its help says, the flags that it takes, and the function that does it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.flags import FLAGS, GENERAL, defined
from tfcompress.cli.flags.flag import Flag

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume

Result = dict[str, Any] | None
"""What `--json` writes beside seed, versions and command; `None` of a process that writes nothing."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A job: a module in `cli/jobs` has one, called `JOB`, and is called as the job is.

    The module imports nothing of Keras: its function does.

    Attributes:
        does: What it does, in a sentence.
        example: The flags of an example.
        more: What else its help says.
        run: What does it, given the parsed flags and what an earlier run of the same command left.
        flags: Those that it takes, by their names in `cli.flags.FLAGS`; every job takes the general ones, too.
        required: Those without which it is refused.
        defaults: Other defaults than those of the table.
        target: From the flags to the first file, or the folder, that it writes beside --json; "": nothing.
    """

    does: str
    example: str
    run: Callable[[FlagValues, Resume], Result]
    flags: tuple[str, ...]
    more: str = ""
    required: tuple[str, ...] = ()
    defaults: Mapping[str, object] = dataclasses.field(default_factory=dict)
    target: Callable[[FlagValues], str] = lambda values: ""

    def names(self) -> tuple[str, ...]:
        """Return all flags that it takes, by their names in the table."""
        return (*self.flags, *GENERAL)

    def flag(self, called: str) -> Flag | None:
        """Return the flag that has a name on the command line; `None` if it takes none of that name."""
        return next((FLAGS[name] for name in self.names() if called == (FLAGS[name].called or name)), None)

    def values(self) -> FlagValues:
        """Return its flags, to parse a command line with."""
        return defined(self.names(), self.required, self.defaults)
