"""Training of consistency models: one, or a whole population of replicas in one program (Algorithm 1).

A replica is a seed with a discretisation, a weight and a learning rate. Replicas of a seed share initial weights, data,
noise, uniforms and dropout masks, so that methods are compared on the same draws; a replica computes what it would
compute alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from replication.adcm.discretization import Grid, log_normal_times
from replication.adcm.draws import Draw, Draws
from replication.adcm.ensemble import Ensemble
from replication.adcm.loss import WEIGHTS, Weight, huber_constant
from replication.adcm.models import parted
from replication.adcm.objectives import consistency_loss, denoising_loss, tangent_loss
from replication.adcm.pairs import Pairs, Rule, Segmented, grouped
from replication.adcm.schedules import P_MEAN, P_STD, Model, Schedule
from replication.adcm.segmentation import Derivative
from replication.checks import finite, one_of, positive, whole, within
from replication.training import Optimizer, RAdam, track
from replication.training.replicas import Replicas, gradients

Objective = Literal["consistency", "denoising", "tangent"]


@dataclass(frozen=True)
class Replica:
    """What one replica is trained on.

    Parameters
    ----------
    seed : int
        Fixes initial weights, data, noise, uniforms and dropout masks.
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
    discretization: Rule | None = None
    weight: Weight = "w_t"
    c: float | None = None
    weight_c: float | None = None


