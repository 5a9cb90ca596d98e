#!/usr/bin/env bash
# optuna 5.0.0: a trial whose process was killed stays "running" for ever in a study that lies in a journal file. Heartbeats,
# by which other processes see that nobody works on a trial any more, are for databases alone: JournalStorage takes no
# heartbeat_interval, and optimize() finds nothing stale, without a warning. In SQLite, with heartbeat_interval=1 and
# grace_period=2, the same killed trial is failed by the next optimize().
# Fails if the trial in the journal doesn't stay "running", or if JournalStorage takes a heartbeat_interval.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0
cd "$folder"
cat > program.py <<'PYTHON'
import inspect
import os
import sys
import time
import warnings

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
kind, killed = sys.argv[1:]
if kind == "journal":
    assert "heartbeat_interval" not in inspect.signature(JournalStorage).parameters
    storage = JournalStorage(JournalFileBackend("study.journal"))
else:
    storage = RDBStorage("sqlite:///study.db", heartbeat_interval=1, grace_period=2)
study = optuna.create_study(study_name="study", storage=storage, load_if_exists=True)
warnings.simplefilter("default")


def objective(trial):
    if killed == "killed":
        time.sleep(3)  # beyond the first heartbeat
        os._exit(0)
    return 1.0


study.optimize(objective, n_trials=1)
print(" ".join(trial.state.name for trial in study.trials))
PYTHON
for kind in journal database; do
    "$folder/venv/bin/python" program.py $kind killed 2> /dev/null
    sleep 6
    "$folder/venv/bin/python" program.py $kind alive > $kind.txt 2> $kind.err
    echo "$kind: $(cat $kind.txt)"
done
test "$(cat journal.txt)" = "RUNNING COMPLETE" && test ! -s journal.err
test "$(cat database.txt)" = "FAIL COMPLETE"
echo "as described: what was killed stays running in a journal, and nothing is said"
