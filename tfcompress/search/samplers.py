"""What the next trial is: drawn by a seed and the number of the trial, so that a search can be repeated and resumed."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.search.killed_trials import AGAIN, first_number
from tfcompress.search.optuna_storage import optuna
from tfcompress.search.space import Parameter, SearchSpace

EACH = 64
"""Recipes of a space, of which each is tried once; of more, those are drawn that promise most."""


def sampler_for(space: SearchSpace, seed: int) -> Any:
    """Return what draws trials: of a space of at most 64 recipes each once, else as Optuna's TPE does.

    TPE (Bergstra et al., 2011; of several objectives Ozaki et al., 2020) is made anew for each trial, seeded by the
    seed and by how many trials there were before: one process gives the same trials again, killed in between or not,
    and several don't draw the same.

    Args:
        space: of the search.
        seed: of the search.
    """
    base: Any = optuna().samplers.BaseSampler
    recipes: list[dict[str, Any]] = []
    if most_trials(space) is not None:
        recipes = list(space.all())
        recipes = [recipes[place] for place in np.random.default_rng(seed).permutation(len(recipes))]

    class Seeded(base):
        def __init__(self) -> None:
            self.inner = optuna().samplers.TPESampler(seed=seed)
            self.place = 0

        def before_trial(self, study: Any, trial: Any) -> None:
            first = first_number(trial)
            there = study.get_trials(deepcopy=False)
            self.place = sum(AGAIN not in one.user_attrs and one.number < first for one in there)
            entropy = np.random.SeedSequence((seed, self.place)).generate_state(1)
            self.inner = optuna().samplers.TPESampler(seed=int(entropy[0]))
            self.inner.before_trial(study, trial)

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return {} if recipes else self.inner.infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            return {} if recipes else self.inner.sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            if self.place < len(recipes):
                return recipes[self.place][param_name]
            return self.inner.sample_independent(study, trial, param_name, param_distribution)

        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            self.inner.after_trial(study, trial, state, values)

    return Seeded()


def most_trials(space: SearchSpace) -> int | None:
    """Return how many trials of a space there are at most; `None`: any number."""
    return space.size if space.size is not None and space.size <= EACH else None


def suggested(trial: Any, parameter: Parameter) -> Any:
    """Return what a trial has for a parameter, of a choice the label of an option."""
    if parameter.options:
        return trial.suggest_categorical(parameter.name, parameter.labels)
    how = {"step": parameter.step, "log": parameter.log}
    ends = (parameter.low, parameter.high)
    if all(isinstance(one, int) for one in (*ends, parameter.step or 1)):
        return trial.suggest_int(parameter.name, *ends, log=parameter.log, step=parameter.step or 1)
    return trial.suggest_float(parameter.name, *ends, **how)