class ConsistencyTrainer(Replicas):
    """R replicas of one network, trained by one objective up to a budget of images.

    Parameters
    ----------
    build : callable() -> Module
        Builds the network F(c_in x, c_noise), or an `EDMModel`; called once per distinct seed, under that seed. In
        training it stays in the mode in which it is built: dropout masks are those of the seed and the step, the same
        for student and target. Elsewhere it is in evaluation mode. See `Ensemble` for how replicas run.
    replicas : sequence of Replica
        What to train.
    schedule : Schedule
        Noise schedule.
    sample : callable(generator, n) -> Tensor or (Tensor, mapping)
        Draws n examples, shape `(n, *event)`, by the given CPU generator and nothing else; with a mapping, its tensors
        of n rows are further arguments of the network, such as class labels.
    batch_size : int
        Examples of a step and replica.
    objective : {"consistency", "denoising", "tangent"}
        Eq. 2 on pairs of times; Eq. 1, the pre-training of the denoiser; or the continuous limit of Eq. 3 with sCM's
        normalised tangent (`replication.adcm.objectives`).
    segment_every : int, optional
        The paper's m: steps between two segmentations, which also refresh the weight w(t). Default: at the start only.
    nodes, weight_batch : int
        Times at which w(t) is estimated, and examples of each estimate. How a grid is estimated, its discretisation
        says.
    optimizer : Optimizer
        Update rule; the paper's is RAdam.
    ema : float
        Decay of the exponential moving average of the weights, at step k at most (1 + k) / (10 + k).
    start : dict of str to Tensor, shape (R, …), optional
        Weights to start from, for example a pre-trained `ema`; default: fresh ones.
    p_mean, p_std : float
        Distribution of ln tau in the objectives that draw single times, and on the adaptive grids.
    autocast : torch.dtype, optional
        Precision of the network in training, ``torch.bfloat16``. Weights, losses, grids and w(t) stay in full
        precision. float16 is refused, since its gradients would need a scale.
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
        There is no replica, a size or rate is not positive, a discretisation is missing or superfluous, ``start`` does
        not fit or is not finite, data are sparse or not finite, or the network holds batch norm, casts itself to
        float16, or is an `EDMModel` on another schedule than `VE`.

    Examples
    --------
    >>> from replication.adcm import ECM, VE, Adaptive, TimeMLP
    >>> ve, rule = VE(t_max=5.0), Adaptive(0.3, nodes=16, batch_size=64)
    >>> replicas = [Replica(0, 1e-3, rule), Replica(0, 1e-3, ECM(ve), "inverse_step")]
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
        sample: Draw,
        *,
        batch_size: int,
        objective: Objective = "consistency",
        segment_every: int | None = None,
        nodes: int = 64,
        weight_batch: int = 1024,
        optimizer: Optimizer | None = None,
        ema: float = 0.9999,
        start: dict[str, Tensor] | None = None,
        p_mean: float = P_MEAN,
        p_std: float = P_STD,
        autocast: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        _check(replicas, objective)
        sizes = {"batch_size": batch_size, "segment_every": segment_every, "weight_batch": weight_batch}
        for name, size in sizes.items():
            if size is not None:
                whole(name, size)
        whole("nodes", nodes, 2)
        within("ema", ema, "[0, 1)")
        finite("p_mean", p_mean)
        positive("p_std", p_std)
        if autocast not in (None, torch.bfloat16):
            raise ValueError(f"autocast: must be torch.bfloat16 or None, got {autocast}")
        self.replicas, self.schedule, self.batch_size = tuple(replicas), schedule, batch_size
        seeds = [one.seed for one in replicas]
        self._device = torch.device(device)
        self._ensemble = Ensemble(build, seeds, schedule, self._device, autocast)
        fresh = self._ensemble.fresh
        super().__init__(fresh if start is None else _like(start, fresh), RAdam() if optimizer is None else optimizer)
        self._averages = {part: p.clone() for part, p in self._flat.items()}
        self.ema = self._views(self._averages)
        self._decay, self._lr = ema, torch.tensor([one.lr for one in replicas], device=self._device)
        self._draws = Draws(sample, seeds, batch_size, self._device)
        self._ln_tau = (p_mean, p_std)

        dimension = parted(sample(torch.Generator().manual_seed(0), 1))[0][0].numel()
        c = [huber_constant(dimension) if one.c is None else one.c for one in replicas]
        weight_c = [own if one.weight_c is None else one.weight_c for one, own in zip(replicas, c, strict=True)]
        per_sample = [i for i, one in enumerate(replicas) if one.weight == "per_sample"]
        self._distances, self._per_sample = (
            [(constant, torch.tensor(rows, device=self._device)) for constant, rows in grouped(of, among)]
            for of, among in ((c, range(len(c))), (weight_c, per_sample))
        )
        self._pairs: Pairs | None = None
        if objective == "consistency":
            self._pairs = Pairs(
                [one.discretization for one in replicas if one.discretization is not None],
                [one.weight for one in replicas],
                weight_c,
                schedule,
                self._draws,
                every=segment_every,
                nodes=nodes,
                weight_batch=weight_batch,
                ln_tau=self._ln_tau,
            )
        self._objective: Objective = objective
        self._derivative = Derivative()
        self._training_seconds = 0.0
        self._about = {
            "objective": objective,
            "schedule": repr(schedule),
            "replicas": [
                [one.seed, one.lr, repr(one.discretization), one.weight, *constants]
                for one, *constants in zip(replicas, c, weight_c, strict=True)
            ],
            **sizes,
            "nodes": nodes,
            "ema": ema,
            "ln tau": [p_mean, p_std],
            "autocast": None if autocast is None else str(autocast),
        }

    @property
    def step(self) -> int:
        """Steps done."""
        return self.steps

    @property
    def images(self) -> int:
        """Examples that each replica has been trained on."""
        return self.step * self.batch_size

    @property
    def segmentations(self) -> list[Segmented]:
        """Every segmentation made."""
        return self._pairs.segmentations if self._pairs else []

    @property
    def seconds(self) -> dict[str, float]:
        """CPU time of training steps and of the refreshes of w(t), of all replicas together."""
        return {"training": self._training_seconds, "weight": self._pairs.weight_seconds if self._pairs else 0.0}

    def grid(self, replica: int) -> Grid:
        """The grid that an adaptive replica is trained on now.

        Raises
        ------
        ValueError
            The replica has none: its discretisation is not adaptive, or no step was made yet.
        """
        grids = self._pairs.grids if self._pairs else {}
        if replica not in grids:
            raise ValueError(f"replica: {replica} has no adaptive grid, only {sorted(grids)} have")
        return grids[replica]

    def model(self, replica: int | None = None, *, ema: bool = True) -> Model:
        """The trained model f(x, t, **conditioning), in evaluation mode.

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
            return self._ensemble.model(parameters)
        one = self._ensemble.model({name: p[replica][None] for name, p in parameters.items()}, [replica])
        return lambda x, t, **given: one(x[None], t[None], **{name: c[None] for name, c in given.items()})[0]

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

        Raises
        ------
        ValueError
            ``every`` is not positive, or the draws of ``sample`` are sparse or not finite.
        """
        if every is not None:
            whole("every", every)
        for _ in track(range(self.step, images // self.batch_size), self._objective):
            self._train_step()
            if checkpoint is not None and every is not None and self.step % every == 0:
                self.checkpoint(checkpoint)
        if checkpoint is not None:
            self.checkpoint(checkpoint)

    def _train_step(self) -> None:
        if self._pairs and self._pairs.due(self.step):
            alive = torch.stack([p.flatten(1).isfinite().all(1) for p in self.parameters.values()]).all(0).tolist()
            self._pairs.refresh(self.step, self._present, alive)
        begin = time.process_time()
        idle: set[str] = set()
        found, _ = gradients(lambda leaves: self._losses(leaves).mean(-1), self.parameters, idle)
        with self._resting(idle):
            self._descend(self._flatten(found), self._lr)
        # the warm-up of the average counts the steps, which a checkpoint keeps
        decay = min(self._decay, self.step / (9 + self.step))
        for part, p in self._flat.items():
            self._averages[part].lerp_(p, 1 - decay)
        self._training_seconds += time.process_time() - begin

    def _losses(self, parameters: dict[str, Tensor]) -> Tensor:
        batch = self._draws.batch(self.step)
        model = self._ensemble.model(parameters, step=self.step)
        if self._pairs:
            t, r, weight = (part.to(batch.x0.dtype) for part in self._pairs.at(self.step))
            groups = {"distances": self._distances, "per_sample": self._per_sample}
            return consistency_loss(model, self.schedule, batch, t, r, weight, **groups)
        t = log_normal_times(batch.u, self.schedule, *self._ln_tau).to(batch.x0.dtype)
        if self._objective == "denoising":
            return denoising_loss(model, self.schedule, batch, t)
        frozen = self._ensemble.model(self.parameters)
        return tangent_loss(model, self.schedule, batch, t, frozen=frozen, derivative=self._derivative)

    def _present(self, rows: Sequence[int]) -> Model:
        """The present model of some replicas."""
        return self._ensemble.model({name: p[list(rows)] for name, p in self.parameters.items()}, rows)

    # --- state: there is no generator to keep, every draw is a function of a seed and the step ------------------------

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        return super()._parts() | {"ema": self.ema}

    def _settings(self) -> dict[str, Any]:
        return self._about

    def _more(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        state = {
            "made_at": self._pairs.made_at if self._pairs else -1,
            "segmentations": [dataclasses.asdict(one) for one in self.segmentations],
            "seconds": self.seconds,
        }
        return self._pairs.tensors() if self._pairs else {}, state

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self._training_seconds = state["seconds"]["training"]
        if self._pairs:
            self._pairs.restore(tensors, state["made_at"], state["segmentations"])
            self._pairs.weight_seconds = state["seconds"]["weight"]


def _check(replicas: Sequence[Replica], objective: str) -> None:
    """Refuse replicas that cannot be trained by an objective."""
    if not replicas:
        raise ValueError("replicas: need at least one, got an empty sequence")
    one_of("objective", objective, get_args(Objective))
    for index, replica in enumerate(replicas):
        if (replica.discretization is None) == (objective == "consistency"):
            needs = "needs one" if objective == "consistency" else "takes none"
            raise ValueError(f"discretization of replica {index}: the objective {objective!r} {needs}")
        positive(f"lr of replica {index}", replica.lr)
        one_of(f"weight of replica {index}", replica.weight, WEIGHTS)


def _like(start: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights to start from, in the network's order and type.

    Raises
    ------
    ValueError
        A name or a shape differs from the network's, or a weight is not finite.
    """
    shapes = {name: tuple(p.shape) for name, p in fresh.items()}
    got = {name: tuple(p.shape) for name, p in start.items()}
    if got.keys() != shapes.keys():
        raise ValueError(f"start: must hold {', '.join(shapes)}; got {', '.join(got)}")
    for name, shape in shapes.items():
        if got[name] != shape:
            raise ValueError(f"start: {name} must have shape {shape}, one a replica; got {got[name]}")
        if bad := [replica for replica, p in enumerate(start[name]) if not p.isfinite().all()]:
            raise ValueError(f"start: {name} must be finite, got NaN or infinity in replica {bad[0]}")
    return {name: start[name].detach().to(p) for name, p in fresh.items()}
