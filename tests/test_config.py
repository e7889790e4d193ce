"""Recipes: what is wrong with one is said in a sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from speechft.config import RATES, Method, SpeechRecipe
from speechft.errors import SpeechftError
from speechft.recipes import load_recipe
from speechft.text.config import PreferenceRecipe

NEEDED = ["manifest=m.jsonl", "output_dir=out"]


def test_yaml_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: bundled:base\nmanifest: data/m.jsonl\noutput_dir: out\nadapter:\n  rank: 8\n")
    recipe = load_recipe(path, ["learning_rate=5e-4", "adapter.dropout=0.1", "augment=null", "max_steps=60"])
    assert recipe.manifest == tmp_path / "data" / "m.jsonl"  # relative to the recipe
    assert recipe.adapter.rank == 8
    assert recipe.adapter.dropout == 0.1
    assert recipe.learning_rate == 5e-4
    assert recipe.augment is None
    assert recipe.max_steps == 60


def test_paths_in_overrides_belong_to_the_working_directory(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("task: speech\n")
    assert load_recipe(path, NEEDED).manifest == Path("m.jsonl")


@pytest.mark.parametrize(
    ("judge", "meant"),
    [
        ("reward:../runs/adapter", "reward:{}/../runs/adapter"),
        ("reward:adapter", "reward:{}/adapter"),
        ("reward:here/adapter", "reward:{}/here/adapter"),
        ("reward:/models/adapter", "reward:/models/adapter"),
        ("reward:user/adapter", "reward:user/adapter"),
        ("model:bundled:smollm2", "model:bundled:smollm2"),
        ("url:http://localhost/v1 m", "url:http://localhost/v1 m"),
    ],
)
def test_a_reward_model_that_judges_is_beside_its_recipe(judge: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    path = tmp_path / "recipe.yaml"
    path.write_text(f"task: feedback\ndata: d\noutput_dir: o\njudge: '{judge}'\n")
    assert load_recipe(path).judge == meant.format(tmp_path)


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("own", "{}/own"),
        ("../{0.name}/own", "{0}/../{0.name}/own"),
        ("q.gguf", "{}/q.gguf"),
        ("/models/own", "/models/own"),
        ("elsewhere", "elsewhere"),
        ("openai/whisper-small", "openai/whisper-small"),
        ("bundled:base", "bundled:base"),
    ],
)
def test_a_model_of_ones_own_is_beside_its_recipe(model: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "q.gguf").touch()
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: '{model.format(tmp_path)}'\nmanifest: m\noutput_dir: o\n")
    assert load_recipe(path).model == meant.format(tmp_path)
    path.write_text(f"task: feedback\ndata: d\noutput_dir: o\njudge: 'model:{model.format(tmp_path)}'\n")
    assert load_recipe(path).judge == "model:" + meant.format(tmp_path)


@pytest.mark.parametrize(
    ("reward", "meant"),
    [("rm", "{}/rm"), ("rm/adapter", "{}/rm/adapter"), ("no/rm", "no/rm"), ("f1", "f1"), ("rouge9", "rouge9")],
)
def test_a_reward_model_is_beside_its_recipe(reward: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "rm").mkdir()
    (tmp_path / "f1").mkdir()
    path = tmp_path / "recipe.yaml"
    path.write_text(f"task: policy\ndata: d\noutput_dir: o\nreward: {reward}\n")
    assert load_recipe(path).reward == meant.format(tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rat=1", "did you mean 'learning_rate'"),
        ("adapter.rnk=1", "did you mean 'rank'"),
        ("batch_size=0", "greater than or equal to 1"),
        ("batch_size=many", "batch_size='many'"),
        ("adapter.method=magic", "lora"),
        ("adapter.projections=[]", "at least 1 item"),
        ("adapter={method: ia3, dora: true}", "belong to adapter.method=lora"),
        ("adapter={init: loftq}", "4-bit"),
        ("adapter={init: pissa, dora: true}", "cannot be combined"),
        ("adapter={init: pissa, quantize: nf4}", "pissa"),
        ("task=dance", "unknown task"),
        ("epochs", "key=value"),
        ("model.name=x", "model"),
        ("adapter={method: full, quantize: nf4}", "whole weights"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(SpeechftError, match=message):
        load_recipe(None, [*NEEDED, override])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("manifest=[1]", "manifest=[1]: should be a path"),
        ("adapter=5", "adapter=5: should be a group of keys with values"),
        ("augment=[]", "augment=[]: should be a group of keys with values"),
        ("augment.tempo=5", "augment.tempo=5: should be a list"),
        ("search=5", "search=5: should be a group of keys with values"),
        ("search.learning_rate=5", "search.learning_rate=5: should be a group of keys with values; search.learning"),
        ("search.learning_rate={low: x, high: 3}", "search.learning_rate.low='x': should be a whole number"),
        ("batch_size=many", "batch_size='many': should be a whole number"),
        ("allow_outside=perhaps", "allow_outside='perhaps': should be true or false"),
    ],
)
def test_wrong_kinds_of_values_are_named_in_plain_words(override: str, says: str) -> None:
    with pytest.raises(SpeechftError) as error:
        load_recipe(None, [*NEEDED, override])
    assert says in str(error.value)
    assert not re.search(r"class|instance|dictionary|tuple|pathlib|parse|function|\w\[", str(error.value))


def test_missing_keys_are_named() -> None:
    with pytest.raises(SpeechftError, match="'manifest' is missing"):
        load_recipe(None, ["output_dir=out"])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "\x00"])
def test_files_that_are_no_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(SpeechftError, match=str(path.name)):
        load_recipe(path, NEEDED)


def test_recipes_in_the_repository_are_valid() -> None:
    recipes = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
    tasks = {path.name: load_recipe(path).task for path in recipes}
    assert tasks["personal_voice.yaml"] == "speech"
    assert tasks["text_sft.yaml"] == "sft"
    assert all(name.startswith("text_") == (task != "speech") for name, task in tasks.items())


@pytest.mark.parametrize(("text", "meant"), [("cache=off", "off"), ("cache=on", "on"), ("cache=auto", "auto")])
def test_a_bare_on_or_off_means_the_word(text: str, meant: str) -> None:
    assert load_recipe(None, [*NEEDED, text]).cache == meant  # to YAML it is true or false


def test_an_override_that_is_not_yaml_is_said_so() -> None:
    with pytest.raises(SpeechftError, match="not YAML"):
        load_recipe(None, [*NEEDED, "epochs=["])


def test_aliases_that_would_explode_are_not_written_out(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join([*lines, "epochs: *i"]))
    with pytest.raises(SpeechftError) as refused:
        load_recipe(path, NEEDED)
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 5e-4),
        ({"adapter": {"method": "full"}}, 2e-5),
        ({"adapter": {"method": "ia3"}}, 1e-2),
        ({"adapter": {"rslora": True, "rank": 16}}, 5e-4 / 4),
        ({"adapter": {"init": "pissa"}}, 1e-4),
        ({"adapter": {"method": "full"}, "learning_rate": 1e-3}, 1e-3),
    ],
)
def test_a_learning_rate_suits_the_method_unless_it_is_given(settings: dict[str, Any], rate: float) -> None:
    recipe = SpeechRecipe(manifest="m.jsonl", output_dir="out", **settings)
    assert recipe.learning_rate == pytest.approx(rate)
    assert SpeechRecipe(**recipe.model_dump()) == recipe  # what a result or an adapter's card says trains the same


def test_every_method_has_a_learning_rate() -> None:
    assert set(RATES) == set(get_args(Method))


def test_a_text_recipe_has_its_own_rate_and_the_same_rule() -> None:
    assert PreferenceRecipe(data="d", output_dir="out").learning_rate == 5e-5
    assert PreferenceRecipe(data="d", output_dir="out", adapter={"method": "ia3"}).learning_rate == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [x]", r"unknown task \['x'\]"),
        ("task: {a: b}", "unknown task"),
        ("model: 2024-01-01", "model="),
        ("model: 2024-02-31", "not readable as YAML"),
        ("model: !!timestamp x", "not readable as YAML"),
        ("model: !!bool x", "not readable as YAML"),
        ("augment: " + "[" * 5000 + "]" * 5000, "not readable as YAML"),
        ("seed: " + "1" * 5000, "not readable as YAML"),
        ("seed: 0x" + "f" * 9000, "too large for a number"),
        ("model: ~nosuchuser/x\nmanifest: ~nosuchuser/m.jsonl", "a user who has no home folder here"),
        ("search: {seed: {lo: 1, high: 3}}", r"'search.seed.low' is missing"),
        ("augment: {tempo: [0.9, .inf]}", r"augment.tempo.1=inf"),
        ("augment: {tempo: [1.1, 0.9]}", "the lower end comes first"),
        ("augment: {vocal_tract: [1.0e-30, 1]}", "greater than or equal to 0.1"),
    ],
)
def test_what_no_recipe_can_say_is_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"output_dir: out\n{text}\n")
    with pytest.raises(SpeechftError, match=message) as error:
        load_recipe(path)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("override", ["seed=" + "1" * 5000, "augment=" + "[" * 5000, "task=[x]", "seed=2024-02-31"])
def test_what_no_override_can_say_is_a_sentence(override: str) -> None:
    with pytest.raises(SpeechftError) as error:
        load_recipe(None, [*NEEDED, override])
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("settings", [{"weight_decay": 1e300}, {"weight_decay": 100, "learning_rate": 0.01}])
def test_weight_decay_that_takes_all_weights_away_is_named(settings: dict[str, Any]) -> None:
    for kind, more in ((SpeechRecipe, {"manifest": "m"}), (PreferenceRecipe, {"data": "d"})):
        with pytest.raises(ValueError, match="weight_decay times learning_rate is 1 or more"):
            kind(**more, output_dir="out", **settings)
    assert SpeechRecipe(manifest=Path("m"), output_dir=Path("out"), weight_decay=0.1, learning_rate=5).weight_decay


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (["warmup=1", "decay=1", "schedule=warmup-stable-decay"], "lower one"),
        (["min_steps=5", "max_steps=2"], "raise max_steps"),
        (["views=5", "cache=off"], "leave views out"),
        (["batch_seconds=1e-9"], "greater than or equal to 1"),
        (["search={output_dir: [a, b]}"], "set output_dir itself"),
        (["search={checkpoint_every: {low: 1, high: 9}}"], "set checkpoint_every itself"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: list[str], advice: str) -> None:
    with pytest.raises(SpeechftError, match=advice):
        load_recipe(None, [*NEEDED, *settings])


def test_a_default_contradicts_nothing() -> None:
    for settings in (
        ["max_steps=2"], ["cache=off"], ["views=5"], ["schedule=warmup-stable-decay", "warmup=1"],
        ["schedule=warmup-stable-decay", "decay=1"], ["warmup=1", "decay=1"], ["min_steps=5", "max_steps=5"],
        ["search={model: [a, b], seed: [1, 2]}"],
    ):  # fmt: skip
        recipe = load_recipe(None, [*NEEDED, *settings])
        written = recipe.model_dump(mode="json")  # in which the defaults are said too
        assert SpeechRecipe(**written) == recipe
