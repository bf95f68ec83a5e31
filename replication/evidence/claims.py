"""Claims as data: what a paper says, and the tests that decide it, written before the runs.

A *claim* is something that the paper itself says. A *test* is one measured question that bears on a claim, stated
once for all the scales at which it is asked. Its role is ``primary`` (decides the claim), ``control`` (asks what
explains the outcome; shown beside the verdict, never counted), ``check`` (an identity, a parity, a property of our own
software) or ``gate`` (something known that must come out before anything else is asked of the same run).

Every kind of comparison is a model of its own that knows exactly its own fields. What is wrong in a file is refused
when the file is read, by file, claim, test and field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from replication import plain_yaml
from replication.checks import near, one_of

Profile = Literal["smoke", "standard", "paper"]
#: The profiles, from the smallest to the largest; a test's scale is the profile of the runs that it is asked of.
PROFILES: tuple[Profile, ...] = get_args(Profile)
Role = Literal["primary", "control", "check", "gate"]

#: A level of a factor column of the records.
Level = str | int | float | bool
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Columns = tuple[str, ...]


class ClaimError(ValueError):
    """A claims file is malformed; the message names the file, the claim, the test and the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantity(_Strict):
    """Something that a notebook measures.

    Attributes
    ----------
    label
        What it is, as a phrase that a sentence can hold ("test error").
    unit
        Its unit, for display.
    volatile
        Depends on the machine (times, memory): shown and stored with the machine it came from, never tested.
    """

    label: Text
    unit: str = ""
    volatile: bool = False


class Tuning(_Strict):
    """Where the records hold the scores by which each arm's setting was chosen.

    Attributes
    ----------
    scores
        Quantity with one row per arm, setting and tuning seed; lower is better.
    tests
        Quantity with one row per arm, setting and evaluation seed: the chosen settings, and those that another draw of
        the tuning seeds would have chosen.
    setting
        Columns that tell settings apart.
    among
        For a level that is itself chosen on these scores: the levels that it is chosen among, where a run has them.
    """

    scores: Text
    tests: Text
    setting: Annotated[Columns, Field(min_length=1)]
    among: dict[str, Annotated[tuple[Level, ...], Field(min_length=1)]] = {}


class BaseTest(_Strict):
    """What tests of every kind have in common.

    Parameters
    ----------
    id, asks
        A short stable name, and a question to which "yes" speaks for the claim.
    notebook
        Stem of the notebook that measures it.
    quantity, where
        Which records measure it: their ``quantity``, and per column the level or levels they must have.
    unit
        Unit of the judged number where it is not the quantity's own (a slope, an exponent).
    gates
        Ids of the gates that must come out first; else the answer is ``blind``.
    min_seeds
        Least number of replicates; with fewer the answer is ``open``.
    exact
        The number has no sampling error, so a single one decides.
    every
        Whether the question is asked of every cell of `by` (intersection-union test) or of their mean.
    effect, spread, cells
        For the power of the rule: the true value if the claim holds, the standard deviation between replicates of the
        number that is judged (the mean over cells; with `every`, one cell), and with `every` the number of comparisons.
    needs
        Replicates that would give the power, where the profile cannot have as many: the plan says so.
    tolerance, tolerance_reason
        What is allowed on top of the paper's rounding, or as a difference, and why.
    role, claim, scale
        Where the test stands in its file; not written there.
    """

    id: Name
    asks: Text
    notebook: Text
    quantity: Text
    where: dict[str, Level | tuple[Level, ...]] = {}
    unit: str = ""
    gates: tuple[str, ...] = ()
    min_seeds: Annotated[int, Field(ge=1)] = 1
    exact: bool = False
    every: bool = False
    by: Columns = ()
    effect: Finite | None = None
    spread: NonNegative | None = None
    cells: Annotated[int, Field(ge=1)] = 1
    needs: Annotated[int, Field(ge=2)] | None = None
    tolerance: NonNegative = 0.0
    tolerance_reason: str = ""
    role: Role
    claim: str = ""
    scale: Profile

    @model_validator(mode="after")
    def _check_common(self) -> Self:
        if self.tolerance > 0 and not self.tolerance_reason.strip():
            raise _field_error("tolerance_reason", "a tolerance needs its reason")
        if self.every and not self.by and not isinstance(self, DirectionTest):
            raise _field_error("every", "asks for every cell, but `by` names no column that makes cells")
        if self.role == "primary" and not self.exact and (self.effect is None or self.spread is None):
            missing = "effect" if self.effect is None else "spread"
            raise _field_error(missing, "a primary test needs `effect` and `spread`, or must be `exact`")
        return self


