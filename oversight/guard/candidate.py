"""A second model or policy beside the one in use: its shadow, for some users, or in its place.

[candidate]
model = "bigger"                    # one of [upstreams]; empty: the same models
policy = "stricter.toml"            # empty: the same policy
shadow = 0.2                        # this share of calls is put to it too; nobody sees its answer
canary = 0.05                       # this share of users is answered by it

As a shadow it is compared with the main one on the same calls; as a canary on calls of other users,
each of whom stays where they are. Which of them answers stands in a file, which
`oversight guard switch` writes and the guard looks at while it serves: calls under way end with the
model and the policy that they began with.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import httpx
from pydantic import Field, model_validator

from oversight.config import Settings
from oversight.errors import ConfigError, FileError
from oversight.evals.intervals import Estimate, mean_interval, unpaired_difference
from oversight.files import write_text
from oversight.guard.calls import Call, CallOutcome
from oversight.guard.exchanges import ModelGuard
from oversight.guard.policy import Policy
from oversight.guard.upstreams import TRACE, ApiError, Json, Upstream
from oversight.text.numbers import NONE, Table, points, share

logger = logging.getLogger(__name__)

NUM_KEPT = 20_000
"""Latest calls that are compared."""
LOOK_S = 0.5
"""Time between two looks at the file that says which one answers."""


class Serving(StrEnum):
    """The one that answers."""

    TRIAL = "trial"
    """The main one, with the shadow and the canary that the guard's file names."""
    MAIN = "main"
    """The main one alone."""
    CANDIDATE = "candidate"
    """The candidate alone."""


class CandidateSettings(Settings):
    """A model or policy that is tried."""

    model: str = ""
    """Name under [upstreams] that answers in place of all others; empty: each answers itself."""
    policy: str = ""
    """Name or file of another policy; empty: the guard's own."""
    shadow: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of calls that the candidate answers as well, for nobody to see."""
    canary: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of users whom the candidate answers."""
    max_shadows: int = Field(default=16, ge=1)
    """Calls that it shadows at the same time; further ones are not shadowed, and counted."""
    switch: str = Field(default="guard.switch", min_length=1)
    """File that says which of them answers, beside the guard's own."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.model and not self.policy:
            raise ValueError("name a model of [upstreams], a policy, or both")
        return self


def candidate_upstreams(
    settings: CandidateSettings, upstreams: Mapping[str, Upstream]
) -> dict[str, Upstream]:
    """The models of the candidate by the name that clients ask for.

    Raises:
        ConfigError: There is none of the name that the settings have.
    """
    if not settings.model:
        return dict(upstreams)
    if settings.model not in upstreams or settings.model == "*":
        raise ConfigError(
            f"candidate.model = {settings.model!r} is no model of [upstreams]; there are "
            + ", ".join(map(repr, upstreams))
        )
    return dict.fromkeys(upstreams, upstreams[settings.model])


@dataclass(frozen=True, slots=True)
class ArmCall:
    """Figures of a call of the main one or the candidate."""

    user: str
    """A pseudonym, by which calls of one user are taken together."""
    refused: float
    """1 if it was refused or blocked, else 0; so with what follows."""
    fired: float
    failed: float
    ms: float
    """Milliseconds of the whole call."""
    chars: float
    words: str
    """Digest of what was delivered."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of the main one and of the candidate."""

    figure: str
    main: Estimate
    candidate: Estimate
    difference: Estimate
    """Candidate minus main."""


FIGURES = {
    "refused": ("refused", True),
    "a check fired": ("fired", True),
    "failed": ("failed", True),
    "milliseconds": ("ms", False),
    "characters": ("chars", False),
}
"""Names of figures, each with its field and whether it is a share."""


def compare(
    main: Sequence[ArmCall], candidate: Sequence[ArmCall], *, paired: bool
) -> list[Compared]:
    """The figures of both with intervals in which calls of one user count together.

    Args:
        main: Calls of the main one.
        candidate: Calls of the candidate; the same ones in the same order if paired.
        paired: They are the same calls.
    """
    if not main or not candidate:
        return []
    found = []
    for name, (field, is_share) in FIGURES.items():
        ours, theirs = ([getattr(each, field) for each in arm] for arm in (main, candidate))
        users, others = ([each.user for each in arm] for arm in (main, candidate))
        bounds = (0.0, 1.0) if is_share else None
        if paired:
            gaps = [b - a for a, b in zip(ours, theirs, strict=True)]
            gap = mean_interval(gaps, users, (-1.0, 1.0) if is_share else None)
        else:
            gap = unpaired_difference(theirs, others, ours, users)
        found.append(
            Compared(
                name, mean_interval(ours, users, bounds), mean_interval(theirs, others, bounds), gap
            )
        )
    return found


