"""Which jobs a conversion consists of, in which order, and what became of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from converter.ahead import ahead
from converter.events import Listener, Planned, Report, SubjectDone, VolumeDone
from converter.finish import finish_subject
from converter.inventory import SubjectFiles
from converter.nifti import VolumeHeader
from converter.pack import peek_volume
from converter.plan import MirrorSettings, VolumePlan, digest_of, plan_volume
from converter.report import PageFolder, add_picture
from converter.suv import suv_of
from converter.write import recorded_outcome, write_volume
from corpus import layout
from corpus.errors import SettingsError, SourceError, StoreError, VoxshelfError
from corpus.findings import Finding, failure, unexpected, warning
from corpus.models import CorpusInfo, SubjectInfo
from corpus.outcomes import SubjectOutcome, VolumeOutcome
from corpus.stores import Store

type Headers = dict[str, VolumeHeader | SourceError]
"""Header of each volume of a subject, by role, or why it cannot be used."""

if TYPE_CHECKING:
    from converter.run import Executor
    from corpus.catalog import MirrorRecord


_STORE_FAILS: Final = frozenset({"store.unreachable", "store.full", "store.denied"})
_MOST_STORE_FAILURES: Final = 3
"""Volumes in a row that a store may fail before the run ends: the next thousands would fail too, each after minutes."""

_LOOK_AHEAD: Final = 8
"""Subjects whose headers are read before it is their turn: over a network that takes longer than small volumes do."""

_LIBRARIES_BYTES: Final = 300 * 10**6
"""What a worker holds before it begins: the interpreter with numpy, zarr, Dask and s3fs."""


class _Subject:
    """The state of one subject while it is worked on."""

    def __init__(self, files: SubjectFiles, info: SubjectInfo, known: dict[str, VolumeOutcome]) -> None:
        self.files = files
        self.info = info
        self.outcomes = known
        self.waiting: set[str] = set()

    @property
    def findings(self) -> tuple[Finding, ...]:
        subject = self.info.subject
        unknown = () if self.info.license != "unknown" else (self._licence_warning(subject),)
        return (*self.files.findings, *unknown, *self._suv_warnings(subject))

    def _licence_warning(self, subject: str) -> Finding:
        source = self.info.source_institution
        message = f"Data-Source is {source!r}" if source else "no spreadsheet names its source, no rule gives it"
        return warning("warning.licence-unknown", subject, message)

    def _suv_warnings(self, subject: str) -> Iterator[Finding]:
        # A missing field is nothing to act on, and stands in the metadata; one that cannot be true is.
        if "pet" in self.files.files and (suv := suv_of(self.info)).is_implausible:
            yield warning("warning.suv-implausible", f"{subject}/pet", suv.basis)


def convert_volume(mirror_url: str, plan: VolumePlan) -> VolumeOutcome:
    """Write one volume; a failure is an outcome too. Runs on a worker."""
    try:
        return write_volume(plan, Store(mirror_url))
    except VoxshelfError as error:
        return _failed(plan.subject, plan.role, plan.digest, failure(error, plan.place))
    except Exception as error:  # noqa: BLE001  # one volume must never stop 15,000 others
        return _failed(plan.subject, plan.role, plan.digest, unexpected(error, plan.place))


def complete_subject(
    mirror_url: str,
    info: SubjectInfo,
    corpus: CorpusInfo,
    volumes: tuple[VolumeOutcome, ...],
    findings: tuple[Finding, ...],
    *,
    pictures: bool,
) -> SubjectOutcome:
    """Finish one subject, and draw it for the report page. Runs on a worker."""
    store = Store(mirror_url)
    outcome = finish_subject(store, info, corpus, volumes, findings)
    if pictures:
        add_picture(store, info.subject, PageFolder(store))
    return outcome


def _failed(subject: str, role: str, digest: str, finding: Finding) -> VolumeOutcome:
    return VolumeOutcome(subject=subject, role=role, digest=digest, image=None, findings=(finding,))


class Schedule:
    """Feeds an executor with jobs, a bounded number at a time, and keeps what came out.

    Parameters
    ----------
    store
        The mirror.
    corpus
        For the subjects' metadata.
    roles
        Volumes that are wanted.
    settings
        Of the mirror.
    listen
        Called with each event.
    pictures
        Draw each subject that is finished.

    Attributes
    ----------
    failures, warnings
        All findings of the run.
    """

    def __init__(
        self,
        store: Store,
        corpus: CorpusInfo,
        roles: tuple[str, ...],
        settings: MirrorSettings,
        listen: Listener,
        *,
        pictures: bool = True,
    ) -> None:
        self._store = store
        self._recorded = frozenset(store.keys(f"{layout.PRIVATE}/outcomes"))
        self._corpus = corpus
        self._contents = corpus.contents
        self._roles = roles
        self._settings = settings
        self._listen = listen
        self._complete = partial(complete_subject, pictures=pictures)
        self._subjects: dict[str, _Subject] = {}
        self._todo: list[tuple[str, list[str]]] = []
        self._already = 0
        self._converted = 0
        self._store_failures = 0
        self.failures: list[Finding] = []
        self.warnings: list[Finding] = []

    def add(self, files: SubjectFiles, info: SubjectInfo, done: SubjectOutcome | None) -> None:
        """Take in a subject, with what an earlier run made of it."""
        roles = [role for role in files.files if role in self._roles]
        wanted = {role: digest_of(files, role, self._settings, self._contents) for role in roles}
        stored = done.digests if done else {}
        changed = [role for role in wanted if role in stored and stored[role] != wanted[role]]
        if changed:
            error = SettingsError(
                "settings.changed",
                f"the source or the settings of {', '.join(changed)} have changed",
                place=files.subject,
            )
            self.failures.append(failure(error))
            return
        known = {volume.role: volume for volume in done.volumes if volume.image is not None} if done else {}
        missing = [role for role in wanted if role not in known]
        subject, carriers = _Subject(files, info, known), self._contents.carriers
        for role in list(missing):
            # Stored by a run that ended before its subject was complete.
            if layout.outcome_key(files.subject, role) not in self._recorded:
                continue
            version = self._settings.ome_version
            if outcome := recorded_outcome(self._store, files.subject, role, wanted[role], carriers, version):
                subject.outcomes[role] = outcome
                missing.remove(role)
        unfinished = subject.outcomes.keys() != stored.keys()
        self._already += len(wanted) - len(missing)
        self.warnings += subject.findings
        if missing or unfinished or done is None or (done.info, done.findings) != (info, subject.findings):
            self._subjects[files.subject] = subject
            self._todo.append((files.subject, missing))
        else:
            self.warnings += done.quality

    def work(self, place: Executor) -> None:
        """Run all jobs; returns when the last one is done.

        Raises
        ------
        StoreError
            The store failed several volumes in a row, or the place was lost.
        """
        self._listen(self._planned(place.place))
        running = 0
        with closing(self._jobs(place)) as jobs:
            while True:
                while running < place.slots + 1 and (more := next(jobs, 0)):
                    running += more
                if not running:
                    return
                name, result = place.next_done()
                running += self._took(place, name, result) - 1

    def report(self, mirror: MirrorRecord) -> Report:
        """Return the end of the run."""
        return Report(
            self._converted,
            self._already,
            tuple(self.failures),
            tuple(self.warnings),
            mirror.subjects,
            mirror.licenses,
        )

    def _planned(self, place: str) -> Planned:
        files = [self._subjects[subject].files.files[role] for subject, roles in self._todo for role in roles]
        return Planned(len(files), sum(file.size for file in files), self._already, place)

    def _jobs(self, place: Executor) -> Generator[int]:
        """Submit the jobs of one subject after the other, and yield how many they are."""
        for (subject, roles), reading in ahead(self._todo, self._headers, most=_LOOK_AHEAD):
            state = self._subjects[subject]
            try:
                plans = self._planned_volumes(state, roles, reading.result())
                self._require_memory(plans, place)
            except Exception as error:  # noqa: BLE001  # one odd subject must never stop 1,600 others
                self._report_failure(error, subject)
                continue
            state.waiting = {plan.role for plan in plans}
            for plan in plans:
                memory = plan.peak_bytes + _LIBRARIES_BYTES
                place.submit(f"{plan.role} {subject}", convert_volume, self._store.url, plan, peak_bytes=memory)
            if not plans:
                self._submit_finish(place, state)
            yield len(plans) or 1

    def _planned_volumes(self, state: _Subject, roles: list[str], headers: Headers) -> list[VolumePlan]:
        moved = self._moved(state, roles, headers)
        if moved:
            message = f"with their image at hand, {', '.join(moved)} would be stored in another order or place"
            error = SettingsError("settings.changed", message, place=state.info.subject)
            self._report_failure(error, state.info.subject)
        # Only that image waits for --overwrite, and not what else the source has gained.
        waiting = {self._contents.carrier(role) for role in moved}
        return list(self._plans(state, [role for role in roles if role not in waiting], headers))

    def _report_failure(self, error: Exception, subject: str) -> None:
        finding = _finding_of(error, subject)
        self.failures.append(finding)
        self._heed((finding,))

    def _require_memory(self, plans: list[VolumePlan], place: Executor) -> None:
        for plan in plans:
            if place.memory_bytes is not None and plan.peak_bytes + _LIBRARIES_BYTES > place.memory_bytes:
                message = f"needs up to {plan.peak_bytes + _LIBRARIES_BYTES} bytes, a worker has {place.memory_bytes}"
                raise SettingsError("settings.memory", message, place=plan.place)

    def _plan(self, state: _Subject, role: str, headers: Headers) -> VolumePlan:
        return plan_volume(state.files, role, headers, state.info, self._settings, self._contents)

    def _moved(self, state: _Subject, roles: list[str], headers: Headers) -> list[str]:
        """Return the label maps that are stored, and would be stored otherwise now that their image is there."""
        moved = []
        for role, outcome in state.outcomes.items():
            comes = self._contents.carrier(role) in roles
            if comes and outcome.image is not None and role in state.files.files:
                plan = self._plan(state, role, headers)
                if (plan.path, plan.reorder) != (outcome.image.path, outcome.image.reorder):
                    moved.append(role)
        return moved

    def _plans(self, state: _Subject, roles: list[str], headers: Headers) -> Iterator[VolumePlan]:
        for role in roles:
            try:
                yield self._plan(state, role, headers)
            except SourceError as error:
                digest = digest_of(state.files, role, self._settings, self._contents)
                self._keep(state, _failed(state.info.subject, role, digest, failure(error)))

    def _headers(self, missing: tuple[str, list[str]]) -> Headers:
        """Read what the volumes of a subject are planned from. Runs in a thread."""
        subject, roles = missing
        state = self._subjects[subject]
        headers: Headers = {}
        # A label map is laid on its image, also when the image itself is there already or not wanted; and one that is
        # stored is looked at again when its image comes.
        carriers = [role for role in self._contents.carriers if role not in roles]
        laid = [role for role in state.outcomes if self._contents.carrier(role) in roles]
        for role in dict.fromkeys((*roles, *carriers, *laid)):
            if role not in state.files.files:
                continue
            try:
                headers[role] = peek_volume(state.files.files[role])
            except SourceError as error:
                headers[role] = error
        return headers

    def _took(self, place: Executor, name: str, result: Any) -> int:
        """Take in a result, and return how many jobs followed from it."""
        if isinstance(result, SubjectOutcome):
            del self._subjects[result.info.subject]  # with the records of its volumes, which are many
            self.warnings += result.quality
            self._listen(SubjectDone(result.info.subject, (*result.findings, *result.quality)))
            return 0
        role, _, subject = name.partition(" ")
        state = self._subjects[subject]
        if role == "finish":
            # Only the store can fail here; the subject stays incomplete, and the next run finishes it.
            self.failures.append(_finding_of(result, name))
            return 0
        if not isinstance(result, VolumeOutcome):
            result = _failed(subject, role, "", _finding_of(result, name))
        self._keep(state, result)
        state.waiting.discard(role)
        if state.waiting:
            return 0
        self._submit_finish(place, state)
        return 1

    def _keep(self, state: _Subject, outcome: VolumeOutcome) -> None:
        state.outcomes[outcome.role] = outcome
        stored = outcome.image is not None
        self._converted += stored
        (self.warnings if stored else self.failures).extend(outcome.findings)
        self._listen(
            VolumeDone(
                outcome.subject,
                outcome.role,
                stored,
                state.files.files[outcome.role].size,
                sum(record.size for record in outcome.objects),
                outcome.seconds,
                outcome.findings,
            )
        )
        self._heed(() if stored else outcome.findings)

    def _heed(self, findings: tuple[Finding, ...]) -> None:
        """End the run where a store fails one volume after the other."""
        failed = [finding for finding in findings if finding.code in _STORE_FAILS]
        self._store_failures = self._store_failures + 1 if failed else 0
        if self._store_failures == _MOST_STORE_FAILURES:
            last = failed[-1]
            message = f"{_MOST_STORE_FAILURES} volumes in a row failed with a store; the last: {last.message}"
            raise StoreError(last.code, message, place=last.place)

    def _submit_finish(self, place: Executor, state: _Subject) -> None:
        volumes = tuple(state.outcomes[role] for role in self._contents.roles if role in state.outcomes)
        arguments = (self._store.url, state.info, self._corpus, volumes, state.findings)
        place.submit(f"finish {state.info.subject}", self._complete, *arguments)


def _finding_of(error: Any, place: str) -> Finding:
    return failure(error, place) if isinstance(error, VoxshelfError) else unexpected(error, place)
