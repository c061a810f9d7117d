"""The generated tables and the types they are made from."""

from pathlib import Path

import pytest

from dynadfq.methods import METHODS, Methods
from dynadfq.params import Params
from dynadfq.params.docs import render
from dynadfq.params.rules import RULES, broken_rules
from dynadfq.runtime.config import allowed, choices, leaves, note

ROOT = Path(__file__).parents[2]
LEAVES = dict(leaves(Params))


def test_the_tables_are_current():
    current = (ROOT / "docs" / "params.md").read_text(encoding="utf-8")
    assert current == render(), "run python -m dynadfq.params docs"


@pytest.mark.parametrize("key", LEAVES)
def test_every_key_says_what_it_means_and_where_its_default_comes_from(key):
    field = LEAVES[key]
    assert field.description and note(field, "source") and allowed(field)
    assert f"| `{key}` | {field.description} |" in render()


def test_what_the_paper_does_not_have_is_said_to_be_the_librarys():
    selector = "selector."
    assert note(LEAVES[selector + "warm_up_images"], "source") == "dynadfq"
    assert "constraint: dynadfq" in note(LEAVES[selector + "budget"], "source")
    meaning = LEAVES[selector + "bit_weight"].description
    assert "γ, weight of the penalty" in meaning and "curvature of its quadratic part" in meaning


def test_every_number_has_bounds():
    numbers = [key for key, field in LEAVES.items() if field.annotation in (int, float)]
    assert [key for key in numbers if not note(LEAVES[key], "interval")] == []


def test_the_defaults_pass_their_own_checks():
    assert Params.model_validate(Params().model_dump()) == Params()
    assert list(broken_rules(Params())) == []


def test_rules_name_parameters():
    assert {key for rule in RULES for key in rule.keys} <= set(LEAVES)


def test_the_methods_are_registered_under_their_names():
    assert tuple(METHODS) == choices(Methods.model_fields["name"])
    assert {name: type(Methods(name=name).active) for name in METHODS} == METHODS
    assert all({"images", "student"} == set(method.model_fields) for method in METHODS.values())
