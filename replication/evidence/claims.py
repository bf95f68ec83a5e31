"""Claims as data: what a paper says, how it is measured, and the rule that decides it, written before the run.

Every kind of comparison is a model of its own that knows exactly its own parameters; a parameter of another kind, or a
misspelt one, is refused with the claim's id and the field's name.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

Profile = Literal["smoke", "standard", "paper"]
#: The profiles, from the smallest to the largest.
PROFILES: tuple[Profile, ...] = get_args(Profile)

#: A level of a factor column of the records.
Level = str | int | float | bool
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Columns = tuple[str, ...]


class ClaimError(ValueError):
    """A claim is malformed; the message names the claim and the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Where a paper makes a claim, and whether somebody read it there."""

    kind: Literal["section", "table", "figure", "abstract", "derived"]
    where: str
    verified: bool


class BaseClaim(_Strict):
    """What claims of every kind have in common.

    Attributes
    ----------
    id, statement
        A short stable name, and the claim in one sentence.
    notebook
        Stem of the notebook that decides it.
    source
        Where the paper says it.
    quantity, where
        Which records measure it: their ``quantity``, and per column the level or levels they must have.
    unit
        Unit of the measured value, for display.
    scale
        The scale at which the claim is stated.
    profiles
        Profiles whose runs decide it; never one below `scale`.
    min_seeds
        Least number of replicates; with fewer the verdict is ``inconclusive``.
    decision
        The decision rule in plain words.
    paper_value, paper_precision
        The paper's number and half the width of its rounding.
    tolerance, tolerance_reason
        What is allowed on top of the rounding, and why.
    volatile
        The numbers differ from run to run by nature (timings), so no table prints them.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    statement: Annotated[str, Field(min_length=1)]
    notebook: Annotated[str, Field(min_length=1)]
    source: Source
    quantity: Annotated[str, Field(min_length=1)]
    where: dict[str, Level | tuple[Level, ...]] = {}
    unit: str = ""
    scale: Profile
    profiles: tuple[Profile, ...]
    min_seeds: Annotated[int, Field(ge=1)] = 1
    decision: Annotated[str, Field(min_length=1)]
    paper_value: Finite | None = None
    paper_precision: NonNegative = 0.0
    tolerance: NonNegative = 0.0
    tolerance_reason: str = ""
    volatile: bool = False

    @model_validator(mode="after")
    def _check_common(self) -> Self:
        below = [p for p in self.profiles if PROFILES.index(p) < PROFILES.index(self.scale)]
        if below:
            raise _field_error("profiles", f"a claim of scale {self.scale} cannot be decided at {', '.join(below)}")
        if self.tolerance > 0 and not self.tolerance_reason.strip():
            raise _field_error("tolerance_reason", "a tolerance needs its reason")
        return self


class IdentityClaim(BaseClaim):
    """Rows are absolute differences; all must be at most `tolerance`."""

    comparison: Literal["identity"]


class _Located(BaseClaim):
    """Claims about where a value lies.

    Attributes
    ----------
    unit_by
        Columns that tell replicates apart.
    rows
        ``replicates``: independent measurements, judged by the t interval of their mean. ``draws``: draws from the
        distribution of one estimate (bootstrap resamples, Monte Carlo), judged by its 2.5 and 97.5 percentiles.
    """

    unit_by: Columns = ("seed",)
    rows: Literal["replicates", "draws"] = "replicates"


class ValueClaim(_Located):
    """The 95 % interval must lie in ``paper_value ± (paper_precision + tolerance)``.

    Attributes
    ----------
    null
        The value that would mean "no effect": an interval outside the band, but on the paper's side of it, makes the
        claim partly reproduced.
    """

    comparison: Literal["value"]
    paper_value: Finite
    null: Finite | None = None

    @property
    def band(self) -> tuple[float, float]:
        """Lowest and highest value that agree with the paper."""
        half = self.paper_precision + self.tolerance
        return self.paper_value - half, self.paper_value + half

    @model_validator(mode="after")
    def _check_null(self) -> Self:
        if self.null is not None and self.band[0] <= self.null <= self.band[1]:
            raise _field_error("null", f"{self.null:g} lies inside the band of the paper's value")
        return self


class _Family(BaseClaim):
    """Paired comparisons, one per cell of `by` (and pair of levels), corrected together.

    Attributes
    ----------
    factor
        Column whose levels are compared.
    by
        Columns that split the records into cells.
    pair_on
        Columns that identify a replicate, by which the arms are paired.
    """

    factor: Annotated[str, Field(min_length=1)]
    by: Columns = ()
    pair_on: Annotated[Columns, Field(min_length=1)] = ("seed",)

    @model_validator(mode="after")
    def _check_family(self) -> Self:
        if self.min_seeds < 2:
            raise _field_error("min_seeds", "a paired comparison needs at least 2 replicates")
        columns = [self.factor, *self.by, *self.pair_on]
        for column in columns:
            if columns.count(column) > 1:
                raise _field_error("by", f"{column!r} stands twice among factor, by and pair_on")
        return self


