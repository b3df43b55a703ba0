"""All objects of the node: what sources say is handed to keepers, one each."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path

from oarlock.api.accepted import Accepted
from oarlock.api.identity import TRIAL, Key
from oarlock.api.spec import State
from oarlock.api.standing import standing
from oarlock.errors import OarlockError
from oarlock.linux import clock
from oarlock.linux.removal import remove_tree
from oarlock.reconcile.attempt import Attempt
from oarlock.reconcile.backoff import RETRY
from oarlock.reconcile.keeper import Keeper
from oarlock.reconcile.node import Node, Retention
from oarlock.records.model import Current, Record

logger = logging.getLogger(__name__)
_ASIDE = ".gone"
_PATIENCE = 5.0
"""Seconds that the start waits for what an earlier operator left; what takes longer goes on beside the rest."""


class Engine:
    """The sink of every source. Lives in one event loop; `group` owns the keepers' tasks."""

    def __init__(self, node: Node, overrides: Path, group: asyncio.TaskGroup) -> None:
        self._node, self._overrides, self._group = node, overrides, group
        self._keepers: dict[Key, Keeper] = {}
        self._names: dict[tuple[str, str], list[Keeper]] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    async def load(self) -> None:
        """Take up what is recorded: adopt what runs, clear up what does not, remove what has no record."""
        records = self._node.store.load()
        await self._node.runtime.end_commands()
        await self._remove_strays(records)
        for record in sorted(records, key=_claim):
            self._add(record, start=False)
            self._new_boot(record)
        await asyncio.gather(*(_take_up(keeper) for keeper in self._keepers.values()))
        for key, keeper in self._keepers.items():
            self._read_override(keeper)
            self._tasks[key] = self._group.create_task(keeper.run())

    def known(self, source: str) -> Mapping[Key, Record]:
        """Every object of a source that is recorded."""
        return {key: keeper.record for key, keeper in self._keepers.items() if key.source == source}

    def applied(self, obj: Accepted) -> None:
        """See `ports.Sink`."""
        keeper = self._keepers.get(obj.key)
        if keeper is None:
            if obj.deleted and not obj.finalizer:
                return
            keeper = self._add(self._record(obj), start=True)
        keeper.apply(obj)
        self._read_override(keeper)

    def refused(self, key: Key, generation: int, problem: str) -> None:
        """See `ports.Sink`. An object that never had a good version has no keeper: it only gets a status."""
        if keeper := self._keepers.get(key):
            keeper.refuse(generation, problem)
        else:
            self._node.reporters[key.source].report(key, self._invalid(generation, problem))

    def gone(self, key: Key) -> None:
        """See `ports.Sink`."""
        if keeper := self._keepers.get(key):
            keeper.vanish()

    def listed(self, source: str, alive: Collection[Key]) -> None:
        """See `ports.Sink`."""
        for key in [key for key in self._keepers if key.source == source and key not in alive]:
            self.gone(key)

    def override(self, uid: str) -> None:
        """The command wrote or removed an override of this object."""
        for keeper in self._keepers.values():
            if keeper.key.uid == uid:
                self._read_override(keeper)
                keeper.wake()

    def logs(self) -> list[Retention]:
        """How much to keep of the log of each running container."""
        return [keeper.log() for keeper in self._keepers.values() if keeper.record.current is not None]

    def report_all(self, source: str) -> None:
        """Tell a source the status of each of its objects, as when the operator starts."""
        for key, keeper in self._keepers.items():
            if key.source == source:
                self._node.reporters[source].report(key, keeper.record.status)

    def _add(self, record: Record, *, start: bool) -> Keeper:
        keeper = Keeper(self._node, record, self._removed)
        self._keepers[keeper.key] = keeper
        holders = self._names.setdefault((record.namespace, record.name), [])
        holders.append(keeper)
        self._settle_name(holders)
        if start:
            self._tasks[keeper.key] = self._group.create_task(keeper.run())
        return keeper

    def _removed(self, keeper: Keeper) -> None:
        del self._keepers[keeper.key]
        self._tasks.pop(keeper.key, None)
        (self._overrides / f"{keeper.key.uid}.json").unlink(missing_ok=True)
        holders = self._names[keeper.key.namespace, keeper.key.name]
        holders.remove(keeper)
        self._settle_name(holders)
        if not holders:
            del self._names[keeper.key.namespace, keeper.key.name]

    def _settle_name(self, holders: list[Keeper]) -> None:
        """The first holder of a name runs; the others wait for it to go."""
        for position, keeper in enumerate(holders):
            first = holders[0].key
            told = f"the name belongs to an object of the {first.source} source with uid {first.uid}"
            keeper.blocked_by = None if position == 0 else told
            keeper.wake()

    def _record(self, obj: Accepted) -> Record:
        return Record(
            nodeName=self._node.name,
            bootID=self._node.boot,
            source=obj.key.source,
            namespace=obj.key.namespace,
            name=obj.key.name,
            uid=obj.key.uid,
            origin=obj.origin,
            generation=obj.generation,
            created=obj.created,
            labels=dict(obj.labels),
            annotations=dict(obj.annotations),
            spec=dict(obj.given),
            deleted=obj.deleted,
        )

    def _new_boot(self, record: Record) -> None:
        """Times since another boot mean nothing in this one."""
        if record.bootID != self._node.boot:
            record.bootID, record.retryAt, record.backoffSteps = self._node.boot, 0.0, 0

    def _read_override(self, keeper: Keeper) -> None:
        """An override holds until the object's document asks for another container, or another state."""
        path = self._overrides / f"{keeper.key.uid}.json"
        keeper.record.override = keeper.override_restart = None
        try:
            told = json.loads(path.read_bytes())
            document, state, restarted_at = told["document"], told.get("state"), told.get("restartedAt")
            override = State(state) if state else None
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("%s: %s is no override, and is ignored: %s", keeper.key, path, error)
            return
        if document != standing(keeper.record.spec):
            path.unlink(missing_ok=True)
            return
        keeper.record.override, keeper.override_restart = override, restarted_at

    async def _remove_strays(self, records: list[Record]) -> None:
        """Remove containers and bundles that no record names, and then what is kept of objects without one."""
        named = {record.current.containerID for record in records if record.current}
        cgroups = self._node.runtime.cgroups
        await cgroups.sweep(named | {TRIAL})  # which a doctor may have under way
        found = self._node.runtime.known() | {entry.name for entry in self._node.bundles.iterdir()}
        strays = [self._group.create_task(self._remove_stray(each)) for each in sorted(found - named)]
        strays += [self._group.create_task(_remove_folder(each)) for each in self._put_aside(records)]
        if strays:
            await asyncio.wait(strays, timeout=_PATIENCE)

    def _put_aside(self, records: list[Record]) -> list[Path]:
        """Rename the folders of objects without a record, so that nobody meets them who makes such an object anew."""
        known, aside = {record.uid for record in records}, []
        for entry in list(self._node.containers.iterdir()):
            if entry.name.endswith(_ASIDE):  # an operator before this one ended meanwhile
                aside.append(entry)
            elif entry.name not in known and (entry / "logs").is_dir():
                try:
                    aside.append(entry.rename(entry.with_name(f".{secrets.token_hex(8)}{_ASIDE}")))
                except OSError as error:
                    logger.warning("object %s has no record, and %s is not removed: %s", entry.name, entry, error)
                else:
                    logger.warning("object %s has no record: its logs and layers are removed", entry.name)
        return aside

    async def _remove_stray(self, container_id: str) -> None:
        number = container_id.rpartition("-")[2]
        current = Current(
            attempt=int(number) if number.isdigit() else 0,
            containerID=container_id,
            runtime=str(self._node.policy.runtime_trusted),
            cgroupManager=self._node.runtime.cgroups.name,
            cgroupParent=self._node.runtime.cgroups.parent,
            spec={},
            logPath="/dev/null",
        )
        for failures in itertools.count(1):
            try:
                await Attempt(self._node, current, lambda: None).destroy()
            except (OarlockError, OSError) as error:
                delay = RETRY.delay(failures)
                logger.warning(
                    "container %s has no record, and is not removed: %s; tried again in %g s",
                    container_id,
                    error,
                    delay,
                )
                await asyncio.sleep(delay)
            else:
                logger.warning("container %s has no record: removed", container_id)
                return

    def _invalid(self, generation: int, problem: str) -> dict[str, object]:
        now = clock.rfc3339(clock.wall())
        words = {
            "reason": "InvalidSpec",
            "message": problem,
            "lastTransitionTime": now,
            "observedGeneration": generation,
        }
        values = {"Ready": "False", "Reconciling": "False", "Stalled": "True", "ContainerReady": "False"}
        return {
            "observedGeneration": generation,
            "phase": "Pending",
            "reason": "InvalidSpec",
            "message": problem,
            "nodeName": self._node.name,
            "restartCount": 0,
            "ready": False,
            "started": False,
            "conditions": [{"type": kind, "status": value, **words} for kind, value in values.items()],
        }


def _claim(record: Record) -> tuple[bool, bool, str, str]:
    """The order in which objects get their names: first those that had them."""
    return record.current is None, record.status.get("reason") == "NameTaken", record.created, record.uid


async def _remove_folder(folder: Path) -> None:
    try:
        await asyncio.to_thread(remove_tree, folder)
    except OSError as error:  # a layer that is mounted still; the next start tries again
        logger.warning("%s is not removed: %s", folder, error)


async def _take_up(keeper: Keeper) -> None:
    """Take up what an object has running; where that fails, the keeper's own task tries again, and says so."""
    with contextlib.suppress(Exception):  # a defect too: it must not keep the operator from its other objects
        async with asyncio.timeout(_PATIENCE):
            await keeper.take_up()
