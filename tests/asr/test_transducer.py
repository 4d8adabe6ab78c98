import copy
import json
import os
import re
import shutil
import stat
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cspkit.arguments import ArgumentError
from cspkit.asr import (
    DigitTask,
    Transducer,
    TransducerConfig,
    Utterance,
    greedy,
    load_transducer,
    save_transducer,
    transcribe,
    word_error_rate,
)
from cspkit.asr.batch import collate
from cspkit.asr.checkpoint import checkpoint_facts
from cspkit.asr.corpus import Corpus, data_folder, load_spoken_digits
from cspkit.asr.decoding import MAX_SYMBOLS
from cspkit.asr.transducer_config import CHARACTERS
from cspkit.pruning import prunable_weights
from cspkit.task import kl_divergence


@pytest.fixture(scope="module")
def task():
    return DigitTask()


@pytest.fixture(scope="module")
def model(task):
    return task.new_model(seed=0)


def utterance(n_frames, text):
    features = np.random.default_rng(n_frames).standard_normal((n_frames, 13)).astype(np.float32)
    return Utterance(features, text, "theo", f"{text}-{n_frames}")


def test_the_default_model_has_the_documented_size(model):
    assert sum(p.numel() for p in model.parameters()) == 336_235
    assert sum(w.numel() for w in prunable_weights(model).values()) == 331_264


def test_normalisation_is_inside_the_model_and_from_the_training_part(task, model):
    frames = np.concatenate([r.features for r in task.corpus.split("train", 0)])
    assert torch.allclose(model.feature_mean, torch.from_numpy(frames.mean(0)), atol=1e-3)
    assert torch.allclose(model.feature_std, torch.from_numpy(frames.std(0)), rtol=1e-3)


def test_logits_are_one_cell_per_stacked_frame_and_label(model):
    logits = model(torch.randn(2, 20, 13), torch.tensor([[1, 2, 3], [4, 5, 6]]))
    assert logits.shape == (2, 6, 4, 11)


def test_buckets_change_nothing_but_the_time(task, model):
    batch = next(task.batches("train", np.random.default_rng(0)))
    whole = model(batch.features, batch.targets)
    bucketed = task.outputs(model, batch)
    assert whole.shape == bucketed.shape
    for n in range(len(whole)):
        S, U = batch.feature_lengths[n] // 3, batch.target_lengths[n]
        assert torch.allclose(whole[n, :S, : U + 1], bucketed[n, :S, : U + 1], atol=1e-5)


def test_decoding_in_a_batch_gives_the_words_of_decoding_alone(task, model):
    strings = task.corpus.strings("dev")[:12]
    together = transcribe(model, [s.features for s in strings])
    assert together == [transcribe(model, s.features) for s in strings]
    assert any(together)


def test_decoding_follows_the_definition(task, model):
    features = torch.from_numpy(task.corpus.recordings[0].features)[None]
    labels = []
    frames, _ = model.encode(features)
    for s in range(frames.shape[1]):
        for _ in range(MAX_SYMBOLS):
            predicted, _ = model.predict(model.start(torch.tensor([labels], dtype=torch.long)))
            best = int(model.join(frames[:, s : s + 1], predicted[:, -1:]).argmax())
            if best == model.config.blank:
                break
            labels.append(best)
    assert greedy(model, features, torch.tensor([features.shape[1]])) == [labels]


def test_a_model_gone_astray_is_bounded(model):
    astray = Transducer()
    astray.load_state_dict(model.state_dict())
    with torch.no_grad():
        astray.output.bias[3] = 1e3
    features = torch.zeros(1, 30, 13)
    assert len(greedy(astray, features, torch.tensor([30]))[0]) == 10 * MAX_SYMBOLS