class CandidateTrial:
    """The main guard and the candidate, which of them answers, and how they compare."""

    def __init__(
        self,
        settings: CandidateSettings,
        main: ModelGuard,
        candidate: ModelGuard,
        folder: Path | None = None,
        seed: int | None = None,
    ) -> None:
        self._settings = settings
        self.main, self.candidate = main, candidate
        self._path = (folder or Path()) / settings.switch
        self._serving, self._looked = Serving.TRIAL, -LOOK_S
        self._random = random.Random(seed)
        self._salt = f"{candidate.policy.fingerprint}:{settings.model}"
        self._shadowing: set[asyncio.Task[None]] = set()
        self._pairs: deque[tuple[ArmCall, ArmCall]] = deque(maxlen=NUM_KEPT)
        self._arms: dict[bool, deque[ArmCall]] = {
            False: deque(maxlen=NUM_KEPT),
            True: deque(maxlen=NUM_KEPT),
        }
        """Calls while there is a canary, by whether the candidate answered."""
        self.num_unshadowed = 0
        main.watch(self._main_ended)
        candidate.watch(self._candidate_ended)

    @property
    def serving(self) -> Serving:
        """The one that answers now, as the file has it."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._serving = self._read()
        return self._serving

    def _read(self) -> Serving:
        try:
            found = Serving(self._path.read_text("utf-8")[:100].strip())
        except FileNotFoundError:
            found = Serving.TRIAL
        except (OSError, ValueError):
            logger.error("%s says none of %s; nothing is switched", self._path, ", ".join(Serving))
            return self._serving
        if found is not self._serving:
            logger.warning("switched from %s to %s", self._serving, found)
        return found

    def guard_for(self, user: str) -> ModelGuard:
        """The guard that answers a user; the same one for as long as nothing is switched."""
        serving = self.serving
        if serving is not Serving.TRIAL:
            return self.candidate if serving is Serving.CANDIDATE else self.main
        return self.candidate if self._draw(user) < self._settings.canary else self.main

    def _draw(self, user: str) -> float:
        """A number from 0 to 1 that a user always has in this trial."""
        digest = hashlib.blake2b(f"{self._salt}:{user}".encode("utf-8", "replace"), digest_size=8)
        return int.from_bytes(digest.digest()) / 2**64

    def _main_ended(self, call: Call) -> None:
        if self._settings.canary and self._serving is Serving.TRIAL and _counts(call):
            self._arms[False].append(_figures(call))
        is_drawn = self._settings.shadow and self._random.random() < self._settings.shadow
        if not is_drawn or self._serving is not Serving.TRIAL or not _counts(call):
            return
        if len(self._shadowing) >= self._settings.max_shadows:
            self.num_unshadowed += 1
            return
        task = asyncio.get_running_loop().create_task(self._follow(call))
        self._shadowing.add(task)
        task.add_done_callback(self._shadowing.discard)

    def _candidate_ended(self, call: Call) -> None:
        if self._settings.canary and self._serving is Serving.TRIAL and _counts(call):
            self._arms[True].append(_figures(call))

    async def _follow(self, call: Call) -> None:
        """Put a call to the candidate too, and write down how both were answered."""
        TRACE.set(None)
        ended: list[Call] = []
        # Without those who watch the candidate itself, as the answer is nobody's.
        guard = ModelGuard(self.candidate.policy, self.candidate.upstreams, [ended.append])
        body = {k: v for k, v in call.body.items() if k not in ("stream", "stream_options")}
        try:
            await guard.whole(call.path, body)
        except ApiError:
            pass  # its record says so
        except Exception:  # nobody waits for a shadow, so nobody else would tell
            logger.exception("the shadow of call %s failed", call.id)
        if ended:
            follower = _figures(ended[0], user=call.user)
            self._pairs.append((_figures(call), follower))

    def figures(self) -> Json:
        """All that is known of the trial, as plain data."""
        pairs = list(self._pairs)
        main, theirs = [a for a, _ in pairs], [b for _, b in pairs]
        same = [float(a.words == b.words) for a, b in pairs]
        agreement = mean_interval(same, [a.user for a in main]) if pairs else None
        arms = {name: list(each) for name, each in self._arms.items()}
        return {
            "serving": self._serving.value,
            "main": _names(self.main.policy),
            "candidate": {**_names(self.candidate.policy), "model": self._settings.model},
            "shadow": {
                "calls": len(pairs),
                "not_shadowed": self.num_unshadowed,
                "same_words": None if agreement is None else asdict(agreement),
                "figures": [asdict(each) for each in compare(main, theirs, paired=True)],
            },
            "canary": {
                "calls": [len(arms[False]), len(arms[True])],
                "users": [len({each.user for each in arms[arm]}) for arm in (False, True)],
                "figures": [asdict(e) for e in compare(arms[False], arms[True], paired=False)],
            },
        }

    async def aclose(self) -> None:
        """End the shadows; the models themselves are the main guard's to close."""
        for task in self._shadowing:
            task.cancel()
        await asyncio.gather(*self._shadowing, return_exceptions=True)
        if self.candidate.policy is not self.main.policy:
            await self.candidate.policy.aclose()


