"""Several processes train together, and make the same steps as one process."""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import Blobs
from together import processes
from torch import nn

import cspkit.training
from cspkit import distributed
from cspkit.arguments import ArgumentError
from cspkit.asr import CTCTask, DigitTask, Transducer, TransducerConfig, load_spoken_digits
from cspkit.asr.task import SpeechTask
from cspkit.distributed import ProcessesDiffer
from cspkit.pruning import PRUNERS, prunable_weights, prune
from cspkit.resume import Interrupted
from cspkit.training import train

TINY = TransducerConfig(encoder_size=12, embedding_size=6, predictor_size=12, joiner_size=12)
STEPS = 16


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    with processes(tmp_path_factory.mktemp("processes")) as call:
        yield call


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


def tiny_task(kind=DigitTask, **options):
    # Of five utterances three are compared: two processes have unequal shares of both.
    return kind(config=TINY, **{"batch_size": 5, "pool": 3} | options)


def tiny_run(rank, method, dtype, kill_after=None, kind=DigitTask, task_options=(), **options):
    """Prune a tiny recogniser; return its log, all weights and all masks."""
    task = tiny_task(kind, **dict(task_options))

    def on_step(row):
        if row["step"] == kill_after:
            raise KilledError

    model = task.new_model(0).to(dtype)
    pruned = prune(
        model, task, method, 0.8, steps=STEPS, rng=np.random.default_rng(1), on_step=on_step,
        mu=1.0, state_every=5, **options,
    )  # fmt: skip
    return pruned.log, flat(pruned.model.parameters()), flat(pruned.masks.values())


@functools.cache
def alone(method):
    return tiny_run(0, method, torch.float64)


def curves(log):
    return np.array([[row["loss"], row["divergence"]] for row in log])


@pytest.mark.parametrize("method", ["csp", "gmp", "rigl"])
def test_two_processes_train_as_one_does(together, method):
    log, weights, masks = alone(method)
    results = together(tiny_run, method, torch.float64)
    for ours, its_weights, its_masks in results:
        np.testing.assert_allclose(curves(ours), curves(log), rtol=0, atol=1e-8)
        assert torch.equal(its_masks, masks)
        torch.testing.assert_close(its_weights, weights, rtol=0, atol=1e-8)
    assert curves(log)[:, 1].max() > 1e-3
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_in_single_precision_the_processes_are_equal_to_the_bit(together):
    _, _, masks = tiny_run(0, "csp", torch.float32)
    _, halves, _ = tiny_run(0, "csp", torch.float32, accumulate=2)
    (log, weights, ours), (its_log, its_weights, theirs) = together(tiny_run, "csp", torch.float32)
    assert torch.equal(weights, its_weights)
    assert torch.equal(weights, halves)  # the same shares of each batch, in one process
    assert torch.equal(ours, theirs)
    assert log == its_log
    assert (ours == masks).double().mean() >= 0.999


def test_a_share_without_compared_utterances(together):
    options = {"task_options": {"batch_size": 4, "divergence_every": 4, "pool": 0}}
    shard = tiny_task(batch_size=4, divergence_every=4, pool=0)
    shard.shard = (1, 2)
    batch = next(shard.batches("train", np.random.default_rng(0)))
    assert len(batch.compared) == 0 and shard.terms(batch) == (2, 0)
    log, weights, _ = tiny_run(0, "csp", torch.float64, **options)

    for ours, its_weights, _ in together(share_without_compared, options):
        np.testing.assert_allclose(curves(ours), curves(log), rtol=0, atol=1e-8)
        torch.testing.assert_close(its_weights, weights, rtol=0, atol=1e-8)


def share_without_compared(rank, options):
    return tiny_run(rank, "csp", torch.float64, **options)


def ctc_run(rank, accumulate=1):
    return tiny_run(rank, "csp", torch.float64, kind=CTCTask, accumulate=accumulate)


