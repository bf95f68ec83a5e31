"""Training of consistency models: one, or a whole population of replicas in one program (Algorithm 1).

A replica is a seed with a discretisation, a weight and a learning rate. Replicas of a seed share initial weights, data,
noise and uniforms, so that methods are compared on the same draws; a replica computes what it would compute alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from replication.adcm.discretization import Discretization, Grid, constant_local, log_normal_times
from replication.adcm.loss import WEIGHTS, TargetError, Weight, huber_constant, loss_weight, pseudo_huber, target_error
from replication.adcm.schedules import P_MEAN, P_STD, Model, Network, Schedule, over
from replication.adcm.segmentation import segment_population
from replication.checks import one_of, positive, within
from replication.training import Optimizer, RAdam, stream_seed, track
from replication.training.replicas import Replicas, gradients, stack

Objective = Literal["consistency", "denoising", "tangent"]

BLOCK = 32
"""Steps whose data, noise and uniforms are drawn at once."""


@dataclass(frozen=True)
class Adaptive:
    """The paper's grid, made anew from the model every ``segment_every`` steps (Algorithm 1).

    Parameters
    ----------
    lam : float
        The paper's lambda, the weight of global against local consistency.
    """

    lam: float = 0.01


@dataclass(frozen=True)
class ConstantLocal:
    """The stand-in for CCM (`constant_local`), made anew like the adaptive grid.

    Parameters
    ----------
    segments : int
        Number of segments.
    """

    segments: int


@dataclass(frozen=True)
class Replica:
    """What one replica is trained on.

    Parameters
    ----------
    seed : int
        Fixes initial weights, data, noise and uniforms.
    lr : float
        Learning rate.
    discretization : Discretization, Adaptive or ConstantLocal, optional
        Pairs of times; needed for the consistency objective, and only there.
    weight : str
        Weight of the consistency loss, as `loss_weight` takes it.
    c : float, optional
        Constant of the pseudo-Huber distance; default: 0.00054 sqrt(d). 0 is the Euclidean distance; a constant far
        above every distance makes it the squared one, up to a factor that RAdam does not see.
    weight_c : float, optional
        Constant of the distance inside the weight; default: c, as the paper has it.
    """

    seed: int
    lr: float
    discretization: Discretization | Adaptive | ConstantLocal | None = None
    weight: Weight = "w_t"
    c: float | None = None
    weight_c: float | None = None


@dataclass
class Segmented:
    """One segmentation of a training run.

    Parameters
    ----------
    step, replica, segments : int
        When, for which replica, and how many segments the grid has.
    counts : dict of str to int
        How often each safeguard acted.
    seconds : float
        CPU time that it took; replicas that are segmented together share it evenly.
    """

    step: int
    replica: int
    segments: int
    counts: dict[str, int]
    seconds: float


@dataclass
class _Block:
    """Draws of the steps from `begin` on, shapes (L, seeds, B, …)."""

    begin: int
    x0: Tensor
    z: Tensor
    u: Tensor


@dataclass
class _Times:
    """Pairs and weights of the steps from `begin` to before `end`, shapes (L, R, B)."""

    begin: int = 0
    end: int = 0
    t: Tensor = field(default_factory=lambda: torch.empty(0))
    r: Tensor = field(default_factory=lambda: torch.empty(0))
    weight: Tensor = field(default_factory=lambda: torch.empty(0))


class ConsistencyTrainer(Replicas):
    """R replicas of one network, trained by one objective up to a budget of images.

    Parameters
    ----------
    build : callable() -> Module
        Builds the network F(c_in x, c_noise); called once per distinct seed, under that seed. A module with a method
        ``stacked(parameters, x, c)`` runs all replicas by it (see `TimeMLP`); any other runs plainly where there is
        one replica, and mapped by ``vmap`` where there are several.
    replicas : sequence of Replica
        What to train.
    schedule : Schedule
        Noise schedule.
    sample : callable(generator, n) -> Tensor
        Draws n examples, shape `(n, *event)`, by the given CPU generator and nothing else.
    batch_size : int
        Examples of a step and replica.
    objective : {"consistency", "denoising", "tangent"}
        Eq. 2 on pairs of times; Eq. 1, the pre-training of the denoiser, with weight 1 / c_out^2; or the continuous
        limit of Eq. 3 with sCM's normalised tangent, g / (||g|| + 0.1) (Lu and Song 2025), without its learned weight
        and its warm-up.
    segment_every : int, optional
        The paper's m: steps between two segmentations, which also refresh the weight w(t). Default: at the start only.
    nodes, segment_batch : int
        Times at which the step (and w(t)) is estimated, and examples of each estimate.
    optimizer : Optimizer
        Update rule; the paper's is RAdam.
    ema : float
        Decay of the exponential moving average of the weights, at step k at most (1 + k) / (10 + k).
    start : dict of str to Tensor, shape (R, …), optional
        Weights to start from, for example a pre-trained `ema`; default: fresh ones.
    p_mean, p_std : float
        Distribution of ln tau in the objectives that draw single times, and on the adaptive grids.
    device : str or torch.device
        Where the population lives.

    Attributes
    ----------
    parameters : dict of str to Tensor, shape (R, …)
        Stacked weights.
    ema : dict of str to Tensor, shape (R, …)
        Their moving averages.
    step : int
        Steps done.
    segmentations : list of Segmented
        Every segmentation made.
    seconds : dict of str to float
        CPU time of training steps (``"training"``) and of the refreshes of w(t) (``"weight"``), of all replicas
        together. That of segmentations stands with each of them.

    Raises
    ------
    ValueError
        There is no replica, a size or rate is not positive, a discretisation is missing or superfluous, or the network
        couples the examples of a batch or draws random numbers.

    Examples
    --------
    >>> from replication.adcm.discretization import ECM
    >>> from replication.adcm.networks import TimeMLP
    >>> from replication.adcm.schedules import VE
    >>> ve = VE(t_max=5.0)
    >>> replicas = [Replica(0, 1e-3, Adaptive(0.3)), Replica(0, 1e-3, ECM(ve), "inverse_step")]
    >>> trainer = ConsistencyTrainer(
    ...     lambda: TimeMLP(2, width=8), replicas, ve, lambda g, n: torch.randn(n, 2, generator=g), batch_size=16
    ... )
    >>> trainer.fit(images=160)
    >>> trainer.step, trainer.images, trainer.model()(torch.zeros(2, 5, 2), torch.ones(2, 5)).shape
    (10, 160, torch.Size([2, 5, 2]))
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        replicas: Sequence[Replica],
        schedule: Schedule,
        sample: Callable[[torch.Generator, int], Tensor],
        *,
        batch_size: int,
        objective: Objective = "consistency",
        segment_every: int | None = None,
        nodes: int = 64,
        segment_batch: int = 1024,
        optimizer: Optimizer | None = None,
        ema: float = 0.9999,
        start: dict[str, Tensor] | None = None,
        p_mean: float = P_MEAN,
        p_std: float = P_STD,
        device: str | torch.device = "cpu",
    ) -> None:
        if not replicas:
            raise ValueError("replicas: need at least one, got an empty sequence")
        if min(batch_size, nodes, segment_batch) < 1 or (segment_every is not None and segment_every < 1):
            raise ValueError(
                "batch_size, segment_every, nodes and segment_batch: need at least 1 each, got "
                f"{batch_size}, {segment_every}, {nodes}, {segment_batch}"
            )
        one_of("objective", objective, get_args(Objective))
        within("ema", ema, "[0, 1)")
        for index, replica in enumerate(replicas):
            if (replica.discretization is None) == (objective == "consistency"):
                needs = "needs one" if objective == "consistency" else "takes none"
                raise ValueError(f"discretization of replica {index}: the objective {objective!r} {needs}")
            positive(f"lr of replica {index}", replica.lr)
            one_of(f"weight of replica {index}", replica.weight, WEIGHTS)
        self.replicas = tuple(replicas)
        self.schedule = schedule
        self.batch_size = batch_size
        self._sample, self._objective, self._segment_every = sample, objective, segment_every
        self._nodes, self._segment_batch = nodes, segment_batch
        self._decay, self._p_mean, self._p_std = ema, p_mean, p_std
        self._device = torch.device(device)

        skeleton, fresh, _ = stack(build, [one.seed for one in replicas], self._device)
        self._skeleton = skeleton.eval()
        if start is not None:
            fresh = {name: p.to(self._device) for name, p in _like(start, fresh).items()}
        super().__init__(fresh, RAdam() if optimizer is None else optimizer)
        self._averages = {part: p.clone() for part, p in self._flat.items()}
        self.ema = self._views(self._averages)
        self._lr = torch.tensor([one.lr for one in replicas], device=self._device)

        seeds = list(dict.fromkeys(one.seed for one in replicas))
        self._seeds = seeds
        self._seed_of = torch.tensor([seeds.index(one.seed) for one in replicas])
        dimension = self._sample(torch.Generator().manual_seed(0), 1)[0].numel()
        self._c = [huber_constant(dimension) if one.c is None else one.c for one in replicas]
        self._weight_c = [c if one.weight_c is None else one.weight_c for one, c in zip(replicas, self._c, strict=True)]
        self._distances = self._groups(self._c, range(len(replicas)))
        per_sample = [i for i, one in enumerate(replicas) if one.weight == "per_sample"]
        self._per_sample = self._groups(self._weight_c, per_sample)

        self.segmentations: list[Segmented] = []
        self.seconds = {"training": 0.0, "weight": 0.0}
        self._segmented_at = -1
        self._grids: dict[int, Grid] = {}
        self._errors: dict[int, TargetError] = {}
        self._block: _Block | None = None
        self._times = _Times()

    @property
    def step(self) -> int:
        """Steps done."""
        return self.steps

    @property
    def images(self) -> int:
        """Examples that each replica has been trained on."""
        return self.step * self.batch_size

    def grid(self, replica: int) -> Grid:
        """The grid that an adaptive replica is trained on now.

        Raises
        ------
        ValueError
            The replica has none: its discretisation is not adaptive, or no step was made yet.
        """
        if replica not in self._grids:
            raise ValueError(f"replica: {replica} has no adaptive grid, only {sorted(self._grids)} have")
        return self._grids[replica]

    def model(self, replica: int | None = None, *, ema: bool = True) -> Model:
        """The trained model f(x, t).

        Parameters
        ----------
        replica : int, optional
            Which replica; x and t then have shapes `(n, *event)` and (n,). Default: all at once, shapes
            `(R, n, *event)` and (R, n).
        ema : bool
            With the averaged weights, not the last ones.
        """
        parameters = self.ema if ema else self.parameters
        if replica is None:
            return self._model(parameters)
        whole = self._model({name: p[replica : replica + 1] for name, p in parameters.items()})
        return lambda x, t: whole(x[None], t[None])[0]

    def fit(self, images: int, *, checkpoint: Path | None = None, every: int | None = None) -> None:
        """Train until each replica has seen a number of images in all.

        Parameters
        ----------
        images : int
            The budget, from the first step on; what is left after the last whole batch is not used.
        checkpoint : Path, optional
            Where to save the state every ``every`` steps and at the end.
        every : int, optional
            Steps between two checkpoints; default: at the end only.
        """
        for _ in track(range(self.step, images // self.batch_size), self._objective):
            self._train_step()
            if checkpoint is not None and every is not None and self.step % every == 0:
                self.checkpoint(checkpoint)
        if checkpoint is not None:
            self.checkpoint(checkpoint)

    # --- one step ----------------------------------------------------------------------------------------------------

    def _train_step(self) -> None:
        m = self._segment_every
        due = self.step == 0 if m is None else self.step % m == 0
        if self._objective == "consistency" and due and self._segmented_at != self.step:
            self._refresh()
        begin = time.process_time()
        x0, z = self._batch()
        t, r, weight = (part[self.step - self._times.begin] for part in self._pairs())
        losses = getattr(self, f"_{self._objective}")
        found, _ = gradients(lambda leaves: losses(leaves, x0, z, t, r, weight).mean(-1), self.parameters)
        self._descend(self._flatten(found), self._lr)
        decay = min(self._decay, self.step / (9 + self.step))
        for part, p in self._flat.items():
            self._averages[part].lerp_(p, 1 - decay)
        self.seconds["training"] += time.process_time() - begin

    def _consistency(
        self, parameters: dict[str, Tensor], x0: Tensor, z: Tensor, t: Tensor, r: Tensor, weight: Tensor
    ) -> Tensor:
        with torch.no_grad():
            target = self._model(self.parameters)(self.schedule.perturb(x0, z, r), r)
            for c, rows in self._per_sample:
                own = loss_weight("per_sample", t=t[rows], r=r[rows], target=target[rows], x0=x0[rows], c=c)
                weight = weight.index_copy(0, rows, own)
        student = self._model(parameters)(self.schedule.perturb(x0, z, t), t)
        if len(self._distances) == 1:
            return weight * pseudo_huber(student, target, self._distances[0][0], batch_dims=2)
        distance = torch.zeros_like(weight)
        for c, rows in self._distances:
            distance = distance.index_copy(0, rows, pseudo_huber(student[rows], target[rows], c, batch_dims=2))
        return weight * distance

    def _denoising(
        self, parameters: dict[str, Tensor], x0: Tensor, z: Tensor, t: Tensor, r: Tensor, weight: Tensor
    ) -> Tensor:
        del r, weight
        error = self._model(parameters)(self.schedule.perturb(x0, z, t), t) - x0
        # Eq. 1 with w = 1 / c_out^2: the network's own squared error, of the same size at every noise level
        return (error / over(self.schedule.c_out(t), x0)).square().flatten(2).mean(-1)

    def _tangent(
        self, parameters: dict[str, Tensor], x0: Tensor, z: Tensor, t: Tensor, r: Tensor, weight: Tensor
    ) -> Tensor:
        del r, weight
        schedule, x = self.schedule, self.schedule.perturb(x0, z, t)
        with torch.no_grad():
            v = jvp(self._model(self.parameters), (x, t), (schedule.velocity(x0, z, t), torch.ones_like(t)))[1]
            # sCM's g = cos(s) df/ds with tan(s) = tau / sigma_d, in the schedule's own time; c_out > 0 turns its sign
            sigma_data = getattr(schedule, "sigma_data", 0.5)
            scale = (schedule.ratio(t) ** 2 + sigma_data**2).sqrt() / schedule.ratio_dot(t)
            g = -over(scale, v) * v
            norm = torch.linalg.vector_norm(g.flatten(2), dim=-1)
            step = g / (over(norm, g) + 0.1)
        output = self._network(parameters)(over(schedule.c_in(t), x) * x, schedule.c_noise(t))
        loss: Tensor = (output - output.detach() - step).square().flatten(2).mean(-1)
        return loss

    # --- draws -------------------------------------------------------------------------------------------------------

    def _generator(self, seed: int, stream: str) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(seed, stream))

    def _draws(self) -> _Block:
        """The block of draws that holds the present step."""
        number = self.step // BLOCK
        if self._block is None or self._block.begin != number * BLOCK:
            drawn = []
            for seed in self._seeds:
                generator = self._generator(seed, f"block {number}")
                x0 = self._sample(generator, BLOCK * self.batch_size)
                z = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
                # never exactly 0: every pair then has t > r
                u = torch.rand(len(x0), generator=generator, dtype=torch.float64) + 2**-54
                drawn.append(
                    [part.reshape(BLOCK, self.batch_size, *part.shape[1:]).to(self._device) for part in (x0, z, u)]
                )
            self._block = _Block(number * BLOCK, *(torch.stack(part, 1) for part in zip(*drawn, strict=True)))
        return self._block

    def _batch(self) -> tuple[Tensor, Tensor]:
        block = self._draws()
        offset = self.step - block.begin
        return block.x0[offset][self._seed_of], block.z[offset][self._seed_of]

    def _pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs and weights from the present step on, as far ahead as nothing changes."""
        if not self._times.begin <= self.step < self._times.end:
            block = self._draws()
            if self._objective != "consistency":
                t = log_normal_times(block.u, self.schedule, self._p_mean, self._p_std)[:, self._seed_of].float()
                self._times = _Times(block.begin, block.begin + BLOCK, t, t, t)
                return t, t, t
            rules = [self._rule(i) for i in range(len(self))]
            m = self._segment_every
            ends = [block.begin + BLOCK, *(rule.until(self.step) for rule in rules)]
            end = min(ends if m is None else [*ends, (self.step // m + 1) * m])
            u = block.u[self.step - block.begin : end - block.begin]
            parts = [self._weighted(i, rule, u[:, self._seed_of[i]]) for i, rule in enumerate(rules)]
            t, r, weight = (torch.stack(part, 1).to(block.x0.dtype) for part in zip(*parts, strict=True))
            self._times = _Times(self.step, end, t, r, weight)
        return self._times.t, self._times.r, self._times.weight

    def _rule(self, replica: int) -> Discretization:
        rule = self.replicas[replica].discretization
        return self._grids[replica] if rule is None or isinstance(rule, Adaptive | ConstantLocal) else rule

    def _weighted(self, replica: int, rule: Discretization, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t, r = rule.pairs(u, self.step)
        kind = self.replicas[replica].weight
        if kind == "per_sample":  # known only once the target is
            return t, r, torch.ones_like(t)
        if kind == "w_t":
            return t, r, loss_weight(kind, t=t, r=r, error=self._errors[replica])
        ends = (t, r) if rule.naive else (self.schedule.ratio(t), self.schedule.ratio(r))
        return t, r, loss_weight(kind, t=ends[0], r=ends[1])

    # --- segmentation ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _refresh(self) -> None:
        """Make the grids and weights w(t) that depend on the model anew, from its present weights (theta^-)."""
        self._segmented_at = self.step
        self._times = _Times()
        # a replica that has diverged keeps what it has; its score says what became of it
        alive = torch.stack([p.flatten(1).isfinite().all(1) for p in self.parameters.values()]).all(0).tolist()
        rules = [one.discretization if alive[i] else None for i, one in enumerate(self.replicas)]
        for rule in dict.fromkeys(rule for rule in rules if isinstance(rule, Adaptive | ConstantLocal)):
            rows = [i for i, other in enumerate(rules) if other == rule]
            begin = time.process_time()
            grids, counts = self._segment(rule, rows)
            seconds = (time.process_time() - begin) / len(rows)
            for i, grid, count in zip(rows, grids, counts, strict=True):
                self._grids[i] = Grid(grid, self.schedule, self._p_mean, self._p_std)
                self.segmentations.append(Segmented(self.step, i, len(self._grids[i]), count, seconds))
        begin = time.process_time()
        weighted = [i for i, one in enumerate(self.replicas) if one.weight == "w_t" and rules[i] is not None]
        for c, group in self._groups(self._weight_c, weighted):
            rows = group.tolist()
            sample, noise = self._streams(rows, f"weight {self.step}")
            errors = target_error(
                self._of(rows),
                sample,
                self.schedule,
                self._log_nodes(),
                c,
                batch_size=self._segment_batch,
                noise=noise,
                batch_dims=2,
            )
            self._errors |= {
                i: TargetError(self.schedule, errors.times, values)
                for i, values in zip(rows, errors.values, strict=True)
            }
        self.seconds["weight"] += time.process_time() - begin

    def _segment(
        self, rule: Adaptive | ConstantLocal, rows: Sequence[int]
    ) -> tuple[Sequence[Tensor], Sequence[dict[str, int]]]:
        """Grids of these replicas, and how often each safeguard acted."""
        sample, noise = self._streams(rows, f"segment {self.step}")
        if isinstance(rule, ConstantLocal):
            times = constant_local(
                self._of(rows),
                sample,
                self.schedule,
                rule.segments,
                nodes=self._nodes,
                batch_size=self._segment_batch,
                noise=noise,
                batch_dims=2,
            )
            return list(times), [{} for _ in rows]
        made = segment_population(
            self._of(rows),
            sample,
            self.schedule,
            rule.lam,
            nodes=self._nodes,
            batch_size=self._segment_batch,
            noise=noise,
        )
        return [one.times for one in made], [one.counts for one in made]

    def _of(self, rows: Sequence[int]) -> Model:
        """The present model of some replicas."""
        return self._model({name: p[list(rows)] for name, p in self.parameters.items()})

    def _streams(self, rows: Sequence[int], stream: str) -> tuple[Callable[[int], Tensor], Callable[[Tensor], Tensor]]:
        """Data and noise of some replicas, each from its own seed's generator."""
        generators = {self.replicas[i].seed: self._generator(self.replicas[i].seed, stream) for i in rows}
        seeds = list(generators)
        of = torch.tensor([seeds.index(self.replicas[i].seed) for i in rows])

        def draw(one: Callable[[torch.Generator], Tensor]) -> Tensor:
            return torch.stack([one(generator) for generator in generators.values()])[of].to(self._device)

        def noise(x0: Tensor) -> Tensor:
            return draw(lambda generator: torch.randn(x0.shape[1:], generator=generator, dtype=x0.dtype))

        return lambda n: draw(lambda generator: self._sample(generator, n)), noise

    def _log_nodes(self) -> Tensor:
        ends = torch.tensor([self.schedule.t_min, self.schedule.t_max], dtype=torch.float64)
        low, high = self.schedule.ratio(ends).log().tolist()
        return self.schedule.time(torch.linspace(low, high, self._nodes, dtype=torch.float64).exp())

    # --- the network -------------------------------------------------------------------------------------------------

    def _network(self, parameters: dict[str, Tensor]) -> Network:
        network = self._skeleton
        if (stacked := getattr(network, "stacked", None)) is not None:
            return lambda x, c: stacked(parameters, x, c)
        if len(next(iter(parameters.values()))) == 1:
            alone = {name: p[0] for name, p in parameters.items()}
            return lambda x, c: functional_call(network, alone, (x[0], c[0]))[None]
        mapped = vmap(lambda p, x, c: functional_call(network, p, (x, c)))
        return lambda x, c: mapped(parameters, x, c)

    def _model(self, parameters: dict[str, Tensor]) -> Model:
        network = self._network(parameters)
        return lambda x, t: self.schedule.denoise(network, x, t)

    # --- state -------------------------------------------------------------------------------------------------------

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        return super()._parts() | {"ema": self.ema}

    def _settings(self) -> dict[str, Any]:
        return {
            "objective": self._objective,
            "schedule": repr(self.schedule),
            "replicas": [
                [one.seed, one.lr, repr(one.discretization), one.weight, c, weight_c]
                for one, c, weight_c in zip(self.replicas, self._c, self._weight_c, strict=True)
            ],
            "batch_size": self.batch_size,
            "segment_every": self._segment_every,
            "nodes": self._nodes,
            "segment_batch": self._segment_batch,
            "ema": self._decay,
            "ln tau": [self._p_mean, self._p_std],
        }

    def _more(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        # there is no generator to save: the draws of a step are a function of the seed and the step
        tensors = {f"grid/{i}": grid.times for i, grid in self._grids.items()}
        tensors |= {f"error/{i}": error.values for i, error in self._errors.items()}
        return tensors, {
            "segmented_at": self._segmented_at,
            "segmentations": [dataclasses.asdict(one) for one in self.segmentations],
            "seconds": self.seconds,
        }

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        rows = range(len(self))
        self._grids = {
            i: Grid(tensors[f"grid/{i}"].cpu(), self.schedule, self._p_mean, self._p_std)
            for i in rows
            if f"grid/{i}" in tensors
        }
        nodes = self._log_nodes().to(self._device)
        self._errors = {
            i: TargetError(self.schedule, nodes, tensors[f"error/{i}"]) for i in rows if f"error/{i}" in tensors
        }
        self._segmented_at, self.seconds = state["segmented_at"], state["seconds"]
        self.segmentations = [Segmented(**one) for one in state["segmentations"]]
        self._times = _Times()

    def _groups(self, constants: Sequence[float], rows: Sequence[int]) -> list[tuple[float, Tensor]]:
        """Rows by their constant."""
        distinct = dict.fromkeys(constants[i] for i in rows)
        return [(c, torch.tensor([i for i in rows if constants[i] == c], device=self._device)) for c in distinct]


def _like(start: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights to start from, in the network's order.

    Raises
    ------
    ValueError
        A name or a shape differs from the network's.
    """
    shapes = {name: tuple(p.shape) for name, p in fresh.items()}
    got = {name: tuple(p.shape) for name, p in start.items()}
    if got.keys() != shapes.keys():
        raise ValueError(f"start: must hold {', '.join(shapes)}; got {', '.join(got)}")
    for name, shape in shapes.items():
        if got[name] != shape:
            raise ValueError(f"start: {name} must have shape {shape}, one a replica; got {got[name]}")
    return {name: start[name].detach() for name in shapes}