def test_a_checkpoint_is_complete(tmp_path, model):
    save_transducer(model, tmp_path / "model.safetensors", fold=3)
    loaded = load_transducer(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert checkpoint_facts(tmp_path / "model.safetensors") == {"fold": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_truncated_and_foreign_checkpoints_are_refused(tmp_path, model):
    path = tmp_path / "model.safetensors"
    save_transducer(model, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArgumentError, match="truncated"):
        load_transducer(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ArgumentError, match="not a checkpoint of a Transducer"):
        load_transducer(path)
    path.write_text("hello")
    with pytest.raises(ArgumentError, match="not a safetensors file"):
        load_transducer(path)
    with pytest.raises(FileNotFoundError, match="none"):
        load_transducer(tmp_path / "none.safetensors")
    save_file({}, path, metadata={"format": "cspkit.transducer/1"})
    with pytest.raises(ArgumentError, match="metadata is damaged"):
        load_transducer(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["output.weight", "encoder.weight_hh_l1", "feature_std"])
def test_a_file_with_weights_that_are_not_finite_is_refused(tmp_path, model, value, name):
    spoiled = copy.deepcopy(model)
    spoiled.state_dict()[name].view(-1)[3] = value
    save_transducer(spoiled, tmp_path / "spoiled.safetensors")
    message = rf"spoiled\.safetensors has NaN or infinity in {name}: expected finite weights"
    with pytest.raises(ArgumentError, match=message):
        load_transducer(tmp_path / "spoiled.safetensors")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_the_mode_of_a_checkpoint(tmp_path, model, umask, mode):
    before = os.umask(umask)
    try:
        save_transducer(model, tmp_path / "new" / "model.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "model.safetensors").stat().st_mode) == mode


def test_a_checkpoint_follows_a_link_and_spares_what_is_no_file(tmp_path, model):
    link, target = tmp_path / "link.safetensors", tmp_path / "target.safetensors"
    target.write_text("old")
    link.symlink_to(target)
    save_transducer(model, link, seed=1)
    assert link.is_symlink() and checkpoint_facts(target) == {"seed": 1}
    null = tmp_path / "null.safetensors"
    null.symlink_to(os.devnull)
    for path in (tmp_path, null):
        with pytest.raises(ArgumentError, match=re.escape(str(path))):
            save_transducer(model, path)
    assert null.is_symlink()
    assert {p.name for p in tmp_path.iterdir()} == {link.name, target.name, null.name}


def test_what_cannot_be_saved_or_loaded_is_named(tmp_path, model):
    with pytest.raises(ArgumentError, match="facts are .*'mask': expected JSON|facts are"):
        save_transducer(model, tmp_path / "model.safetensors", mask=np.ones(2))
    with pytest.raises(ArgumentError, match="model is a Linear: expected a Transducer"):
        save_transducer(torch.nn.Linear(2, 2), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
    for load in (load_transducer, checkpoint_facts):
        with pytest.raises(ArgumentError, match="is a folder: expected a file"):
            load(tmp_path)
        with pytest.raises(ArgumentError, match="path is None"):
            load(None)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (torch.zeros(13), torch.zeros(13), "std is .*: expected positive numbers"),
        (torch.full((13,), float("nan")), torch.ones(13), "mean is .*expected 13 finite numbers"),
        (torch.zeros(13), torch.full((13,), float("inf")), "std is .*expected 13 finite numbers"),
        (torch.zeros(12), torch.ones(13), "mean is"),
    ],
)
def test_a_normalisation_that_makes_nan_is_refused(mean, std, message):
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        Transducer().set_normalisation(mean, std)


def test_a_damaged_checkpoint_of_the_project_is_noticed(tmp_path, monkeypatch):
    shutil.copytree(data_folder() / "models", tmp_path / "models")
    monkeypatch.setenv("CSPKIT_DATA", str(tmp_path))
    path = tmp_path / "models" / "dense_fold0.safetensors"
    load_transducer(path)
    with path.open("r+b") as file:
        file.seek(-1000, 2)
        file.write(b"\0\0\0\0")
    with pytest.raises(ArgumentError, match="git checkout -- data"):
        load_transducer(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="git checkout -- data"):
        load_transducer(path)


def test_the_curriculum_goes_from_single_digits_to_strings():
    task = DigitTask(curriculum=100, batch_size=4)
    batches = task.batches("train", np.random.default_rng(0))
    longest = [int(next(batches).target_lengths.max()) for _ in range(100)]
    assert max(longest[:10]) == 1
    assert max(longest[10:30]) == 3
    assert max(longest[30:]) == 7


def test_batches_are_drawn_from_the_generator_alone(task):
    first = [next(task.batches("train", np.random.default_rng(5))) for _ in range(2)]
    assert torch.equal(first[0].features, first[1].features)
    other = next(task.batches("train", np.random.default_rng(6)))
    assert not torch.equal(first[0].targets, other.targets)


def test_divergence_is_the_mean_kl_of_the_valid_cells(task, model):
    task = DigitTask(task.corpus, divergence_every=1)
    batch = collate([utterance(9, "one two"), utterance(18, "three")], task.config)
    torch.manual_seed(0)
    outputs = torch.randn(2, 6, 3, 11)
    reference = torch.randn(2, 6, 3, 11)
    cells = [(0, s, u) for s in range(3) for u in range(3)]
    cells += [(1, s, u) for s in range(6) for u in range(2)]
    kl = 0.0
    for cell in cells:
        p, q = reference[cell].softmax(0), outputs[cell].softmax(0)
        kl += float((p * (p / q).log()).sum())
    assert task.divergence(reference, outputs, batch).item() == pytest.approx(kl / len(cells))
    assert task.divergence(outputs, outputs, batch).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("filler", [float("nan"), float("inf"), -float("inf")])
def test_divergence_does_not_look_at_the_padding(task, filler):
    task = DigitTask(task.corpus, divergence_every=1)
    batch = collate([utterance(9, "one two"), utterance(18, "three")], task.config)
    torch.manual_seed(0)
    outputs, reference = torch.randn(2, 2, 6, 3, 11)
    found = []
    for value in (0.0, filler):
        spoiled = outputs.clone()
        spoiled[0, 3:], spoiled[1, :, 2:] = value, value
        other = torch.where(spoiled == outputs, reference, value)
        spoiled.requires_grad_()
        divergence = task.divergence(other, spoiled, batch)
        divergence.backward()
        found.append((divergence, spoiled.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert (found[1][1][0, 3:] == 0).all() and (found[1][1][0, :3] != 0).any()


def test_divergence_counts_a_unit_that_is_ruled_out_as_nothing():
    torch.manual_seed(0)
    reference, logits = torch.randn(2, 5, 4, dtype=torch.float64)
    expected = kl_divergence(reference[:, :3], logits[:, :3])
    reference[:, 3] = logits[:, 3] = -float("inf")
    logits.requires_grad_()
    divergence = kl_divergence(reference, logits)
    divergence.backward()
    assert divergence.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.isfinite(logits.grad).all() and (logits.grad[:, 3] == 0).all()
    reference[:, 3] = 0.0
    assert kl_divergence(reference, logits) == float("inf")
    assert kl_divergence(reference * float("nan"), logits).isnan()


def test_divergence_of_a_part_is_that_of_its_utterances(task, model):
    other = task.new_model(1)
    whole, part = (DigitTask(task.corpus, divergence_every=n, pool=0) for n in (1, 3))
    batch = next(part.batches("train", np.random.default_rng(3)))
    with torch.no_grad():
        found = part.divergence(
            part.reference_outputs(model, batch), part.outputs(other, batch), batch
        )
        third = batch.pick(slice(None, None, 3))
        expected = whole.divergence(whole.outputs(model, third), whole.outputs(other, third), third)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_loss_is_the_mean_cost_per_word(task, model):
    batch = collate([utterance(30, "one two"), utterance(18, "three")], task.config)
    each = [
        task.loss(model, collate([u], task.config))[0].item()
        for u in (utterance(30, "one two"), utterance(18, "three"))
    ]
    assert task.loss(model, batch)[0].item() == pytest.approx(sum(each) / 2, rel=1e-5)


def test_word_error_rate_counts_words():
    assert word_error_rate(["one two three four"], ["one three three"]) == 0.5
    assert word_error_rate(["one"], ["one two three"]) == 2.0
    assert word_error_rate(["one two", "six"], ["one two", ""]) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [(["one"], [], "1 and hypotheses 0"), ([], [], "at least one"), ([" "], ["one"], "empty")],
)
def test_word_error_rate_refuses_bad_input(references, hypotheses, message):
    with pytest.raises(ArgumentError, match=message):
        word_error_rate(references, hypotheses)


def test_impossible_utterances_are_named(task):
    with pytest.raises(ArgumentError, match="utterance 'one ten-30': text has the unit 'ten'"):
        collate([utterance(30, "one ten")], task.config)
    with pytest.raises(ArgumentError, match=r"4 units in 5 frames: expected at most 3"):
        collate([utterance(5, "one two three four")], task.config)


def test_an_unknown_unit_is_noticed_before_training(task):
    odd = replace(task.corpus.recordings[7], text="eleven", id="odd")
    with pytest.raises(ArgumentError, match="utterance 'odd': text has the unit 'eleven'"):
        DigitTask(Corpus((*task.corpus.recordings, odd)))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.full((9, 13), np.inf), "NaN or infinity"),
        (np.zeros((9, 12)), r"shape \(9, 12\)"),
        (np.zeros((2, 13)), r"T >= 3"),
    ],
)
def test_transcribe_refuses_bad_features(model, features, message):
    with pytest.raises(ArgumentError, match=message):
        transcribe(model, features)


