"""A pruner in loops that we did not write."""

import contextlib
import copy
import math
import os
import pickle

import numpy as np
import pytest
import torch
from blobs import Blobs
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.pruner import OrderError
from cspkit.pruning import CSP, GMP, PRUNERS, Hold, prunable_weights, prune
from cspkit.task import kl_divergence
from cspkit.training import rate_factor, train

STEPS = 45
ALL = pytest.mark.parametrize("method", sorted(PRUNERS))


def flat(tensors):
    return torch.cat([t.detach().flatten().clone() for t in tensors])


def pruner_of(method, model, sparsity=0.9, steps=STEPS, **settings):
    return PRUNERS[method](prunable_weights(model), sparsity, steps, **settings)


def everything(model, optimizer, pruner):
    """All that a step may change."""
    moments = [
        v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)
    ]
    return flat([*model.parameters(), *moments, *pruner.state().values()])


def loop(model, task, pruner, optimizer, steps=STEPS, mu=0.0, reference=None, seed=0, watch=None):
    """Somebody else's loop, with the schedule and the clip of ours."""
    pruner.attach(optimizer)
    batches = task.batches("train", np.random.default_rng(seed))
    model.train()
    pruner.mu = mu
    for _ in range(pruner.steps_done):
        next(batches)
    for step in range(pruner.steps_done, steps):
        batch = next(batches)
        optimizer.zero_grad()
        with pruner.sparse():
            loss, outputs = task.loss(model, batch)
            if mu:
                with torch.no_grad():
                    expected = reference(batch[0])
                loss = loss + pruner.error_term(expected, outputs)
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * rate_factor("cosine", step, STEPS)
        optimizer.step()
        if watch is not None:
            watch(step)


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)


