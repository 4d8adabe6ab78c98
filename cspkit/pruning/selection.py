"""Which weights of a model are pruned."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from cspkit.arguments import ArgumentError
from cspkit.modules import check_loaded, unwrapped

Layer = str | type[nn.Module]

# Layers of these types and of their subclasses are pruned by default.
PRUNABLE_TYPES = (
    nn.Linear,
    nn.Bilinear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
SOURCES = ("_g", "_v", "_orig", "_raw", "_bar")  # a weight `w` is computed from `w_orig`
COVERED = 0.9  # warn if the default set of weights has less than this share of the parameters
LISTED = 12  # largest number of names in a message

COMPUTED = "not a layer's own weight, but computed anew in each forward pass"
FROZEN = "frozen (requires_grad=False)"
TIED = "shared with a layer that is not pruned"
TO_DO = {
    COMPUTED: "remove the computation (remove_parametrizations, remove_weight_norm or prune.remove "
    "of torch.nn.utils), or exclude it",
    FROZEN: "set requires_grad to True, or exclude it",
    TIED: "name all layers that share it, or exclude it",
}


@dataclass(frozen=True, eq=False)
class Place:
    """A weight at one place in a model. A shared weight has several places.

    Attributes
    ----------
    name : str
    weight : Tensor
        A computed weight is represented by the largest parameter that it is computed from.
    owners : dict of nn.Module
        By name: the layer that owns the weight, then the modules around it.
    computed : bool
        Whether the weight is not a parameter itself, but computed from parameters.
    source : bool
        Whether a weight is computed from this parameter. No pattern selects such a parameter.
    """

    name: str
    weight: Tensor
    owners: dict[str, nn.Module]
    computed: bool = False
    source: bool = False

    @property
    def layer(self) -> nn.Module:
        """The layer that owns the weight."""
        return next(iter(self.owners.values()))

    @property
    def local(self) -> str:
        """Name of the weight in its layer."""
        return self.name.rpartition(".")[2]

    @property
    def key(self) -> tuple[int, str]:
        """A key of the place. A layer that is registered twice has two names, but one key."""
        return id(self.layer), self.local

    @property
    def group(self) -> object:
        """A key of the weight, the same for all its places."""
        return self.key if self.computed else id(self.weight)

    def is_named(self, name: Layer) -> bool:
        """Whether this is the exact name of the weight or of its layer."""
        return name in (self.name, next(iter(self.owners)))

    def matches(self, pattern: Layer) -> bool:
        """Whether a name, pattern or type matches the weight, its layer or a module around it."""
        if pattern == self.name:
            return not self.source
        if not self.is_weight:
            return False
        if isinstance(pattern, type):
            return any(isinstance(module, pattern) for module in self.owners.values())
        return any(name and fnmatchcase(name, pattern) for name in (self.name, *self.owners))

    @property
    def is_weight(self) -> bool:
        """Whether this is neither a bias nor the source of a computed weight."""
        return not self.source and not self.local.startswith("bias")

    @property
    def by_default(self) -> bool:
        """Whether the weight is pruned if no layers are named."""
        return self.is_weight and isinstance(self.layer, PRUNABLE_TYPES)


def prunable_weights(
    model: nn.Module, layers: Sequence[Layer] | None = None, exclude: Sequence[Layer] = ()
) -> dict[str, nn.Parameter]:
    """Find the weights to prune.

    Any floating-point parameter with two or more dimensions can be pruned. But three kinds of
    weights stay dense even if a pattern, a type or the default selects them: frozen weights,
    computed weights (weight norm, `torch.nn.utils.prune`), and weights that are shared with a layer
    that is not selected. A warning names these weights. It is an error to give the exact name of
    such a weight, or of its layer, in `layers`.

    Parameters
    ----------
    model : nn.Module
        A wrapper is removed, see `cspkit.modules.unwrapped`; the names are those of the model
        inside the wrapper.
    layers : sequence of str or type, optional
        Names of weights, layers or larger modules, patterns such as "encoder.*", or types such as
        `nn.LSTM`. A name, pattern or type of a module selects all weights inside the module.
        Biases are selected only by their own names. The default is the attribute `prunable` of the
        model, if it has one: a list of the same kind. Otherwise it is all weights that belong
        directly to a layer of `PRUNABLE_TYPES`: linear, convolutional, recurrent and attention
        layers. If these are less than nine tenths of the model's parameters, a warning says so.
    exclude : sequence of str or type
        Names, patterns and types, as for `layers`, of the weights that stay dense.

    Returns
    -------
    dict of nn.Parameter
        By name, in the order of `model.named_parameters()`. A shared weight counts once, under its
        first name.

    Raises
    ------
    ArgumentError
        If the model has no shapes or values yet, see `cspkit.modules.check_loaded`; if a name,
        pattern or type in `layers` matches nothing; if a weight that is named exactly is frozen,
        computed, or shared with a layer that is not named; or if nothing is left to prune.
    """
    weights, _, notices = select(model, layers, exclude)
    for notice in notices:
        warnings.warn(notice, stacklevel=2)
    return weights


def select(
    model: nn.Module,
    layers: Iterable[Layer] | None,
    exclude: Iterable[Layer],
    sparsity: object = None,
) -> tuple[dict[str, nn.Parameter], object, list[str]]:
    """Find the weights to prune, their sparsity, and the warnings for the caller.

    Parameters
    ----------
    model, layers, exclude
        See `prunable_weights`.
    sparsity : float or mapping
        A mapping gives a sparsity to each name, pattern or type. It also selects the weights, as
        `layers` does. A float or None is returned unchanged.

    Returns
    -------
    weights : dict of nn.Parameter
        By name.
    sparsity : float or dict of float
        For a mapping, the sparsity of each weight, by name.
    notices : list of str

    Raises
    ------
    ArgumentError
        As for `prunable_weights`; if both `layers` and a mapping are given; or if two patterns give
        different sparsities to a weight.
    """
    check_loaded(model)
    model = unwrapped(model)
    places = list(_places(model))
    by_layer = isinstance(sparsity, Mapping)
    if by_layer and layers is not None:
        raise ArgumentError(
            "layers is given, and sparsity is a dict, which names layers too: expected only one of "
            "these two arguments"
        )
    argument, patterns = _asked_for(model, list(sparsity) if by_layer else layers, by_layer)
    chosen = _chosen(argument, patterns, places)
    excluded = _excluded(model, places, exclude)

    groups: dict[object, list[Place]] = {}
    for place in places:
        groups.setdefault(place.group, []).append(place)
    weights, skipped, left = {}, {}, []
    for shared in (places_of for group, places_of in groups.items() if group not in excluded):
        others = [p for p in shared if p.key not in chosen]
        if len(others) == len(shared):
            left += [p for p in shared[:1] if p.is_weight and not p.computed]
            continue
        why = _obstacle(shared, others)
        if why is None:
            weights[shared[0].name] = shared[0].weight
            continue
        exact = [n for n in patterns or () if any(p.is_named(n) for p in shared)]
        if exact and argument in ("layers", "sparsity"):
            why = _explained(why, shared, others)
            raise ArgumentError(f"{argument} has {exact[0]!r}, but {why}")
        skipped.setdefault(why, []).append((shared, others))
    notices = [_notice(why, found) for why, found in skipped.items()]
    if not weights:
        because = "".join(f"; {notice}" for notice in notices)
        if left and patterns is None:
            because += f"; layers can name {_nameable(left)}"
        raise ArgumentError(f"{type(model).__name__} has no weights that can be pruned{because}")
    if patterns is None:
        without = {id(p.weight) for group in excluded for p in groups[group]}
        total = sum(p.numel() for p in model.parameters() if id(p) not in without)
        notices += _coverage(weights, left, total)
    if by_layer:
        sparsity = {name: _value(sparsity, groups[id(w)]) for name, w in weights.items()}
    return weights, sparsity, notices


def _asked_for(
    model: nn.Module, given: Iterable[Layer] | None, by_layer: bool
) -> tuple[str, list[Layer] | None]:
    """Return the name of the argument that selects weights, and its patterns or None."""
    argument = "sparsity" if by_layer else "layers"
    prunable = getattr(model, "prunable", None)
    if given is None and prunable is not None:
        argument, given = f"prunable of {type(model).__name__}", prunable
    return argument, None if given is None else _patterns(argument, given)


def _chosen(
    argument: str, patterns: list[Layer] | None, places: list[Place]
) -> set[tuple[int, str]]:
    """Keys of the places that are selected."""
    if patterns is None:
        return {p.key for p in places if p.by_default}
    for pattern in patterns:
        if not any(p.matches(pattern) for p in places):
            names = _nameable(places)
            raise ArgumentError(f"{argument} has {pattern!r}: expected one of {names}")
    return {p.key for p in places for pattern in patterns if p.matches(pattern)}


def _places(model: nn.Module) -> Iterator[Place]:
    modules = dict(model.named_modules(remove_duplicate=False))
    for prefix, module in modules.items():
        around = [prefix]
        while around[-1]:
            around.append(around[-1].rpartition(".")[0])
        owners = {name: modules[name] for name in around}
        computed = {}
        if is_parametrized(module):
            for local, sources in module.parametrizations.items():
                originals = list(sources.parameters(recurse=False))
                if originals:  # empty if the computed tensor is a buffer
                    computed[local] = max(originals, key=Tensor.numel)
        own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
        inside = any(isinstance(owner, ParametrizationList) for owner in owners.values())
        for local, weight in own.items():
            stem = next((local.removesuffix(s) for s in SOURCES if local.endswith(s)), None)
            is_source = isinstance(vars(module).get(stem), Tensor)
            if is_source:
                computed[stem] = max(computed.get(stem, weight), weight, key=Tensor.numel)
            if weight.is_floating_point() and weight.dim() >= 2:
                name = f"{prefix}.{local}".lstrip(".")
                yield Place(name, weight, owners, source=inside or is_source)
        for local, weight in computed.items():
            if weight.dim() >= 2 and not inside:
                yield Place(f"{prefix}.{local}".lstrip("."), weight, owners, computed=True)


def _patterns(argument: str, given: Iterable[Layer], empty: bool = False) -> list[Layer]:
    if isinstance(given, Mapping):
        raise ArgumentError(
            f"{argument} is {given!r}: expected a list of names, patterns or types; to give each "
            "layer its own sparsity, use sparsity={...}"
        )
    if isinstance(given, str | type) or not isinstance(given, Iterable):
        raise ArgumentError(f"{argument} is {given!r}: expected a list of names, patterns or types")
    patterns = list(given)
    for pattern in patterns:
        if not isinstance(pattern, str | type):
            raise ArgumentError(f"{argument} has {pattern!r}: expected names or types of layers")
    if not patterns and not empty:
        raise ArgumentError(f"{argument} is empty: expected names, patterns or types of layers")
    return patterns


def _excluded(model: nn.Module, places: list[Place], exclude: Iterable[Layer]) -> set[object]:
    """Groups of the weights that stay dense because the caller excludes them."""
    excluded = set()
    known = [n for n, _ in model.named_parameters()] + [n for n, _ in model.named_modules()]
    for pattern in _patterns("exclude", exclude, empty=True):
        matched = {p.group for p in places if p.matches(pattern)}
        typo = isinstance(pattern, str) and not any(fnmatchcase(n, pattern) for n in known if n)
        if typo and not matched:
            raise ArgumentError(f"exclude has {pattern!r}: expected one of {_nameable(places)}")
        excluded |= matched
    return excluded


def _obstacle(shared: list[Place], others: list[Place]) -> str | None:
    """Return why a selected weight cannot be pruned, or None if it can."""
    if shared[0].computed:
        return COMPUTED
    if not shared[0].weight.requires_grad:
        return FROZEN
    return TIED if others else None


def _explained(why: str, shared: list[Place], others: list[Place]) -> str:
    name = next(p.name for p in shared if p not in others)
    if why != TIED:
        return f"{name!r} is {why}: {TO_DO[why]}"
    also, to_do = others[0], "leave it out"
    if not any(p.source for p in others):
        to_do = f"name all layers that share it, {[p.name for p in shared]}, or none"
    kind = type(also.layer).__name__
    return f"{name!r} is also {also.name!r} ({kind}), which is not pruned: {to_do}"


def _notice(why: str, found: list[tuple[list[Place], list[Place]]]) -> str:
    if len(found) == 1:
        return f"a weight stays dense: {_explained(why, *found[0])}"
    names = _listed([repr(shared[0].name) for shared, _ in found])
    return f"{len(found)} weights stay dense, since each is {why}: {names}; {TO_DO[why]}"


def _coverage(weights: dict[str, nn.Parameter], left: list[Place], total: int) -> list[str]:
    n = sum(w.numel() for w in weights.values())
    if not left or n >= COVERED * total:
        return []
    left = sorted(left, key=lambda p: -p.weight.numel())
    dense = _listed(
        [f"{p.name!r} ({type(p.layer).__name__}, {p.weight.numel():,})" for p in left], 3
    )
    return [
        f"the weights to prune are {n:,} of the model's {total:,} parameters; these stay dense: "
        f"{dense}. To prune them too, use layers=[*prunable_weights(model), {left[0].name!r}]; to "
        "keep them dense without this warning, name them in exclude"
    ]


def _value(sparsity: Mapping[Layer, float], shared: list[Place]) -> float:
    found = {key: s for key, s in sparsity.items() if any(p.matches(key) for p in shared)}
    (first, value), *more = found.items()
    for key, other in more:
        if other != value:
            raise ArgumentError(
                f"sparsity has {first!r}: {value!r} and {key!r}: {other!r}, and both match "
                f"{shared[0].name!r}: expected one sparsity for each weight"
            )
    return value


def _nameable(places: list[Place]) -> str:
    return _listed(list(dict.fromkeys(p.name for p in places if not p.source)))


def _listed(names: list[str], most: int = LISTED) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
