"""What the tests of early stopping share."""

import pytest

from dynadfq.training.early_stopping import AGREEMENT, COST, EarlyStopping


@pytest.fixture
def rising(monkeypatch):
    """Let agreement take these values, epoch by epoch, whatever the student does."""

    def script(*agreements, costs=()):
        counts = {}

        def measure(self):
            number = counts[id(self)] = counts.get(id(self), -1) + 1
            cost = costs[number] if costs else 0.0
            return {AGREEMENT: agreements[number], COST: cost}

        monkeypatch.setattr(EarlyStopping, "measure", measure)

    return script