def _names(policy: Policy) -> Json:
    return {"policy": policy.name, "policy_hash": policy.fingerprint[:16]}


def _counts(call: Call) -> bool:
    """True of a call that says something of who answered it: it came to its end."""
    is_wrong = call.outcome is CallOutcome.FAILED and not call.asked
    return call.outcome is not CallOutcome.CANCELLED and not is_wrong


def _figures(call: Call, user: str = "") -> ArmCall:
    said = "\0".join(each.delivered for _, each in sorted(call.choices.items()))
    found = call.findings or any(each.findings for each in call.choices.values())
    return ArmCall(
        user=user or call.user or call.id,
        refused=float(call.outcome in (CallOutcome.REFUSED, CallOutcome.BLOCKED)),
        fired=float(bool(found)),
        failed=float(call.outcome is CallOutcome.FAILED),
        ms=1000.0 * call.seconds,
        chars=float(len(said)),
        words=hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=16).hexdigest(),
    )


def write_switch(settings: CandidateSettings | None, folder: Path, to: Serving) -> Path:
    """Write which of them answers, for the guard that serves to see.

    Raises:
        ConfigError: The guard has no candidate, or the file cannot be written.
    """
    if settings is None:
        raise ConfigError("the guard's file has no [candidate] to switch to; describe one there")
    path = folder / settings.switch
    try:
        write_text(path, f"{to}\n", "candidate.switch")
    except FileError as error:
        raise ConfigError(str(error)) from error
    return path


def read_trial(url: str, key: str = "") -> Json:
    """The comparison of the guard that serves at an address.

    Raises:
        ConfigError: Nobody answers there, it is no guard, or one without a candidate.
    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(timeout=60.0, trust_env=False, headers=headers) as client:
            answer = client.get(f"{url}/trial")
            found = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        said = str(error) or type(error).__name__
        raise ConfigError(
            f"{url!r} does not answer as a guard does ({said}); give the address that "
            "`oversight guard serve` prints"
        ) from None
    if not isinstance(found, dict) or not {"shadow", "canary", "serving"} <= found.keys():
        told = found.get("error") if isinstance(found, dict) else None
        said = str(told.get("message")) if isinstance(told, dict) else "it is no guard"
        raise ConfigError(f"{url!r}: {said[:200]}")
    return found


# --- as a person sees them ---


def trial_tables(found: Mapping[str, Any]) -> list[Table]:
    """The comparison of `CandidateTrial.figures` as tables: of the shadow, and of the canary."""
    shadow, canary = found["shadow"], found["canary"]
    tables = []
    if shadow["figures"]:
        same = share(Estimate(**shadow["same_words"]))
        note = f"{shadow['calls']:,} calls put to both; the same words in {same} of them"
        if shadow["not_shadowed"]:
            note += f"; {shadow['not_shadowed']:,} more were too many at once"
        tables.append(_table("Shadow", note, shadow["figures"]))
    if canary["figures"]:
        of_main, of_candidate = canary["calls"]
        users, others = canary["users"]
        note = f"{of_main:,} calls of {users:,} users, and {of_candidate:,} of {others:,} others"
        tables.append(_table("Canary", note, canary["figures"]))
    return tables


def _table(title: str, note: str, figures: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for each in figures:
        is_share = FIGURES[each["figure"]][1]
        main, other, gap = (Estimate(**each[k]) for k in ("main", "candidate", "difference"))
        cells = (
            (share(main), share(other), points(gap))
            if is_share
            else tuple(_number(estimate) for estimate in (main, other, gap))
        )
        rows.append((each["figure"], *cells))
    return Table(title, note, ("", "main", "candidate", "difference"), tuple(rows))


def _number(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g}".replace("-", "−") or NONE
    ends = f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
    return ends.replace("-", "−")