class DirectionClaim(_Family):
    """One level of a factor is lower (or higher) than each of several others, in every cell.

    Attributes
    ----------
    ours, baselines
        The level claimed to be better, and those it is compared with.
    direction
        Sign claimed of ours minus baseline.
    margin
        Smallest difference that matters, in the value's unit; 0: a tie is never established.
    decisive
        Baselines against which a tie or a defeat refutes the claim; default all.
    premise
        A level that must be better in the same comparison first; comparisons where it is not are left out.
    """

    comparison: Literal["direction"]
    ours: Level
    baselines: Annotated[tuple[Level, ...], Field(min_length=1)]
    direction: Literal["lower", "higher"]
    margin: NonNegative = 0.0
    decisive: Annotated[tuple[Level, ...], Field(min_length=1)] | None = None
    premise: Level | None = None

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if len(set(self.baselines)) < len(self.baselines):
            raise _field_error("baselines", "a level stands twice")
        if self.ours in self.baselines:
            raise _field_error("baselines", f"{self.ours!r} is compared with itself")
        strangers = [level for level in self.decisive or () if level not in self.baselines]
        if strangers:
            raise _field_error("decisive", f"{strangers[0]!r} is not one of the baselines")
        if self.premise is not None and self.premise in (self.ours, *self.baselines):
            raise _field_error("premise", f"{self.premise!r} is itself one of the compared levels")
        return self


