"""The flags that jobs share: each is described once, in the group that help shows it in; a job names those it takes.

Nothing here imports Keras: help is to answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from absl import flags
from absl.flags import FlagValues

from tfcompress.cli.flags import (
    budget_flags,
    clustering_flags,
    dataset_flags,
    export_flags,
    general_flags,
    layer_flags,
    machine_flags,
    measuring_flags,
    model_flags,
    pruning_flags,
    quantization_flags,
    search_flags,
    training_flags,
)
from tfcompress.cli.flags.flag import Flag

GROUPS = {
    group.TITLE: group.FLAGS
    for group in (
        model_flags,
        dataset_flags,
        layer_flags,
        pruning_flags,
        clustering_flags,
        quantization_flags,
        training_flags,
        budget_flags,
        export_flags,
        measuring_flags,
        search_flags,
        machine_flags,
        general_flags,
    )
}
"""{title: {name: flag}}, in the order of the help."""

FLAGS: dict[str, Flag] = {name: flag for group in GROUPS.values() for name, flag in group.items()}
GENERAL = ("json", "verbosity")
"""Those of every job."""

MACHINE = tuple(machine_flags.FLAGS)
"""Those of jobs that can train on several devices."""


def defined(names: tuple[str, ...], required: tuple[str, ...], defaults: Mapping[str, object]) -> FlagValues:
    """Return flags to parse a command line with.

    Args:
        names: Of the table.
        required: Those without which a command line is refused, by their names on it.
        defaults: Other defaults than those of the table.
    """
    values = FlagValues()
    values.set_gnu_getopt()
    for name in names:
        flag = FLAGS[name]
        called = flag.called or name
        flag.define(called, values, defaults.get(called, flag.default))
    for name in required:
        flags.mark_flag_as_required(name, flag_values=values)
    return values