class IdentityTest(BaseTest):
    """Rows are absolute differences; all must be at most `tolerance`."""

    comparison: Literal["identity"]
    exact: Literal[True] = True


class _Located(BaseTest):
    """Tests of where a value lies.

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


class ValueTest(_Located):
    """Does the 95 % interval lie in ``paper_value ± (paper_precision + tolerance)``?

    Attributes
    ----------
    paper_value, paper_precision
        The paper's number and half the width of its rounding.
    """

    comparison: Literal["value"]
    paper_value: Finite
    paper_precision: NonNegative = 0.0

    @property
    def half(self) -> float:
        """Half the width of the band of values that agree with the paper."""
        return self.paper_precision + self.tolerance

    @model_validator(mode="after")
    def _check_band(self) -> Self:
        if self.paper_value and self.half >= abs(self.paper_value):
            raise _field_error("tolerance", f"the band ±{self.half:g} is wider than the number {self.paper_value:g}")
        return self


class DirectionTest(BaseTest):
    """Is one level of a factor lower (or higher) than others, in runs paired by seed?

    The number judged is ours minus the mean of the baselines, averaged over the cells of `by`. With `every`, each cell
    and each baseline is a comparison of its own, and all must hold.

    Parameters
    ----------
    factor, ours, baselines
        Column whose levels are compared, the level claimed to be better, and those it is compared with.
    direction
        Sign claimed of ours minus baseline.
    margin
        Smallest difference that matters: a 90 % interval within ``±margin`` is a tie and answers ``no``. 0: never.
    decisive
        With `every`: baselines against which a tie answers ``no``; default all.
    tuned
        Where the tuning scores are, so that the interval carries the uncertainty of the choice too.
    """

    comparison: Literal["direction"]
    factor: Text
    ours: Level
    baselines: Annotated[tuple[Level, ...], Field(min_length=1)]
    direction: Literal["lower", "higher"]
    margin: NonNegative = 0.0
    decisive: Annotated[tuple[Level, ...], Field(min_length=1)] | None = None
    tuned: Tuning | None = None

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.min_seeds < 2 and not self.exact:
            raise _field_error("min_seeds", "a paired comparison needs at least 2 replicates")
        if len({self.factor, *self.by, "seed"}) < len(self.by) + 2:
            raise _field_error("by", "a column stands twice among factor, by and seed")
        if len({self.ours, *self.baselines}) <= len(self.baselines):
            raise _field_error("baselines", "a level stands twice, or is compared with itself")
        strangers = [level for level in self.decisive or () if level not in self.baselines]
        if strangers:
            raise _field_error("decisive", f"{strangers[0]!r} is not one of the baselines")
        if self.decisive is not None and not self.every:
            raise _field_error("decisive", "stands only with `every: true`")
        if self.effect is not None:
            if self.effect * self.sign <= 0:
                raise _field_error("effect", f"{self.effect:g} is not {self.direction} than 0")
            if self.margin >= abs(self.effect):
                raise _field_error("margin", f"the band ±{self.margin:g} is wider than the claim's own {self.effect:g}")
        return self

    @property
    def sign(self) -> int:
        """Sign claimed of ours minus baseline."""
        return -1 if self.direction == "lower" else 1


class SlopeTest(BaseTest):
    """How does the value change with a numeric column? One slope per replicate, then its mean with a 95 % interval.

    Parameters
    ----------
    x
        The numeric column.
    method
        ``linear``: least-squares slope; ``loglog``: exponent of a power law; ``spearman``: rank correlation.
    unit_by
        Columns that identify a replicate.
    claimed, bound
        Sign of the slope, or ``at_most``/``at_least`` a `bound`.
    """

    comparison: Literal["slope"]
    x: Text
    method: Literal["linear", "loglog", "spearman"]
    unit_by: Columns = ("seed",)
    claimed: Literal["positive", "negative", "at_most", "at_least"]
    bound: Finite | None = None

    @model_validator(mode="after")
    def _check_claimed(self) -> Self:
        bounded = self.claimed in ("at_most", "at_least")
        if bounded != (self.bound is not None):
            raise _field_error("bound", "needed with at_most and at_least, and only there")
        return self


class IntervalTest(_Located):
    """Does the 95 % interval lie in ``[lower, upper]``? Either end may be open.

    Attributes
    ----------
    factor, baselines, tuned
        Of a regret, the least of some levels of a column subtracted from the level in `where`: the column, the levels,
        and where the tuning scores are, so that the interval carries the uncertainty of their choice too.
    """

    comparison: Literal["interval"]
    lower: Finite | None = None
    upper: Finite | None = None
    factor: str = ""
    baselines: tuple[Level, ...] = ()
    tuned: Tuning | None = None

    @property
    def ours(self) -> Level | tuple[Level, ...] | None:
        """The level in `where` that has the regret."""
        return self.where.get(self.factor)

    @model_validator(mode="after")
    def _check_ends(self) -> Self:
        if self.tuned and (not self.baselines or self.ours is None or isinstance(self.ours, tuple)):
            raise _field_error("tuned", "needs `baselines`, and as `factor` a column of which `where` has one level")
        if self.lower is None and self.upper is None:
            raise _field_error("lower", "one of lower and upper must be given")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise _field_error("lower", f"{self.lower:g} is above upper = {self.upper:g}")
        return self


Test = IdentityTest | ValueTest | DirectionTest | SlopeTest | IntervalTest
_Tagged = TypeAdapter[Test](Annotated[Test, Field(discriminator="comparison")])
_KINDS: dict[str, type[BaseTest]] = {get_args(k.model_fields["comparison"].annotation)[0]: k for k in get_args(Test)}


class Claim(_Strict):
    """Something that the paper says.

    Parameters
    ----------
    id, says
        A short stable name, and the claim in one plain sentence.
    headline
        Whether a reader who reads one line about the paper reads this one, whatever comes out.
    source
        Where the paper says it.
    read
        How we know: read in the ``paper``, ``second-hand`` from others who read it, or ``recollected``.
    tests
        Its primary tests and controls, one entry for each scale at which they are asked.
    """

    id: Name
    says: Text
    headline: bool = False
    source: Text
    read: Literal["paper", "second-hand", "recollected"]
    tests: tuple[Test, ...]

    def primary(self, scale: str, notebook: str | None = None) -> tuple[Test, ...]:
        """The tests that decide the claim at a scale, of one notebook or of all."""
        return tuple(
            test
            for test in self.tests
            if test.role == "primary" and test.scale == scale and notebook in (None, test.notebook)
        )


class PaperClaims(_Strict):
    """A paper's ``claims.yaml``.

    Parameters
    ----------
    paper, title, citation
        The room's name, the paper's title, and how to cite it.
    quantities
        Everything that its notebooks measure and a test or a reader asks for, by name.
    levels
        Methods, models and other levels of factors, as readers see them in sentences, tables and figures.
    claims, checks, gates
        In the file's order; checks and gates stand apart because they say nothing of the paper.
    """

    paper: Text
    title: Text
    citation: Text
    quantities: dict[str, Quantity]
    levels: dict[str, Text] = {}
    claims: tuple[Claim, ...]
    checks: tuple[Test, ...] = ()
    gates: tuple[Test, ...] = ()

    @property
    def tests(self) -> tuple[Test, ...]:
        """Gates, then the claims' tests, then checks, each at every scale."""
        return (*self.gates, *(test for claim in self.claims for test in claim.tests), *self.checks)

    @property
    def notebooks(self) -> tuple[str, ...]:
        """Stems of the notebooks that ask these tests, sorted."""
        return tuple(sorted({test.notebook for test in self.tests}))

    def at(self, notebook: str, scale: str) -> tuple[Test, ...]:
        """What one notebook's run at one profile is asked, in the file's order."""
        return tuple(test for test in self.tests if test.notebook == notebook and test.scale == scale)

    def of(self, notebook: str) -> tuple[Claim, ...]:
        """The claims for which a notebook has a primary test at some scale."""
        return tuple(
            claim
            for claim in self.claims
            if any(test.role == "primary" and test.notebook == notebook for test in claim.tests)
        )

    def claim(self, claim_id: str) -> Claim:
        """A claim by its id."""
        one_of("claim", claim_id, [claim.id for claim in self.claims], ClaimError)
        return next(claim for claim in self.claims if claim.id == claim_id)

    def test(self, test_id: str, scale: str | None = None) -> Test:
        """A test by its id, at a scale or at the first one it is asked at."""
        one_of("test", test_id, list(dict.fromkeys(test.id for test in self.tests)), ClaimError)
        of = [test for test in self.tests if test.id == test_id]
        return next((test for test in of if test.scale == scale), of[0])

    def named(self, level: object) -> str:
        """A level as readers see it; of one that is not among `levels`, its first word may be.

        Examples
        --------
        >>> uba = load_claims("uba")
        >>> uba.named("cosine"), uba.named("uba 0.5"), uba.named(75.0)
        ('cosine (φ = 2)', 'UBA φ = 0.5', '75')
        """
        shown = text(level)
        first, _, rest = shown.partition(" ")
        return self.levels.get(shown) or f"{self.levels.get(first, first)} {rest}".strip()

    def unit(self, test: Test) -> str:
        """Unit of the number that a test judges."""
        return test.unit or self.quantities[test.quantity].unit

    @property
    def volatile(self) -> dict[str, Quantity]:
        """The quantities that depend on the machine, by name."""
        return {name: quantity for name, quantity in self.quantities.items() if quantity.volatile}