class OrderingClaim(_Family):
    """The means increase along `order`; adjacent levels are compared, in every cell."""

    comparison: Literal["ordering"]
    order: Annotated[tuple[Level, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if len(set(self.order)) < len(self.order):
            raise _field_error("order", "a level stands twice")
        return self


class SlopeClaim(BaseClaim):
    """How the value changes with a numeric column: one slope per replicate, then its mean with a 95 % interval.

    Attributes
    ----------
    x
        The numeric column.
    method
        ``linear``: least-squares slope; ``loglog``: exponent of a power law; ``spearman``: rank correlation.
    unit_by, by
        Columns that identify a replicate, and columns that split the records into cells.
    claimed, bound, margin
        Sign of the slope; or ``at_most``/``at_least`` a `bound`; or ``zero``: equivalent to zero within `margin`.
    """

    comparison: Literal["slope"]
    x: Annotated[str, Field(min_length=1)]
    method: Literal["linear", "loglog", "spearman"]
    unit_by: Columns = ("seed",)
    by: Columns = ()
    claimed: Literal["positive", "negative", "zero", "at_most", "at_least"]
    bound: Finite | None = None
    margin: NonNegative = 0.0

    @model_validator(mode="after")
    def _check_claimed(self) -> Self:
        bounded = self.claimed in ("at_most", "at_least")
        if bounded != (self.bound is not None):
            raise _field_error("bound", "needed with at_most and at_least, and only there")
        if (self.claimed == "zero") != (self.margin > 0):
            raise _field_error("margin", "must be above 0 where the slope is claimed to be zero, and stands only there")
        return self


class IntervalClaim(_Located):
    """In every cell the 95 % interval must lie in ``[lower, upper]``; either end may be open."""

    comparison: Literal["interval"]
    lower: Finite | None = None
    upper: Finite | None = None
    by: Columns = ()

    @model_validator(mode="after")
    def _check_ends(self) -> Self:
        if self.lower is None and self.upper is None:
            raise _field_error("lower", "one of lower and upper must be given")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise _field_error("lower", f"{self.lower:g} is above upper = {self.upper:g}")
        return self


Claim = IdentityClaim | ValueClaim | DirectionClaim | OrderingClaim | SlopeClaim | IntervalClaim
_Tagged = Annotated[Claim, Field(discriminator="comparison")]
_KINDS: dict[str, type[BaseClaim]] = {get_args(k.model_fields["comparison"].annotation)[0]: k for k in get_args(Claim)}


class PaperClaims(_Strict):
    """A paper's ``claims.yaml``."""

    paper: Annotated[str, Field(min_length=1)]
    title: Annotated[str, Field(min_length=1)]
    citation: Annotated[str, Field(min_length=1)]
    claims: tuple[_Tagged, ...]

    @property
    def notebooks(self) -> tuple[str, ...]:
        """Stems of the notebooks that decide these claims, sorted."""
        return tuple(sorted({claim.notebook for claim in self.claims}))

    def of(self, notebook: str) -> tuple[Claim, ...]:
        """The claims that one notebook decides, in the file's order."""
        return tuple(claim for claim in self.claims if claim.notebook == notebook)


def parse_claim(fields: Mapping[str, Any]) -> Claim:
    """Make one claim from its fields.

    Raises
    ------
    ClaimError
        A field is missing, unknown, or has a value that is not allowed.
    """
    try:
        return TypeAdapter[Claim](_Tagged).validate_python(dict(fields))
    except ValidationError as error:
        raise ClaimError(_explain(error, [dict(fields)], prefix="")) from error


def load_claims(paper_or_path: str | Path) -> PaperClaims:
    """Load the claims of a paper by its name (``"uba"``), or from a YAML file.

    Parameters
    ----------
    paper_or_path : str or Path
        The name of a paper's room in the package, or the path of a file that ends in ``.yaml``.

    Returns
    -------
    PaperClaims
        Validated and immutable.

    Raises
    ------
    ClaimError
        There is no such paper, the file is not YAML, or a claim is malformed: the message names claim and field.
    FileNotFoundError
        There is no such file.
    """
    if isinstance(paper_or_path, Path) or paper_or_path.endswith((".yaml", ".yml")):
        path = Path(paper_or_path)
        return _parse_file(path.read_text(encoding="utf-8"), path.name, paper=None)
    text = claims_file(paper_or_path).read_text(encoding="utf-8")
    return _parse_file(text, f"{paper_or_path}/claims.yaml", paper=paper_or_path)


def claims_file(paper: str) -> Traversable:
    """The ``claims.yaml`` of a paper's room.

    Raises
    ------
    ClaimError
        The package has no claims of a paper with that name; the message names those it has.
    """
    root = resources.files("replication")
    papers = sorted(room.name for room in root.iterdir() if room.is_dir() and (room / "claims.yaml").is_file())
    return root / one_of("paper", paper, papers) / "claims.yaml"


def one_of(argument: str, value: str, allowed: tuple[str, ...] | list[str]) -> str:
    """Return `value` if it is allowed.

    Raises
    ------
    ClaimError
        It is not; the message names the argument, the nearest valid value and all of them.

    Examples
    --------
    >>> one_of("profile", "smokey", ["smoke", "paper"])
    Traceback (most recent call last):
    replication.evidence.claims.ClaimError: profile: 'smokey' is not known; did you mean 'smoke'? (smoke, paper)
    """
    if value in allowed:
        return value
    near = difflib.get_close_matches(value, allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ClaimError(f"{argument}: {value!r} is not known{hint} ({', '.join(allowed) or 'there is none yet'})")


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader takes the last of two equal keys without a word; a claim must not lose a field that way."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _parse_file(text: str, name: str, paper: str | None) -> PaperClaims:
    try:
        content = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise ClaimError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ClaimError(f"{name}: expected the keys paper, title, citation and claims")
    try:
        loaded = PaperClaims.model_validate(content)
    except ValidationError as error:
        listed = content.get("claims")
        raise ClaimError(_explain(error, listed if isinstance(listed, list) else [], prefix=f"{name}, ")) from error
    ids = [claim.id for claim in loaded.claims]
    for claim_id in ids:
        if ids.count(claim_id) > 1:
            raise ClaimError(f"{name}, claim {claim_id!r}, field 'id': stands twice")
    if paper is not None and loaded.paper != paper:
        raise ClaimError(f"{name}, field 'paper': is {loaded.paper!r}, but the room is {paper!r}")
    return loaded


def _field_error(field: str, message: str) -> ValueError:
    # a model validator's error has no location, so the field travels in front of the message
    return ValueError(f"field '{field}': {message}")


def _explain(error: ValidationError, claims: list[Any], prefix: str) -> str:
    lines = []
    for found in error.errors():
        location = list(found["loc"])
        claim: Any = None
        if location[:1] == ["claims"] and len(location) > 1 and isinstance(location[1], int):
            claim, location = claims[location[1]], location[2:]
        elif prefix == "":
            claim = claims[0]
        kind = claim.get("comparison") if isinstance(claim, dict) else None
        if kind in _KINDS and location[:1] == [kind]:
            location = location[1:]
        label = f"claim {claim['id']!r}, " if isinstance(claim, dict) and "id" in claim else ""
        label = label or ("" if claim is None else "a claim without id, ")
        message = found["msg"].removeprefix("Value error, ")
        if not message.startswith("field "):
            field = ".".join(str(part) for part in location) or "comparison"
            message = f"field '{field}': {message}"
            if found["type"] == "extra_forbidden":
                known = sorted(_KINDS[kind].model_fields) if kind in _KINDS else sorted(PaperClaims.model_fields)
                near = difflib.get_close_matches(str(location[-1]), known, n=1)
                of = f" of a claim by {kind}" if kind in _KINDS else ""
                message = f"field '{field}': is not a field{of}" + (f"; did you mean {near[0]!r}?" if near else "")
            elif found["type"] != "missing":
                message += f" (got {found['input']!r})" if not isinstance(found["input"], dict) else ""
        lines.append(f"{prefix}{label}{message}")
    return "\n".join(lines)