@pytest.mark.parametrize("units", ["abc", ("a", 1), (), ("a", "a")])
def test_units_that_are_no_strings_are_named(units):
    with pytest.raises(ArgumentError, match="units is .*expected one or more strings"):
        TransducerConfig(units=units)


def test_units_may_be_characters():
    config = TransducerConfig(units=CHARACTERS)
    assert " " in config.units
    assert config.blank == len(CHARACTERS)
    labels = config.labels("three one")
    assert len(labels) == 9
    assert config.text(labels) == "three one"
    assert config.text(config.labels("one") + config.labels(" ")) == "one"
    with pytest.raises(ArgumentError, match="'q'"):
        config.labels("quit")
    task = DigitTask(config=TransducerConfig(units=CHARACTERS, stack=2), batch_size=4)
    model = task.new_model(0)
    loss, logits = task.loss(model, next(task.batches("train", np.random.default_rng(0))))
    assert logits.shape[-1] == len(CHARACTERS) + 1
    assert torch.isfinite(loss)


def test_config_maps_words_to_labels_and_back():
    config = TransducerConfig()
    assert config.text(config.labels("three one four")) == "three one four"
    assert config.blank == 10


def test_parameters_are_counted_by_part(model):
    counts = model.parameter_counts()
    assert list(counts) == ["encoder", "embedding", "predictor", "joiner", "output"]
    assert sum(counts.values()) == 336_235
    assert counts["output"] == 128 * 11 + 11
    assert counts["embedding"] == 11 * 32


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_a_divergence_of_nothing_is_refused(task, every):
    with pytest.raises(
        ArgumentError, match=f"divergence_every is {every}: expected a whole number"
    ):
        DigitTask(task.corpus, divergence_every=every)


def test_settings_tell_a_task_from_others():
    options = [{}, {"fold": 1}, {"fold": "theo"}, {"batch_size": 4}, {"curriculum": 9}]
    options += [{"augmentation": None}, {"divergence_every": 1}]
    options += [{"config": TransducerConfig(encoder_size=8)}]
    told = [json.dumps(DigitTask(load_spoken_digits(), **o).settings) for o in options]
    assert len(set(told)) == len(options)
