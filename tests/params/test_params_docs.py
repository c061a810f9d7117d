"""The generated tables and the types they are made from."""

from pathlib import Path

import pytest

from dynadfq.methods import METHODS
from dynadfq.params import Params
from dynadfq.params.docs import render
from dynadfq.params.rules import RULES, broken_rules, lookup
from dynadfq.params.sections import PARTS, params_of
from dynadfq.runtime.config import allowed, leaves, note

ROOT = Path(__file__).parents[2]
LEAVES = {key: field for name in METHODS for key, field in leaves(params_of(name))}


def test_the_tables_are_current():
    current = (ROOT / "docs" / "params.md").read_text(encoding="utf-8")
    assert current == render(), "run python -m dynadfq.params docs"


@pytest.mark.parametrize("name", METHODS)
def test_every_key_says_what_it_means_and_where_its_default_comes_from(name):
    text = render()
    for key, field in leaves(params_of(name)):
        assert field.description and note(field, "source") and allowed(field), key
        assert f"| `{key}` | {field.description} |" in text


def test_what_the_paper_does_not_have_is_said_to_be_the_librarys():
    assert note(LEAVES["selector.warm_up_images"], "source") == "dynadfq"
    assert "constraint: dynadfq" in note(LEAVES["selector.budget"], "source")
    meaning = LEAVES["selector.bit_weight"].description
    assert "γ, weight of the penalty" in meaning and "curvature of its quadratic part" in meaning


def test_every_number_has_bounds():
    numbers = [key for key, field in LEAVES.items() if field.annotation in (int, float)]
    assert [key for key in numbers if not note(LEAVES[key], "interval")] == []


@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_and_presets_pass_their_own_checks(name):
    params = params_of(name)
    assert params.model_validate(params().model_dump()) == params()
    if name != "real_data":
        assert list(broken_rules(params())) == []
    for preset, own in METHODS[name].presets.items():
        groups = METHODS[name].preset(preset)
        assert set(own) <= set(groups) <= set(PARTS)
        assert params.model_validate({"method": {"name": name, **groups}}).method.name == name


def test_rules_name_parameters():
    assert {key for rule in RULES for key in rule.keys} <= set(LEAVES)


def test_a_default_is_read_not_repeated():
    from inspect import signature

    from dynadfq import api

    for function, settings in (
        (api.synthesize, {"num_images": "synthesis", "iterations": "synthesis"}),
        (api.quantize, {"weight_bits": "quantization", "placement": "quantization"}),
        (api.finetune, {"epochs": "finetune", "bit_weight": "selector"}),
    ):
        for name, group in settings.items():
            default = signature(function).parameters[name].default
            assert default == lookup(Params(), f"{group}.{name}")
