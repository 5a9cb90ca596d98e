"""What the flags of `prune` mean."""

from __future__ import annotations

import pytest

from tfcompress.cli.jobs import job_called
from tfcompress.cli.prune_flags import config_of
from tfcompress.cli.wrong_use import UsageError
from tfcompress.pruning import Block, ConstantSparsity, NofM, PolynomialSparsity
from tfcompress.recipes.written_configs import granularity_of


@pytest.fixture
def values():
    """A function from a command line to flags."""

    def parsed(*line):
        made = job_called("prune").values()
        made(["prune", "--model=m.keras", "--output=o.keras", *line])
        return made

    return parsed


def test_flags_make_a_configuration(values):
    config = config_of(values("--criterion=gradient", "--granularity=channel", "--scope=flops"), 0.6, 400)
    assert config.schedule == PolynomialSparsity(0.0, 0.6, begin_step=12, end_step=300, frequency=12)
    assert (config.criterion, config.granularity, config.scope) == ("gradient", "channel", "flops")
    config = config_of(values("--granularity=16x1"), 0.6, 400)
    assert config.granularity == Block(16, 1)
    assert config.schedule.begin_step == 0
    assert config_of(values("--criterion=threshold", "--threshold=0.1"), 0.9, 400).threshold == 0.1


def test_a_pattern_says_how_sparse_it_is(values):
    config = config_of(values("--granularity=1:4"), 0.8, 400)
    assert (config.granularity, config.schedule) == (NofM(1, 4), ConstantSparsity(0.75, frequency=16))
    config = config_of(values("--granularity=2:4", "--criterion=gradient"), 0.8, 400)
    assert config.schedule == ConstantSparsity(0.5, begin_step=16, frequency=16)  # gradients come first
    with pytest.raises(UsageError, match="ends at 0.75"):
        config_of(values("--granularity=1:4", "--sparsity=0.5"), 0.5, 400)


@pytest.mark.parametrize("text", ["rows", "4:2", "2:4:8", "0x4", "", "-1x2"])
def test_bad_granularities_are_refused(text):
    with pytest.raises(ValueError, match="Expected"):
        granularity_of(text)


def test_what_does_not_go_together_is_wrong_use(values):
    with pytest.raises(UsageError, match="Expected `threshold`"):
        config_of(values("--criterion=threshold"), 0.5, 100)
    with pytest.raises(UsageError, match="granularity='channel'"):
        config_of(values("--criterion=bn_scale"), 0.5, 100)