def test_two_processes_train_a_ctc_model_as_one_does(together):
    log, weights, _ = ctc_run(0)
    for ours, its_weights, _ in [*together(ctc_run), ctc_run(0, 2)]:
        np.testing.assert_allclose(curves(ours), curves(log), rtol=0, atol=1e-8)
        torch.testing.assert_close(its_weights, weights, rtol=0, atol=1e-8)


def killed_run(rank, state, kill_after):
    return tiny_run(rank, "csp", torch.float64, kill_after=kill_after, state_file=state)


def test_a_run_of_two_processes_is_continued_by_one_and_by_two(together, tmp_path):
    state = tmp_path / "state"
    log, weights, masks = alone("csp")
    found = together(killed_run, state, 8)
    assert [type(f) for f in found] == [KilledError] * 2
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    kept = state.read_bytes()
    continued = killed_run(0, state, None)
    assert not list(tmp_path.iterdir())
    state.write_bytes(kept)
    for ours, its_weights, its_masks in [continued, *together(killed_run, state, None)]:
        np.testing.assert_allclose(curves(ours), curves(log), rtol=0, atol=1e-8)
        torch.testing.assert_close(its_weights, weights, rtol=0, atol=1e-8)
        assert torch.equal(its_masks, masks)
    assert not list(tmp_path.iterdir())


def accumulated_run(rank):
    return tiny_run(rank, "csp", torch.float64, accumulate=3)


def test_accumulated_gradients_are_those_of_the_batch(together):
    log, weights, masks = alone("csp")
    for ours, its_weights, its_masks in [accumulated_run(0), *together(accumulated_run)]:
        np.testing.assert_allclose(curves(ours), curves(log), rtol=0, atol=1e-8)
        torch.testing.assert_close(its_weights, weights, rtol=0, atol=1e-8)
        assert torch.equal(its_masks, masks)


@pytest.mark.parametrize("pool", [0, 3])
@pytest.mark.parametrize("of", ["split", "shards of 2", "shards of 3"])
def test_parts_hold_each_utterance_once_and_equal_work(of, pool):
    task = tiny_task(batch_size=7, pool=pool)
    whole = next(task.batches("train", np.random.default_rng(2)))
    parts = task.split(whole, 3)
    if of != "split":
        world, parts = int(of[-1]), []
        for rank in range(world):
            task.shard = (rank, world)
            parts.append(next(task.batches("train", np.random.default_rng(2))))

    def utterances(batch, compared_only=False):
        chosen = batch.compared.tolist() if compared_only else range(len(batch.targets))
        lengths = batch.feature_lengths, batch.target_lengths
        return [
            (round(batch.features[i].sum().item(), 2), *(int(n[i]) for n in lengths))
            for i in chosen
        ]

    for compared_only in (False, True):
        found = [utterances(part, compared_only) for part in parts]
        assert sorted(sum(found, [])) == sorted(utterances(whole, compared_only))
        sizes = [len(part) for part in found]
        assert max(sizes) - min(sizes) <= 1
    for part in parts:
        assert part.feature_lengths.diff().min() >= 0
        assert part.features.shape[1] == part.feature_lengths.max()
        assert part.targets.shape[1] == part.target_lengths.max()
    assert np.array_equal(np.sum([task.terms(part) for part in parts], axis=0), task.terms(whole))


def test_shares_of_any_corpus_hold_each_utterance_once():
    def first(shard):
        task = SpeechTask(load_spoken_digits(), TINY, batch_size=7, augmentation=None)
        task.shard = shard
        return next(task.batches("train", np.random.default_rng(0)))

    whole, shares = first((0, 1)), [first((rank, 3)) for rank in range(3)]
    lengths = torch.cat([share.feature_lengths for share in shares]).sort().values
    assert torch.equal(lengths, whole.feature_lengths)
    assert [len(share.compared) for share in shares] == [2, 1, 1]
    with pytest.raises(ArgumentError, match="batch_size is 7 with 8 processes"):
        first((0, 8))