@ALL
@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_a_loop_by_hand_is_train_to_the_bit(task, dense, method, mu):
    by_train, by_hand = copy.deepcopy(dense), copy.deepcopy(dense)
    ours, theirs = pruner_of(method, by_train), pruner_of(method, by_hand)
    train(
        by_train, task, STEPS, pruner=ours, reference=dense, mu=mu, rate=1e-2, schedule="cosine",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    loop(by_hand, task, theirs, adam(by_hand), mu=mu, reference=dense)
    theirs.finish()
    assert torch.equal(flat(by_train.parameters()), flat(by_hand.parameters()))
    assert all(torch.equal(ours.masks[n], theirs.masks[n]) for n in ours.masks)
    assert theirs.steps_done == STEPS


@ALL
def test_stepping_by_hand_is_stepping_by_hooks(task, dense, method):
    ends = []
    for attached in (True, False):
        model = copy.deepcopy(dense)
        pruner, optimizer = pruner_of(method, model), adam(model)
        if attached:
            pruner.attach(optimizer)
        batches = task.batches("train", np.random.default_rng(0))
        for _ in range(STEPS):
            optimizer.zero_grad()
            with pruner.sparse():
                task.loss(model, next(batches))[0].backward()
            pruner.step(optimizer)
        pruner.finish()
        ends.append(flat(model.parameters()))
    assert torch.equal(*ends)


@ALL
@pytest.mark.parametrize("at", [0, 7, 10, 30, 40])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_step_with_gradients_that_are_not_finite_leaves_no_trace(task, dense, method, at, value):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of(method, model), adam(model)
    loop(model, task, pruner, optimizer, steps=at)
    batches = task.batches("train", np.random.default_rng(9))
    optimizer.zero_grad()
    with pruner.sparse():  # whatever is due at this step is done
        task.loss(model, next(batches))[0].backward()
    before = everything(model, optimizer, pruner)
    for name, parameter in model.named_parameters():
        if "bias" not in name or at == 7:
            parameter.grad.fill_(value)
    optimizer.step()
    assert torch.equal(everything(model, optimizer, pruner), before)
    assert pruner.steps_done == at
    loop(model, task, pruner, optimizer)
    pruner.finish()
    assert sum(int(m.sum()) for m in pruner.masks.values()) == 2200 - round(0.9 * 2200)
    assert flat(model.parameters()).isfinite().all()


@pytest.mark.parametrize("settings", [{}, {"measurement": "activations"}])
@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_a_gradient_scaler_skips_leaves_no_trace(task, dense, fused, settings):
    ends = []
    for overflow in (True, False):
        model = copy.deepcopy(dense)
        pruner = pruner_of("csp", model, **settings)
        pruner.watch(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=fused)
        pruner.attach(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10_000)
        batches = task.batches("train", np.random.default_rng(0))
        for step in range(STEPS):
            batch = next(batches)
            for attempt in range(2 if overflow and step in (0, 5, 20, 35) else 1):
                optimizer.zero_grad()
                scale = scaler.get_scale()
                with pruner.sparse():
                    loss = task.loss(model, batch)[0]
                    last = attempt == 1 or not (overflow and step in (0, 5, 20, 35))
                    scaler.scale(loss if last else loss * math.inf).backward()
                scaler.step(optimizer)
                scaler.update()
                assert scaler.get_scale() == (scale if last else scale / 2)
                scaler.update(2.0**10)
        assert pruner.steps_done == STEPS
        ends.append(everything(model, optimizer, pruner))
    assert torch.equal(*ends)


def test_a_scale_that_the_optimizer_removes_is_not_measured(task, dense):
    grams = []
    for scale in (1.0, 2.0**12):
        model = copy.deepcopy(dense)
        pruner, optimizer = pruner_of("csp", model), adam(model)  # fused: unscales by itself
        pruner.attach(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        batches = task.batches("train", np.random.default_rng(0))
        for _ in range(5):
            optimizer.zero_grad()
            with pruner.sparse():
                scaler.scale(task.loss(model, next(batches))[0]).backward()
            scaler.step(optimizer)
            scaler.update()
        grams.append(flat(pruner.gram.values()))
    assert grams[0].max() > 0
    torch.testing.assert_close(*grams, rtol=1e-3, atol=1e-9)


def test_calls_out_of_order_are_refused_by_name(task, dense):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of("csp", model), adam(model)
    batches = task.batches("train", np.random.default_rng(0))
    before = flat(model.parameters())

    def backward():
        optimizer.zero_grad()
        task.loss(model, next(batches))[0].backward()

    with pytest.raises(
        OrderError, match=r"CSP.finish: no step of the optimizer was seen; call att"
    ):
        pruner.finish()
    pruner.attach(optimizer)
    pruner.attach(optimizer)  # once more does nothing
    backward()
    with pytest.raises(OrderError, match=r"CSP: step of the optimizer without sparse\(\)"):
        optimizer.step()
    with pruner.sparse():
        backward()
        with pytest.raises(OrderError, match=r"CSP: step of the optimizer inside sparse\(\)"):
            optimizer.step()
    for call in (pruner.state, pruner.finish):
        with pruner.sparse():
            with pytest.raises(OrderError, match=r"\(\) inside sparse\(\); leave the block first"):
                call()
    with pytest.raises(OrderError, match="CSP.attach: attached already"):
        pruner.attach(adam(model))
    with pytest.raises(OrderError, match="CSP.step: attached to another optimizer"):
        pruner.step(adam(model))
    assert torch.equal(flat(model.parameters()), before)
    with pruner.sparse():
        backward()
    optimizer.step()
    backward()
    with pytest.raises(OrderError, match="without sparse"):  # of this step
        optimizer.step()
    pruner.finish()
    pruner.finish()  # once more does nothing
    with pytest.raises(OrderError, match="CSP.sparse: entered after finish"):
        with pruner.sparse():
            pass
    optimizer.step()  # is the loop's own again


def test_a_backward_pass_after_the_block_is_an_error(task, dense):
    model = copy.deepcopy(dense)
    pruner = pruner_of("csp", model)
    with pruner.sparse():
        loss = task.loss(model, next(task.batches("train", np.random.default_rng(0))))[0]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_an_optimizer_without_the_weights_is_refused(dense):
    model = copy.deepcopy(dense)
    pruner = pruner_of("gmp", model)
    for wrong in (pruner.attach, pruner.step):
        with pytest.raises(
            ArgumentError, match="optimizer does not have '2.weight' among its para"
        ):
            wrong(torch.optim.SGD([model[0].weight, model[4].weight], lr=0.1))
        with pytest.raises(
            ArgumentError, match="optimizer is a Sequential: expected a torch.optim"
        ):
            wrong(model)


@ALL
def test_a_sparse_checkpoint_can_be_had_at_any_moment(task, dense, method):
    model = copy.deepcopy(dense)
    pruner = pruner_of(method, model)
    between, zeros = [], []

    def watch(step):
        with pruner.sparse():
            kept = copy.deepcopy(model.state_dict())
        zeros.append(sum(int((kept[n] == 0).sum()) for n in pruner.masks))
        between.append(round(pruner.sparsity * 2200))

    loop(model, task, pruner, adam(model), watch=watch)
    pruner.finish()
    assert all(z >= b for z, b in zip(zeros, between, strict=True))
    assert zeros[-1] == 2200 - sum(int(m.sum()) for m in pruner.masks.values()) == 1980


@ALL
def test_entering_again_changes_nothing(task, dense, method):
    ends = []
    for again in (False, True):
        model = copy.deepcopy(dense)
        pruner, optimizer = pruner_of(method, model), adam(model)
        pruner.attach(optimizer)
        batches = task.batches("train", np.random.default_rng(0))
        for _ in range(STEPS):
            optimizer.zero_grad()
            batch = next(batches)
            if again:
                with pruner.sparse(), torch.no_grad():
                    task.loss(model, batch)
            with pruner.sparse():
                if again:
                    with pruner.sparse():
                        task.loss(model, batch)[0].backward()
                else:
                    task.loss(model, batch)[0].backward()
            if again:
                with pruner.sparse(), torch.no_grad():
                    task.loss(model, batch)
            optimizer.step()
        pruner.finish()
        ends.append(flat(model.parameters()))
    assert torch.equal(*ends)


@pytest.mark.parametrize("method", ["csp", "gmp", "dpf"])
def test_an_exception_inside_leaves_the_dense_weights(task, dense, method):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of(method, model), adam(model)
    loop(model, task, pruner, optimizer, steps=20)
    before = flat(model.parameters())

    def breaks():
        with pruner.sparse(), pruner.sparse():
            assert not torch.equal(flat(model.parameters()), before)
            raise KeyError

    with pytest.raises(KeyError):
        breaks()
    assert torch.equal(flat(model.parameters()), before)


@ALL
def test_four_quarters_of_a_batch_are_the_batch(task, dense, method):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of(method, model), adam(model)
    loop(model, task, pruner, optimizer, steps=12)
    batch = next(task.batches("train", np.random.default_rng(5)))
    whole, parts = (copy.deepcopy([model, pruner.state()]) for _ in range(2))
    ends = []
    for (twin, state), bounds in ((whole, [0, 32]), (parts, [0, 5, 13, 30, 32])):
        own = pruner_of(method, twin)
        own.load_state(state)
        sgd = torch.optim.SGD(twin.parameters(), lr=0.1)
        own.attach(sgd)
        for first, last in zip(bounds, bounds[1:], strict=False):
            with own.sparse():
                loss = task.loss(twin, (batch[0][first:last], batch[1][first:last]))[0]
                (loss * (last - first) / 32).backward()
        sgd.step()
        ends.append((flat(twin.parameters()), own))
    torch.testing.assert_close(ends[0][0], ends[1][0], rtol=0, atol=1e-5)
    for name, mask in ends[0][1].masks.items():
        assert torch.equal(mask, ends[1][1].masks[name])


@ALL
@pytest.mark.parametrize(
    "make",
    [
        lambda ps: torch.optim.AdamW(ps, lr=1e-2, weight_decay=0.1),
        lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9, weight_decay=0.01),
        lambda ps: torch.optim.Adagrad(ps, lr=1e-2),
    ],
)
def test_no_optimizer_revives_a_weight_that_is_cut(task, dense, method, make):
    model = copy.deepcopy(dense)
    pruner = pruner_of(method, model)

    def watch(step):
        if step >= 30:  # frozen
            for name, weight in pruner.weights.items():
                assert not weight[~pruner.masks[name]].any()

    loop(model, task, pruner, make(model.parameters()), watch=watch)
    pruner.finish()
    assert sum(int((w != 0).sum()) for w in pruner.weights.values()) == 220


@pytest.mark.parametrize("method", ["csp", "gmp", "rigl"])
def test_bf16_autocast(task, dense, method):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of(method, model), adam(model)
    pruner.attach(optimizer)
    batches = task.batches("train", np.random.default_rng(0))
    with torch.autocast("cpu", torch.bfloat16):  # one block around all: its cache of casts is stale
        for _ in range(STEPS):
            x, y = next(batches)
            optimizer.zero_grad()
            with pruner.sparse():
                outputs = model(x)
                assert outputs.dtype == torch.bfloat16
                with torch.autocast("cpu", enabled=False):
                    exact = nn.functional.linear(
                        nn.functional.relu(model[:3](x)), model[4].weight, model[4].bias
                    )
                torch.testing.assert_close(outputs.float(), exact, rtol=0.1, atol=0.3)
                D = pruner.error_term(dense(x), outputs)
                assert D.dtype == torch.float32 or pruner.mu == 0
                (nn.functional.cross_entropy(outputs.float(), y) + D).backward()
            optimizer.step()
    pruner.finish()
    assert sum(int((w != 0).sum()) for w in pruner.weights.values()) == 220
    assert task.evaluate(model, "dev")["error"] < 0.15


@pytest.mark.parametrize("method", ["csp", "gmp", "acdc"])
def test_a_compiled_model(task, dense, method):
    ends = []
    for compiled in (False, True):
        model = copy.deepcopy(dense)
        pruner = pruner_of(method, model)
        run = torch.compile(model, backend="eager") if compiled else model
        loop(run, task, pruner, adam(model))
        pruner.finish()
        ends.append(flat(model.parameters()))
    assert torch.equal(*ends)


def test_a_data_parallel_model(task, dense):
    model = copy.deepcopy(dense)
    wrapped = nn.DataParallel(model)
    pruner = pruner_of("csp", wrapped)
    assert set(pruner.weights) == {"0.weight", "2.weight", "4.weight"}
    loop(wrapped, task, pruner, adam(model))
    pruner.finish()
    assert sum(int((w != 0).sum()) for w in pruner.weights.values()) == 220


def rank_of(rank, folder, method, settings):
    """One of two processes: half of each batch, gradients averaged by DistributedDataParallel."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    task = Blobs()
    model = task.new_model()
    pruner = pruner_of(method, model, **settings)
    if method == "csp":
        pruner.watch(model)
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    pruner.attach(optimizer)
    batches = task.batches("train", np.random.default_rng(0))
    for _ in range(STEPS):
        x, y = next(batches)
        optimizer.zero_grad()
        with pruner.sparse():
            nn.functional.cross_entropy(wrapped(x[rank::2]), y[rank::2]).backward()
        optimizer.step()
    pruner.finish()
    torch.save([flat(model.parameters()), pruner.state()], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("method", "settings"), [("csp", {}), ("csp", {"measurement": "activations"}), ("rigl", {})]
)
def test_two_processes_have_the_same_masks(tmp_path, method, settings):
    torch.multiprocessing.spawn(rank_of, (str(tmp_path), method, settings), nprocs=2)
    (ours, state), (theirs, other) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(ours, theirs)
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert int((ours != 0).sum()) < 400


@ALL
@pytest.mark.parametrize("stop", [7, 30, 41])
def test_a_run_stopped_and_resumed_from_its_state_is_unbroken(task, dense, method, stop):
    def start():
        model = copy.deepcopy(dense)
        return model, pruner_of(method, model), adam(model)

    model, pruner, optimizer = start()
    loop(model, task, pruner, optimizer)
    pruner.finish()
    first, its_pruner, its_optimizer = start()
    loop(first, task, its_pruner, its_optimizer, steps=stop)
    saved = copy.deepcopy([first.state_dict(), its_optimizer.state_dict(), its_pruner.state()])
    second, other, its_optimizer = start()
    second.load_state_dict(saved[0])
    its_optimizer.load_state_dict(saved[1])
    other.load_state(saved[2])
    assert other.steps_done == stop
    loop(second, task, other, its_optimizer)
    other.finish()
    assert torch.equal(flat(second.parameters()), flat(model.parameters()))


def test_a_state_of_other_weights_is_refused(dense):
    gmp, csp = (pruner_of(m, copy.deepcopy(dense)) for m in ("gmp", "csp"))
    with pytest.raises(ArgumentError, match=r"belongs to \['GMP', .*expected a state of \['CSP'"):
        csp.load_state(gmp.state())
    with pytest.raises(ArgumentError, match="state belongs to .*CSP.*expected a state of .*GMP"):
        gmp.load_state(csp.state())
    with pytest.raises(ArgumentError, match="'target': 0.9.*'target': 0.5"):
        pruner_of("gmp", copy.deepcopy(dense), 0.5).load_state(gmp.state())
    with pytest.raises(ArgumentError, match="state belongs to nothing"):
        gmp.load_state({})
    damaged = gmp.state()
    del damaged["masks.2.weight"]
    with pytest.raises(ArgumentError, match="damaged: 'masks.2.weight' is missing"):
        gmp.load_state(damaged)
    wide = GMP({"0.weight": nn.Parameter(torch.ones(3, 3))}, 0.5, 10)
    with pytest.raises(ArgumentError, match="state belongs to .*expected a state of"):
        wide.load_state(gmp.state())


@pytest.mark.parametrize("method", ["csp", "gmp", "dpf", "rigl", "admm"])
def test_a_trainer_that_computes_inside_the_step(task, dense, method):
    ends = []
    for inside in (False, True):
        model = copy.deepcopy(dense)
        pruner, optimizer = pruner_of(method, model), adam(model)
        pruner.attach(optimizer)
        batches = task.batches("train", np.random.default_rng(0))

        def closure(model=model, optimizer=optimizer, batches=batches):
            optimizer.zero_grad()
            loss = task.loss(model, next(batches))[0]
            loss.backward()
            return loss

        for _ in range(STEPS):
            if inside:
                assert optimizer.step(closure).requires_grad
            else:
                with pruner.sparse():
                    closure()
                optimizer.step()
        pruner.finish()
        ends.append(flat(model.parameters()))
    assert torch.equal(*ends)


def test_lbfgs(task, dense):
    model = copy.deepcopy(dense)
    pruner = pruner_of("csp", model, steps=15)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    pruner.attach(optimizer)
    batch = next(task.batches("train", np.random.default_rng(0)))

    def closure():
        optimizer.zero_grad()
        loss = task.loss(model, batch)[0]
        loss.backward()
        return loss

    for _ in range(15):
        optimizer.step(closure)
    pruner.finish()
    assert pruner.steps_done == 15
    assert sum(int((w != 0).sum()) for w in pruner.weights.values()) == 220


@ALL
@pytest.mark.parametrize("sparsity", [0.9, 0.5])
def test_half_precision_meets_its_target(dense, method, sparsity):
    torch.manual_seed(0)
    weights = {
        "a": nn.Parameter(torch.randn(300, 200).half()),
        "b": nn.Parameter(1e-3 * torch.randn(50, 40).half()),
    }
    pruner = PRUNERS[method](weights, sparsity, 12)
    optimizer = torch.optim.SGD(weights.values(), lr=1e-3)
    for _ in range(12):
        with pruner.sparse():
            for weight in weights.values():
                weight.grad = 1e-4 * torch.randn(weight.shape).half()
        pruner.step(optimizer)
    pruner.finish()
    assert sum(int(m.sum()) for m in pruner.masks.values()) == 62_000 - round(sparsity * 62_000)
    assert all(not w[~pruner.masks[n]].any() for n, w in weights.items())


@ALL
def test_each_weight_can_have_its_own_sparsity(task, dense, method):
    own = {"0.weight": 0.5, "2.weight": 0.95, "4.weight": 0.0}
    model = copy.deepcopy(dense)
    pruner = PRUNERS[method](prunable_weights(model), own, STEPS)
    loop(model, task, pruner, adam(model))
    pruner.finish()
    kept = {n: int((w != 0).sum()) for n, w in pruner.weights.items()}
    assert kept == {"0.weight": 200, "2.weight": 80, "4.weight": 200}
    assert all(int(pruner.masks[n].sum()) == k for n, k in kept.items())


@pytest.mark.parametrize(
    ("sparsity", "message"),
    [
        ({"0.weight": 0.5}, "sparsity and weights differ in '2.weight'"),
        ({"0.weight": 0.5, "2.weight": 1.0, "4.weight": 0}, "sparsity of '2.weight' is 1.0"),
        (True, "sparsity is True"),
    ],
)
def test_a_wrong_sparsity_is_named(dense, sparsity, message):
    with pytest.raises(ArgumentError, match=message):
        CSP(prunable_weights(copy.deepcopy(dense)), sparsity, 10)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_held_masks_survive_training(task, dense, optimizer):
    pruned = prune(dense, task, "csp", 0.9, steps=30)
    weights = prunable_weights(pruned.model)
    before = flat(weights.values())
    hold = Hold(weights, pruned.masks)
    train(
        pruned.model, task, 50, pruner=hold, rng=np.random.default_rng(1), optimizer=optimizer,
        rate=1e-2,
    )  # fmt: skip
    after = flat(weights.values())
    assert torch.equal(before != 0, after != 0)
    assert not torch.equal(before, after)
    assert hold.sparsity == pytest.approx(0.9)


def test_masks_that_do_not_fit_are_refused(dense):
    weights = prunable_weights(copy.deepcopy(dense))
    with pytest.raises(ArgumentError, match=r"masks have shapes and dtypes \{\}: expected"):
        Hold(weights, {})
    with pytest.raises(ArgumentError, match=r"torch.float32.*: expected .*torch.bool"):
        Hold(weights, {n: torch.ones_like(w) for n, w in weights.items()})


def test_weights_that_are_not_finite_are_refused(dense):
    model = copy.deepcopy(dense)
    model[2].weight.data[3, :2] = torch.tensor([math.nan, math.inf])
    with pytest.raises(
        ArgumentError, match="weights has '2.weight' with 2 values that are NaN or i"
    ):
        pruner_of("gmp", model)


def test_the_error_term_is_a_weighted_divergence_over_valid_cells():
    torch.manual_seed(0)
    reference, outputs = torch.randn(2, 3, 4, 7), torch.randn(2, 3, 4, 7, requires_grad=True)
    valid = torch.rand(2, 3, 4) < 0.5
    pruner = CSP({"w": nn.Parameter(torch.ones(2, 2))}, 0.5, 10)
    p, q = reference.double().softmax(-1), outputs.double().softmax(-1)
    cells = (p * (p / q).log()).sum(-1)
    assert pruner.error_term(reference, outputs).item() == 0  # the default
    pruner.mu = 1.0
    D = pruner.error_term(reference, outputs)
    assert D.item() == pytest.approx(cells.mean().item())
    pruner.mu = 0.3
    expected = 0.3 * cells[valid].mean().item()
    assert pruner.error_term(reference, outputs, valid).item() == pytest.approx(expected)
    pruner.mu = 0.0
    assert pruner.error_term(reference, outputs).item() == 0
    with pytest.raises(ArgumentError, match=r"have shape \(2, 3\), outputs \(3, 2\)"):
        kl_divergence(torch.ones(2, 3), torch.ones(3, 2))


def test_an_evaluation_in_inference_mode_may_come_first(task, dense):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of("csp", model), adam(model)
    with torch.inference_mode(), pruner.sparse():
        model(task.x)
    loop(model, task, pruner, optimizer)
    pruner.finish()
    assert sum(int((w != 0).sum()) for w in pruner.weights.values()) == 220


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_an_interrupt_at_the_edge_of_the_block_loses_no_weight(task, dense, monkeypatch, call):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of("csp", model), adam(model)
    loop(model, task, pruner, optimizer, steps=15)
    before, calls = flat(model.parameters()), []

    def interrupt():
        calls.append(0)
        if len(calls) == call:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "clear_autocast_cache", interrupt)
    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt), pruner.sparse():
            pass
    monkeypatch.undo()
    with pruner.sparse():
        assert not torch.equal(flat(model.parameters()), before)
    assert torch.equal(flat(model.parameters()), before)


def test_an_interrupt_while_v_comes_back_loses_no_weight(task, dense, monkeypatch):
    model = copy.deepcopy(dense)
    pruner = pruner_of("csp", model)
    loop(model, task, pruner, adam(model), steps=15)
    before = flat(model.parameters())
    copy_ = torch.Tensor.copy_

    def interrupt(self, *args):
        raise KeyboardInterrupt

    def leave_badly():
        with pruner.sparse():
            monkeypatch.setattr(torch.Tensor, "copy_", interrupt)

    with pytest.raises(KeyboardInterrupt):
        leave_badly()
    monkeypatch.setattr(torch.Tensor, "copy_", copy_)
    with pruner.sparse():
        pass
    assert torch.equal(flat(model.parameters()), before)


def test_inputs_that_overflow_in_a_skipped_step_are_not_measured(task, dense):
    model = copy.deepcopy(dense)
    pruner = pruner_of("csp", model, measurement="activations")
    pruner.watch(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    pruner.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10_000)
    batches = task.batches("train", np.random.default_rng(0))
    for step in range(STEPS):
        x, y = next(batches)
        for attempt in (0, 1):
            bad = attempt == 0 and step in (0, 10, 20)
            with pruner.sparse():
                loss = nn.functional.cross_entropy(model(x * math.inf if bad else x), y)
                optimizer.zero_grad()  # between the passes, as some loops do
                scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update(2.0**10)
            if not bad:
                break
    pruner.finish()
    assert pruner.steps_done == STEPS
    assert all(g.isfinite().all() for g in pruner.gram.values())


@pytest.mark.parametrize("block", ["1x8", "8x1", "4x4"])
@pytest.mark.parametrize("seed", range(8))
def test_finish_leaves_a_frozen_support_as_it_is(block, seed):
    torch.manual_seed(seed)
    shapes = [(6, 9), (7, 11), (5, 13), (3, 10)]
    weights = {str(i): nn.Parameter(torch.randn(shape)) for i, shape in enumerate(shapes)}
    own = dict.fromkeys(weights, 0.7)
    pruner = CSP(weights, own, 30, block=block, measurement="identity", end=0.1)
    optimizer = torch.optim.SGD(weights.values(), lr=0.3)
    for _ in range(30):
        with pruner.sparse():
            for weight in weights.values():
                weight.grad = torch.randn(weight.shape)
        pruner.step(optimizer)
    before = flat(weights.values())
    pruner.finish()
    assert torch.equal(flat(weights.values()), before)


@pytest.mark.parametrize("reset", [True, False])
def test_gradients_from_outside_are_refused(task, dense, reset):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of("csp", model), adam(model)
    pruner.attach(optimizer)
    batches = task.batches("train", np.random.default_rng(0))
    with pruner.sparse(), torch.no_grad():
        model(task.x)  # a validation
    task.loss(model, next(batches))[0].backward()
    with pytest.raises(OrderError, match="without sparse"):
        optimizer.step()
    if reset:
        optimizer.zero_grad(set_to_none=False)  # for another purpose, and forgotten again
    with pruner.sparse():
        task.loss(model, next(batches))[0].backward()
    if reset:
        optimizer.step()
        assert pruner.steps_done == 1
    else:
        with pytest.raises(OrderError, match="without sparse"):
            optimizer.step()


@ALL
def test_a_pruner_made_from_the_loaded_weights_goes_on(task, dense, method):
    model = copy.deepcopy(dense)
    pruner = pruner_of(method, model)
    loop(model, task, pruner, torch.optim.SGD(model.parameters(), lr=0.1), steps=10)
    state, twin = pruner.state(), copy.deepcopy(model)
    other = pruner_of(method, twin)
    other.load_state(state)
    kept = {name: tensor.clone() for name, tensor in state.items()}
    for one, its in ((model, pruner), (twin, other)):
        its.detach()
        loop(one, task, its, torch.optim.SGD(one.parameters(), lr=0.1))
        its.finish()
    assert torch.equal(flat(model.parameters()), flat(twin.parameters()))
    assert all(torch.equal(kept[name], state[name]) for name in kept)  # a snapshot


def test_an_error_in_the_step_after_a_skipped_one_is_no_skip(task, dense):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of("gmp", model), adam(model)
    pruner.attach(optimizer)
    batches = task.batches("train", np.random.default_rng(0))

    def fails(*_):
        raise KeyError

    for kind in ("skipped", "good"):
        optimizer.zero_grad()
        with pruner.sparse():
            task.loss(model, next(batches))[0].backward()
        if kind == "skipped":
            model[0].weight.grad.fill_(math.nan)
            handle = optimizer.register_step_pre_hook(fails)
            with pytest.raises(KeyError):
                optimizer.step()
            handle.remove()
        else:
            optimizer.step()
    assert pruner.steps_done == 1


def test_copies_and_pickles_are_not_attached(task, dense):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of("csp", model), adam(model)
    loop(model, task, pruner, optimizer, steps=20)
    for twins in (
        copy.deepcopy((model, optimizer, pruner)),
        pickle.loads(pickle.dumps((model, optimizer, pruner))),
    ):
        twin, its_optimizer, its_pruner = twins
        loop(twin, task, its_pruner, its_optimizer)
        assert its_pruner.steps_done == STEPS
        its_pruner.finish()
        assert int(sum((w != 0).sum() for w in prunable_weights(twin).values())) == 220
    assert pruner.steps_done == 20


def test_the_gradient_of_l1_prox_is_taken_at_its_weights(task, dense):
    model = copy.deepcopy(dense)
    pruner = pruner_of("l1-prox", model, every=3)

    def watch(step):
        before = flat(model.parameters())
        if step != 29:  # the next step begins with the cut
            with pruner.sparse():
                assert torch.equal(flat(model.parameters()), before)

    loop(model, task, pruner, adam(model), watch=watch)


def test_zeros_are_exact_even_where_a_weight_was_not_a_number(dense):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of("oneshot", model), torch.optim.SGD(model.parameters(), lr=0.1)
    with pruner.sparse():
        pass
    pruner.step(optimizer)
    cut = ~pruner.masks["2.weight"]
    model[2].weight.data[cut] = math.nan
    pruner.finish()
    assert not model[2].weight[cut].any()


def test_the_error_term_of_no_cell_or_of_a_class_that_is_ruled_out():
    pruner = CSP({"w": nn.Parameter(torch.ones(2, 2))}, 0.5, 10)
    pruner.mu = 1.0
    logits = torch.randn(3, 4, requires_grad=True)
    D = pruner.error_term(torch.randn(3, 4), logits, torch.zeros(3, dtype=torch.bool))
    D.backward()
    assert D.item() == 0
    ruled_out = torch.tensor([0.0, 0.0, 0.0, -math.inf])
    logits.grad = None
    D = pruner.error_term(torch.randn(3, 4) + ruled_out, logits + ruled_out)
    D.backward()
    assert D.isfinite() and logits.grad.isfinite().all()


def test_attaching_after_the_end_is_refused(task, dense):
    model = copy.deepcopy(dense)
    pruner, optimizer = pruner_of("gmp", model), adam(model)
    loop(model, task, pruner, optimizer, steps=3)
    pruner.finish()
    with pytest.raises(OrderError, match="GMP.attach: called after finish"):
        pruner.attach(optimizer)