def text(level: object) -> str:
    """A level in words; whole floats without their point.

    Examples
    --------
    >>> text(75.0), text("uba"), text(True)
    ('75', 'uba', 'True')
    """
    return f"{level:g}" if isinstance(level, float) else str(level)


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
        There is no such paper, the file is not YAML, or an entry is malformed: the message names claim, test and field.
    FileNotFoundError
        There is no such file.
    """
    if isinstance(paper_or_path, Path) or paper_or_path.endswith((".yaml", ".yml")):
        path = Path(paper_or_path)
        return parse_claims(path.read_text(encoding="utf-8"), path.name)
    text = claims_file(paper_or_path).read_text(encoding="utf-8")
    loaded = parse_claims(text, f"{paper_or_path}/claims.yaml")
    if loaded.paper != paper_or_path:
        raise ClaimError(f"{paper_or_path}/claims.yaml, field 'paper': got {loaded.paper!r}, but the room is another")
    return loaded


def claims_file(paper: str) -> Traversable:
    """The ``claims.yaml`` of a paper's room.

    Raises
    ------
    ClaimError
        The package has no claims of a paper with that name; the message names those it has.
    """
    root = resources.files("replication")
    papers = sorted(room.name for room in root.iterdir() if room.is_dir() and (room / "claims.yaml").is_file())
    return root / one_of("paper", paper, papers, ClaimError) / "claims.yaml"


@cache  # there may be hundreds of runs of one paper
def parse_claims(text: str, name: str) -> PaperClaims:
    """The claims in the text of a ``claims.yaml``; `name` is the file's name in messages.

    Raises
    ------
    ClaimError
        As `load_claims`.
    """
    try:
        content = plain_yaml.load(text)
    except yaml.YAMLError as error:
        raise ClaimError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ClaimError(f"{name}: expected the keys paper, title, citation, quantities and claims")
    made = dict(content)
    for group, role in (("gates", "gate"), ("checks", "check")):
        made[group] = _tests(made.get(group), name, (role,), "")
    made["claims"] = [_claim(fields, name) for fields in _listed(made.get("claims"), name, "claims")]
    try:
        loaded = PaperClaims.model_validate(made)
    except ValidationError as error:
        raise ClaimError("\n".join(f"{name}, {line}" for line in _explain(error, PaperClaims))) from error
    for place, message in _disorder(loaded):
        raise ClaimError(f"{name}, {place}: {message}")
    return loaded


def _claim(fields: Any, name: str) -> Claim:
    if not isinstance(fields, dict):
        raise ClaimError(f"{name}, field 'claims': got {fields!r}, expected a mapping with id, says and tests")
    known = fields.get("id", "without id")
    where = f"{name}, claim {known!r}"
    listed = _listed(fields.get("tests"), where, "tests")
    tests = _tests(listed, where, ("primary", "control"), str(known))
    try:
        return Claim.model_validate({**fields, "tests": tests})
    except ValidationError as error:
        raise ClaimError("\n".join(f"{where}, {line}" for line in _explain(error, Claim))) from error


def _tests(listed: Any, where: str, roles: tuple[str, ...], claim: str) -> list[Test]:
    """The tests of some entries, one for each scale under `at`; an entry that names no role has the first."""
    found = []
    for fields in _listed(listed or [], where, "tests"):
        if not isinstance(fields, dict):
            raise ClaimError(f"{where}: got the test {fields!r}, expected a mapping")
        label = f"{where}, {'gate' if roles == ('gate',) else 'test'} {fields.get('id', 'without id')!r}"
        if (role := fields.get("role", roles[0])) not in roles:
            raise ClaimError(f"{label}, field 'role': got {role!r}, expected {' or '.join(roles)}")
        common = {key: value for key, value in fields.items() if key not in ("at", "role")}
        for scale, differing in _scales(fields.get("at"), label):
            merged = {**common, **differing, "role": role, "claim": claim, "scale": scale}
            if isinstance(common.get("where"), dict) and isinstance(differing.get("where"), dict):
                merged["where"] = {**common["where"], **differing["where"]}
            try:
                found.append(_Tagged.validate_python(merged))
            except ValidationError as error:
                kind = _KINDS.get(str(merged.get("comparison")), BaseTest)
                raise ClaimError("\n".join(f"{label} at {scale}, {line}" for line in _explain(error, kind))) from error
    return found


def _scales(at: Any, label: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(at, list | dict) or not at:
        raise ClaimError(f"{label}, field 'at': got {at!r}, expected scales, such as [smoke, standard]")
    for scale, differing in at.items() if isinstance(at, dict) else ((scale, {}) for scale in at):
        one_of(f"{label}, field 'at'", scale, PROFILES, ClaimError)
        if not isinstance(differing, dict | None):
            raise ClaimError(f"{label}, field 'at.{scale}': got {differing!r}, expected the fields that differ there")
        yield str(scale), differing or {}


def _listed(listed: Any, where: str, field: str) -> list[Any]:
    if not isinstance(listed, list):
        raise ClaimError(f"{where}, field {field!r}: got {listed!r}, expected a list")
    return listed


def _disorder(loaded: PaperClaims) -> Iterator[tuple[str, str]]:
    """What is wrong between entries that are each well formed: where, and what."""
    # gates are the first tests: of what may be named by a gate only those before it are there
    gates: set[tuple[str, str, str]] = set()
    claims, tests = [claim.id for claim in loaded.claims], [(test.id, test.scale) for test in loaded.tests]
    yield from ((f"claim {one!r}, field 'id'", "stands twice") for one in claims if claims.count(one) > 1)
    yield from ((f"test {one[0]!r}, field 'id'", "stands twice") for one in tests if tests.count(one) > 1)
    for claim in [claim for claim in loaded.claims if claim.headline][1:]:
        yield f"claim {claim.id!r}, field 'headline'", "a paper has one"
    for claim in loaded.claims:
        where = f"claim {claim.id!r}, field 'tests'"
        if not claim.tests:
            yield where, "no test, so nothing decides the claim"
        for scale in dict.fromkeys(test.scale for test in claim.tests):
            if not claim.primary(scale):
                yield where, f"no primary test at {scale}, so nothing there decides the claim"
    for test in loaded.tests:
        what = "gate" if test.role == "gate" else "test"
        where = f"{f'claim {test.claim!r}, ' if test.claim else ''}{what} {test.id!r} at {test.scale}"
        tuned = getattr(test, "tuned", None)
        for quantity in (test.quantity, *((tuned.scores, tuned.tests) if tuned else ())):
            if quantity not in loaded.quantities:
                hint = near(quantity, loaded.quantities)
                yield f"{where}, field 'quantity'", f"{quantity!r} is not among the file's quantities{hint}"
            elif loaded.quantities[quantity].volatile:
                yield f"{where}, field 'quantity'", f"{quantity!r} is volatile: no verdict may depend on the machine"
        for gate in test.gates:
            if (gate, test.notebook, test.scale) not in gates:
                hint = near(gate, [known for known, *_ in gates])
                before = " before this one" if test.role == "gate" else ""
                yield f"{where}, field 'gates'", f"{test.notebook} has no gate {gate!r} at {test.scale}{before}{hint}"
        if test.role == "gate":
            gates.add((test.id, test.notebook, test.scale))


def _field_error(field: str, message: str) -> ValueError:
    # a model validator's error has no location, so the field travels in front of the message
    return ValueError(f"field '{field}': {message}")


def _explain(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """What pydantic found, field by field."""
    for found in error.errors():
        # pydantic puts the kind of the comparison in front of its fields
        location = list(found["loc"])[1:] if found["loc"] and found["loc"][0] in _KINDS else list(found["loc"])
        message = found["msg"].removeprefix("Value error, ")
        if message.startswith("field "):
            yield message
            continue
        field = ".".join(str(part) for part in location) or "comparison"
        if found["type"] == "extra_forbidden":
            message = f"is not a field here{near(location[-1], sorted(model.model_fields))}"
        elif found["type"] != "missing" and not isinstance(found["input"], Mapping):
            message += f" (got {found['input']!r})"
        yield f"field '{field}': {message}"