def test_the_reference_outputs_of_a_group_are_those_of_its_share():
    task, model = tiny_task(), tiny_task().new_model(0)
    for shard in ((0, 1), (0, 2), (1, 2), (0, 1)):
        task.shard = shard
        batch = next(task.batches("train", np.random.default_rng(0)))
        for part in [batch, *task.split(batch, 2)]:
            stored = task.reference_outputs(model, part)
            new = task.reference_outputs(model, part._replace(group=None))
            assert torch.equal(stored, new)
    with torch.autocast("cpu", torch.bfloat16):
        assert task.reference_outputs(model, batch).dtype == torch.bfloat16
    assert task.reference_outputs(model, batch).dtype == torch.float32


@pytest.mark.parametrize("settings", [{}, {"measurement": "activations"}])
def test_bf16_autocast_of_the_forward_passes(monkeypatch, settings):
    kinds, logs = set(), {}
    join = Transducer.join

    def noted(model, *given):
        logits = join(model, *given)
        kinds.add(logits.dtype)
        return logits

    monkeypatch.setattr(Transducer, "join", noted)
    for autocast in (None, "bf16"):
        kinds.clear()
        run = tiny_run(0, "csp", torch.float32, autocast=autocast, **settings)
        assert kinds == {torch.float32 if autocast is None else torch.bfloat16}
        assert run[1].dtype == torch.float32
        logs[autocast] = curves(run[0])
    np.testing.assert_allclose(logs["bf16"], logs[None], rtol=0.02, atol=2e-3)
    assert not np.array_equal(logs["bf16"], logs[None])


class Shared(Blobs):
    """The classification task, which shares its batches."""

    shard = (0, 1)

    def batches(self, split, rng):
        rank, world = self.shard if split == "train" else (0, 1)
        for x, y in super().batches(split, rng):
            yield x[rank::world], y[rank::world]

    def terms(self, batch):
        return len(batch[0]), len(batch[0])


def shared_run(rank, case, **options):
    """Train a classifier for 12 steps; `case` says what goes wrong, or is the state file."""
    task, model = Shared(), Blobs().new_model()
    seen, before = [], task.shard

    def watch(row):
        seen.append(row["step"])
        if case == "a weight differs" and rank == 1 and row["step"] == 6:
            model[0].weight.data[0, 0] += 1e-6
        if case == "process 1 ends" and rank == 1 and row["step"] == 6:
            return True
        if options.get("state_file") and rank == 1 and row["step"] == 6:
            signal.raise_signal(signal.SIGINT)
        return False

    if case == "nan":
        original = task.loss

        def loss(model, batch):
            value, outputs = original(model, batch)
            return value * (float("nan") if rank == 1 and len(seen) == 3 else 1), outputs

        task.loss = loss
    if case == "no shard":
        task.shard = None
    if case == "wrapped":
        model = nn.parallel.DistributedDataParallel(model)
    if case == "frozen":
        model[0].weight.requires_grad = False
    if case == "unused":
        model.register_parameter("spare", nn.Parameter(torch.zeros(3)))
    if case == "batch norm":
        model = nn.Sequential(nn.BatchNorm1d(10), model)
    pruner = None
    if case == "activations":
        pruner = PRUNERS["csp"](prunable_weights(model), 0.8, 12, measurement="activations")
        pruner.watch(model)
    cspkit.training.COMPARE_EVERY = 5
    seed = rank if case == "generators differ" else 0
    train(model, task, 12, pruner=pruner, rng=np.random.default_rng(seed), on_step=watch, **options)
    assert task.shard == before
    gram = {} if pruner is None else pruner.gram
    return seen, flat(model.state_dict().values()), gram


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        ("nan", FloatingPointError, "the loss of step 3 is nan"),
        ("a weight differs", ProcessesDiffer, "after step 9, 0.weight is not the same in all 2"),
        ("generators differ", ProcessesDiffer, "before training, the call of train is not"),
        ("no shard", ArgumentError, "task is a Shared, which cannot share batches between 2"),
        ("unused", ArgumentError, "model has 'spare', which got no gradient"),
        ("wrapped", ArgumentError, "model is a DistributedDataParallel: expected the model inside"),
    ],
)
def test_an_error_ends_all_processes(together, case, error, message):
    for found in together(shared_run, case):
        assert type(found) is error
        assert message in str(found)


