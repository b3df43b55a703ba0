"""The table of steps, and what holds for every way through it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oarlock.api.spec import RestartPolicy, State
from oarlock.reconcile.decide import (
    Alive,
    Collect,
    Create,
    Created,
    Desired,
    Discard,
    Ended,
    HalfMade,
    Kill,
    LastExit,
    Observed,
    Pause,
    Rearm,
    Release,
    Resume,
    Settled,
    Start,
    Step,
    Terminate,
    Wait,
    decide,
)

ALWAYS, ON_FAILURE, NEVER = RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE, RestartPolicy.NEVER
RUN = Desired(State.RUNNING, ALWAYS, 30.0)
STOP, PAUSE = dataclasses.replace(RUN, state=State.STOPPED), dataclasses.replace(RUN, state=State.PAUSED)
GONE = dataclasses.replace(RUN, deleted=True)
TAKEN = dataclasses.replace(RUN, blocked_by="another")
REFUSED = dataclasses.replace(RUN, refused=True)
UNHELD = dataclasses.replace(RUN, held=False)
NOW = 1000.0


def under(policy: RestartPolicy, state: State = State.RUNNING) -> Desired:
    return Desired(state, policy, 30.0)


def alive(**fields: object) -> Observed:
    return Observed(Alive(**fields))  # type: ignore[arg-type]  # the table below names them


def exited(code: int, *, by_itself: bool = True, rearmed: bool = False, retry_at: float = 0.0) -> Observed:
    return Observed(None, LastExit(code, by_itself, rearmed), retry_at)


NOTHING, CREATED, ENDED = Observed(), Observed(Created()), Observed(Ended())
HALF_MADE = Observed(HalfMade())
TERMED = {"stop_since": NOW - 10, "stop_grace": 30.0}

TABLE: dict[str, tuple[Desired, Observed, Step]] = {
    "nothing yet": (RUN, NOTHING, Create()),
    "nothing yet, to be paused": (PAUSE, NOTHING, Create()),
    "nothing yet, to be stopped": (STOP, NOTHING, Settled()),
    "nothing and deleted": (GONE, NOTHING, Release()),
    "nothing, and the name is another's": (TAKEN, NOTHING, Wait(None, "NameTaken")),
    "created": (RUN, CREATED, Start()),
    "created, finalizer not on": (UNHELD, CREATED, Wait(None, "Finalizer")),
    "created, then stopped": (STOP, CREATED, Discard()),
    "created, then deleted": (GONE, CREATED, Discard()),
    "created, then deleted, finalizer not on": (dataclasses.replace(UNHELD, deleted=True), CREATED, Discard()),
    "created, and the name is another's": (TAKEN, CREATED, Discard()),
    "created, and refused since": (REFUSED, CREATED, Discard()),
    "dies, to be paused": (PAUSE, alive(dying=True), Settled()),
    "dies frozen, to run": (RUN, alive(dying=True, paused=True), Settled()),
    "dies, to be stopped": (STOP, alive(dying=True), Terminate(30.0, "Stopped")),
    "half made": (RUN, HALF_MADE, Discard()),
    "half made, and deleted": (GONE, HALF_MADE, Discard()),
    "runs": (RUN, alive(), Settled()),
    "runs, to be paused": (PAUSE, alive(), Pause()),
    "is paused": (PAUSE, alive(paused=True), Settled()),
    "is paused, to run": (RUN, alive(paused=True), Resume()),
    "is paused, to be stopped": (STOP, alive(paused=True), Terminate(30.0, "Stopped")),
    "is paused and deleted": (GONE, alive(paused=True), Terminate(30.0, "Deleted")),
    "runs, to be stopped": (STOP, alive(), Terminate(30.0, "Stopped")),
    "runs, to be stopped at once": (dataclasses.replace(STOP, grace=0.0), alive(), Kill("Stopped")),
    "runs, its command changed": (RUN, alive(changed=("command",)), Terminate(30.0, "Replaced")),
    "runs, changed and deleted": (GONE, alive(changed=("command",)), Terminate(30.0, "Deleted")),
    "runs, and the name is another's": (TAKEN, alive(), Settled()),
    "refused by the node": (REFUSED, NOTHING, Wait(None, "Refused")),
    "runs, changed to what the node refuses": (REFUSED, alive(changed=("command",)), Settled()),
    "0 under Never, refused since": (dataclasses.replace(under(NEVER), refused=True), exited(0), Settled()),
    "in back-off, refused since": (REFUSED, exited(3, retry_at=NOW + 5), Wait(None, "Refused")),
    "stopped, refused since": (dataclasses.replace(STOP, refused=True), exited(143, by_itself=False), Settled()),
    "TERM sent": (STOP, alive(**TERMED), Wait(NOW + 20, "Stopped")),
    "TERM sent, grace over": (STOP, alive(stop_since=NOW - 30, stop_grace=30.0), Kill("Stopped")),
    "TERM sent, grace made shorter": (dataclasses.replace(STOP, grace=5.0), alive(**TERMED), Kill("Stopped")),
    "TERM sent, grace made longer": (
        dataclasses.replace(STOP, grace=90.0),
        alive(**TERMED),
        Wait(NOW + 20, "Stopped"),
    ),
    "TERM sent, then wanted again": (RUN, alive(**TERMED, stop_cause="Stopped"), Wait(NOW + 20, "Stopped")),
    "KILL sent": (STOP, alive(**TERMED, killed=True), Wait(None, "Stopped")),
    "ended": (RUN, ENDED, Collect()),
    "ended and deleted": (GONE, ENDED, Collect()),
    "ended, to be stopped": (STOP, ENDED, Collect()),
    "0 under Always": (under(ALWAYS), exited(0), Create()),
    "3 under Always": (under(ALWAYS), exited(3), Create()),
    "0 under OnFailure": (under(ON_FAILURE), exited(0), Settled()),
    "3 under OnFailure": (under(ON_FAILURE), exited(3), Create()),
    "0 under Never": (under(NEVER), exited(0), Settled()),
    "3 under Never": (under(NEVER), exited(3), Settled()),
    "3 under Never, then changed": (under(NEVER), exited(3, rearmed=True), Create()),
    "stopped under Never, then wanted again": (under(NEVER), exited(143, by_itself=False), Create()),
    "in back-off": (under(ALWAYS), exited(3, retry_at=NOW + 5), Wait(NOW + 5, "BackOff")),
    "back-off over": (under(ALWAYS), exited(3, retry_at=NOW), Create()),
    "in back-off, then deleted": (GONE, exited(3, retry_at=NOW + 5), Release()),
    "in back-off, then stopped": (STOP, exited(3, retry_at=NOW + 5), Rearm()),
    "ended by itself, then stopped": (under(NEVER, State.STOPPED), exited(3), Rearm()),
    "stopped": (STOP, exited(143, by_itself=False), Settled()),
}


@pytest.mark.parametrize("case", TABLE)
def test_step(case: str) -> None:
    desired, observed, step = TABLE[case]
    assert decide(desired, observed, NOW) == step


@dataclasses.dataclass
class World:
    """A node that does what it is told, and a process that ends when it is killed, or at TERM when it is polite."""

    polite: bool
    code: int
    container: Created | Alive | Ended | None = None
    last: LastExit | None = None
    released: bool = False
    starts: int = 0

    def do(self, step: Step, now: float) -> None:
        here = self.container
        match step:
            case Create():
                assert here is None, "a second container for one object"
                self.container = Created()
            case Start():
                assert isinstance(here, Created)
                self.container, self.starts = Alive(), self.starts + 1
            case Discard():
                assert isinstance(here, Created)
                self.container = None
            case Terminate(grace=grace, cause=cause):
                assert isinstance(here, Alive)
                assert here.stop_since is None, "TERM was sent twice"
                told = dataclasses.replace(
                    here, stop_since=now, stop_grace=grace, stop_cause=cause, paused=False, changed=()
                )
                self.container = Ended() if self.polite else told
            case Kill():
                assert isinstance(here, Alive)
                self.container = Ended()
            case Pause() | Resume():
                assert isinstance(here, Alive)
                self.container = dataclasses.replace(here, paused=isinstance(step, Pause))
            case Collect():
                assert isinstance(here, Ended)
                self.container, self.last = None, LastExit(self.code, by_itself=False)
            case Rearm():
                assert self.last is not None
                self.last = dataclasses.replace(self.last, by_itself=False)
            case Release():
                assert here is None, "let go while a container exists"
                self.released = True


containers = st.one_of(
    st.none(),
    st.just(Created()),
    st.just(Ended()),
    st.builds(
        Alive,
        paused=st.booleans(),
        changed=st.sampled_from([(), ("command",)]),
        stop_since=st.none() | st.just(NOW - 3),
        stop_grace=st.sampled_from([0.0, 30.0]),
        stop_cause=st.none() | st.just("Stopped"),
    ),
)
desires = st.builds(
    Desired,
    state=st.sampled_from(State),
    policy=st.sampled_from(RestartPolicy),
    grace=st.sampled_from([0.0, 1.0, 30.0]),
    deleted=st.booleans(),
    held=st.just(True),
    blocked_by=st.none() | st.just("another"),
)
lasts = st.none() | st.builds(LastExit, st.sampled_from([0, 3]), st.booleans(), st.booleans())


@given(containers, desires, lasts, st.booleans())
def test_every_start_leads_to_rest(
    container: Created | Alive | Ended | None, desired: Desired, last: LastExit | None, polite: bool
) -> None:
    world, now = World(polite, 3, container, last), NOW
    for _ in range(12):
        step = decide(desired, Observed(world.container, world.last), now)
        if isinstance(step, Settled) or world.released:
            break
        if isinstance(step, Wait):
            if step.until is None:
                break
            assert step.until > now, "a wait that is over before it begins"
            now = step.until
            continue
        world.do(step, now)
    else:
        pytest.fail(f"no rest within 12 steps; the last was {step}")
    if desired.deleted:
        assert world.released
        assert world.container is None
    elif desired.state is State.STOPPED:
        assert world.container is None
    elif isinstance(world.container, Alive) and not desired.blocked_by:
        assert world.container.paused == (desired.state is State.PAUSED)
    assert world.starts <= 1