@pytest.mark.parametrize("case", ["frozen", "batch norm", "activations"])
def test_all_processes_end_with_the_same_tensors(together, case):
    (_, ours, gram), (_, theirs, its_gram) = together(shared_run, case)
    assert torch.equal(ours, theirs)
    assert gram.keys() == its_gram.keys()
    assert all(torch.equal(G, its_gram[name]) for name, G in gram.items())


def test_the_activations_of_all_processes_are_measured(together):
    task, expected = Shared(), 0.9 * torch.eye(10)
    for task.shard in ((0, 2), (1, 2)):
        x, _ = next(task.batches("train", np.random.default_rng(0)))
        expected += 0.1 * 10 * x.T @ x / x.square().sum() / 2
    for *_, gram in together(shared_run, "activations"):  # collected in step 0 only
        torch.testing.assert_close(gram["0.weight"].float(), expected, rtol=0, atol=1e-5)


def test_a_watcher_of_any_process_ends_the_run(together):
    for seen, *_ in together(shared_run, "process 1 ends"):
        assert seen == list(range(7))


def interrupted_run(rank, state):
    return shared_run(rank, "", state_file=state)


def test_ctrl_c_in_any_process_ends_all_after_the_same_step(together, tmp_path):
    found = together(interrupted_run, tmp_path / "state")
    assert [type(f) for f in found] == [Interrupted] * 2
    assert all("stopped after 7 of 12 steps" in str(f) for f in found)
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_accumulation_needs_a_task_that_splits():
    task = Blobs()
    with pytest.raises(ArgumentError, match="accumulate is 2, but Blobs cannot split batches"):
        train(task.new_model(), task, 1, accumulate=2, rng=np.random.default_rng(0))
    for name, value in {"accumulate": 0, "autocast": "fp8"}.items():
        with pytest.raises(ArgumentError, match=f"{name} is {value!r}"):
            train(task.new_model(), task, 1, rng=np.random.default_rng(0), **{name: value})


def one_rank(tmp_path, backend, device):
    """Prune a tiny recogniser in a process group of one process, and without a group."""
    task = tiny_task()
    model = task.new_model(0).to(device)
    call = {"steps": 6, "rng": np.random.default_rng(0), "measurement": "activations"}
    alone = prune(model, task, "csp", 0.8, **call)
    store = torch.distributed.FileStore(f"{tmp_path}/store", 1)
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        call["rng"] = np.random.default_rng(0)
        grouped = prune(model, task, "csp", 0.8, accumulate=2, **call | {"steps": 6})
        call["rng"] = np.random.default_rng(0)
        same = prune(model, task, "csp", 0.8, **call)
    finally:
        torch.distributed.destroy_process_group()
    return alone, same, grouped


def test_a_group_of_one_process_changes_no_bit(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    alone, same, _ = one_rank(tmp_path, "gloo", "cpu")
    assert torch.equal(flat(alone.model.parameters()), flat(same.model.parameters()))
    assert alone.log == same.log
    assert distributed.world() == 1 and not distributed.connected()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
def test_a_process_on_a_gpu(tmp_path):
    alone, same, _ = one_rank(tmp_path, "nccl", "cuda")
    assert same.model.device.type == "cuda"
    np.testing.assert_allclose(curves(same.log), curves(alone.log), rtol=1e-3, atol=1e-3)


def test_the_command_line_under_torchrun(tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "cspkit", "prune", "--steps", "3", "--accumulate", "2", "--json",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run(
        [*command, "--out", "out"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["out"] == "out"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
