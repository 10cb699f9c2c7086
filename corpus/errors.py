"""The error tree, grouped by what the reader of the message has to do, and the table of all codes.

Every error has a stable code, the place it concerns (a file, a URL, a subject) and a hint. Codes never change
meaning; ``docs/errors.md`` lists them, and a test compares that page with this table.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Code(NamedTuple):
    """What a code stands for.

    Attributes
    ----------
    meaning
        What is wrong, in one sentence.
    hint
        What a person can do about it.
    """

    meaning: str
    hint: str


_SOURCE: Final = {
    "source.unreadable": Code(
        "A source file could not be opened or read.",
        "Check that the path exists and may be read; for S3, that the credentials are set.",
    ),
    "source.gzip-corrupt": Code(
        "The gzip stream is damaged: a checksum or the deflate data is wrong.",
        "Fetch the file again; `gzip -t FILE` must be silent.",
    ),
    "source.gzip-truncated": Code(
        "The gzip stream ends too early, or is followed by bytes that belong to no gzip member.",
        "Fetch the file again: a download was probably cut; `gzip -t FILE` must be silent.",
    ),
    "source.not-nifti": Code(
        "The file is not NIfTI-1 or NIfTI-2 in one file.",
        "Only single-file NIfTI (.nii, .nii.gz) is converted; convert other formats first.",
    ),
    "source.pair": Code(
        "The file is one of a .hdr/.img pair (Analyze or NIfTI), which is not converted.",
        "Join the pair first: `nib-convert PAIR.hdr OUT.nii.gz`. Analyze knows no left and right: check them.",
    ),
    "source.header-invalid": Code(
        "The NIfTI header contradicts itself.",
        "Write the file anew with the tool that made it.",
    ),
    "source.datatype-unsupported": Code(
        "The voxel type is not a real integer or a float of 4 or 8 bytes.",
        "Complex, RGB, float16 and long double volumes are out of scope; split or cast them first.",
    ),
    "source.not-3d": Code(
        "The volume does not have three dimensions.",
        "Split a dynamic or vector series into 3-D files; trailing dimensions of 1 are accepted.",
    ),
    "source.size-mismatch": Code(
        "The voxel data are shorter or longer than the header says.",
        "Fetch the file again; if it stays so, write it anew with the tool that made it.",
    ),
    "source.label-fractional": Code(
        "A label map holds values that are not whole numbers (off by more than 0.001).",
        "A label map must not be interpolated; resample it with nearest neighbour.",
    ),
    "source.label-range": Code(
        "A label map holds values that are negative or above 4294967295.",
        "Label values must fit an unsigned 32-bit integer.",
    ),
    "source.subject-id": Code(
        "The id of a subject that a file's name holds cannot be used.",
        "It begins with a letter or digit and has only those, - and _: rename the file, or mend the description.",
    ),
    "source.archive-unreadable": Code(
        "A zip archive could not be opened, or a member of it is refused.",
        "Fetch the archive again; encrypted archives and members that climb out of it are refused.",
    ),
    "source.sheet-unreadable": Code(
        "A spreadsheet of the corpus could not be read.",
        "Fetch it again, or save it as .xlsx with the header in the first row; licences are unknown without it.",
    ),
    "source.corpus-file": Code(
        "The corpus.json of a source cannot be used.",
        "It is a JSON object with the texts name, release and citation.",
    ),
    "source.label-table": Code(
        "A label table cannot be used.",
        "It has one row per label with value (or index) and name, each once; docs/corpora.md describes it.",
    ),
    "source.mask-values": Code(
        "A binary mask holds a value that is neither 0 nor 1.",
        "Only binary masks are packed; a label map needs a rule with files instead of masks.",
    ),
    "source.mask-lattice": Code(
        "The binary masks of one label map do not lie on one lattice in one voxel order.",
        "Write the mask that is named anew on the lattice of the others.",
    ),
    "source.unexpected": Code(
        "An error that voxshelf does not know stopped this volume.",
        "Please report it with the file's header and the message.",
    ),
}
_SETTINGS: Final = {
    "settings.url": Code(
        "A path or URL cannot be used.",
        "Give a folder, or a URL such as s3://bucket/prefix.",
    ),
    "settings.corpus": Code(
        "The description of a corpus cannot be used.",
        "docs/corpora.md lists all keys; `voxshelf inventory SRC --corpus FILE` shows what a description finds.",
    ),
    "settings.no-subjects": Code(
        "Nothing to do: no volume was found or selected.",
        "`voxshelf inventory SRC` shows what is found; check SRC, --subjects, --license and --volumes.",
    ),
    "settings.option": Code(
        "An option or an argument has a value that cannot be used.",
        "See `voxshelf COMMAND --help`.",
    ),
    "settings.missing-extra": Code(
        "A package that this command needs is not installed.",
        "Install voxshelf with the extra that is named: voxshelf[convert] or voxshelf[serve].",
    ),
    "settings.changed": Code(
        "A published subject was converted from another source or with other settings.",
        "Convert into a new mirror, or give --overwrite, which unpublishes the subject first.",
    ),
    "settings.memory": Code(
        "A task needs more memory than its worker has.",
        "Start workers with more memory, or fewer of them.",
    ),
}
_STORE: Final = {
    "store.unreachable": Code(
        "The object store did not answer, or failed.",
        "Try again; check the endpoint and the network. A convert goes on where it stopped.",
    ),
    "store.full": Code(
        "The disk, or the quota, that the mirror lies on is full.",
        "Make room and run convert again: it goes on where it stopped.",
    ),
    "store.timeout": Code(
        "The object store did not answer in time.",
        "Try again in a moment; if it stays so, the store or the network to it is overloaded or down.",
    ),
    "store.changed": Code(
        "An object changed while it was read.",
        "Read it again: bytes of the old and the new object are never mixed.",
    ),
    "store.busy": Code(
        "All that may decode at once is decoding.", "Try again in a moment; the operator can allow more at once."
    ),
    "store.denied": Code(
        "The object store refused access.",
        "Check the credentials and the bucket policy; without leave to list, S3 answers 403 for a missing key.",
    ),
    "store.read-back": Code(
        "What was read back from the store is not what was written.",
        "Run convert again; if it happens twice, check the disk or the store.",
    ),
    "store.worker-lost": Code(
        "The worker that had this volume died, and so did those that were given it next.",
        "Look for a memory kill in the worker's log; run it again with fewer workers or more memory each.",
    ),
    "store.scheduler-lost": Code(
        "The Dask scheduler, or the way to it, broke off while jobs were under way.",
        "Start the scheduler anew and run the same command again: a convert goes on where it stopped.",
    ),
    "store.locked": Code(
        "Another run is writing this mirror.",
        "Wait until it has ended. If it is dead, its lock ends by itself after five minutes, or give --break-lock.",
    ),
    "store.lock-lost": Code(
        "Another run has taken this mirror over, so that this one stopped.",
        "See that only one run writes a mirror, and run it again.",
    ),
}
_LAYOUT: Final = {
    "layout.not-a-mirror": Code(
        "There is no mirror.json: not a mirror, or one whose first publication has not finished.",
        "Check the path, or run convert again: it goes on where it stopped.",
    ),
    "layout.version": Code(
        "The mirror was written by a layout that this version does not read.",
        "Use the voxshelf version that the mirror.json names, or a newer one.",
    ),
    "layout.table": Code(
        "A table of the mirror is missing, or is not the one that mirror.json names.",
        "Run convert again: it writes the tables anew from the outcome records.",
    ),
    "layout.object": Code(
        "An object of a subject is missing, or its bytes are not those that were written.",
        "Restore it from a copy, or convert the subject again with --overwrite.",
    ),
    "layout.stale-copy": Code(
        "The consolidated metadata of a group are not what the documents of its members say.",
        "Readers see the copy. Convert the subject again with --overwrite.",
    ),
    "layout.table-row": Code(
        "A table says something else than the subject's store, its record or its voxels.",
        "Run convert again: it writes the tables anew. If it stays so, convert the subject again with --overwrite.",
    ),
    "layout.voxels": Code(
        "The voxels of a stored array are not those that were recorded, or not those of the source.",
        "Do not use the volume. Convert the subject again with --overwrite.",
    ),
    "layout.metadata": Code(
        "The metadata of a stored volume are missing or cannot be understood.",
        "Convert the subject again with --overwrite.",
    ),
}
_NOT_FOUND: Final = {
    "not-found.subject": Code("The mirror does not list this subject.", "`voxshelf info MIRROR` lists them."),
    "not-found.volume": Code(
        "The subject does not have this volume.", "`voxshelf info MIRROR SUBJECT` lists its volumes."
    ),
    "not-found.label": Code(
        "The label map does not hold this label.", "`voxshelf info MIRROR SUBJECT` lists the labels."
    ),
    "not-found.level": Code("The volume does not have this level.", "`voxshelf info MIRROR SUBJECT` lists the levels."),
    "not-found.withdrawn": Code(
        "The mirror does not list this subject any more.", "Open the subject anew; `/v1/subjects` lists them."
    ),
    "not-found.route": Code("There is no such page or route.", "`/docs` and `/openapi.json` list what there is."),
    "not-found.key": Code("There is no such object.", "For a chunk, this means that all its voxels are 0."),
}
_REQUEST: Final = {
    "request.key": Code("The key is malformed.", "Keys are relative, without '..', empty segments or backslashes."),
    "request.range": Code("The range lies outside the object.", "Ask for its size with HEAD."),
    "request.region": Code(
        "The region is empty, or lies outside the volume.", "The box of the volume is in `voxshelf info`."
    ),
    "request.licence": Code(
        "The licence of this subject does not allow it to be served.",
        "A subject whose licence is unknown is never served as open.",
    ),
    "request.precondition": Code(
        "The object is not the one that If-Match names any more.", "Open the subject anew, and read again."
    ),
    "request.rate": Code(
        "This client has too many requests under way, or was sent too many bytes.",
        "Wait as long as Retry-After says; read with less concurrency.",
    ),
    "request.busy": Code("The service has as many requests under way as it takes.", "Try again in a moment."),
    "request.too-large": Code(
        "More voxels are asked for than one answer may hold.",
        "Ask for a smaller region or a coarser level, or read the store with zarr, which has no such limit.",
    ),
    "request.acknowledge": Code(
        "The licence of this subject has to be acknowledged first.",
        "Send its SPDX id in the header X-Voxshelf-Acknowledge, or as ?acknowledge=ID.",
    ),
    "request.token": Code(
        "The data of this subject need a token.", "Send 'Authorization: Bearer TOKEN'; the operator gives tokens out."
    ),
    "request.token-unknown": Code(
        "The bearer token is not known.", "Check that it was copied whole; the operator may have withdrawn it."
    ),
    "request.token-licence": Code(
        "The bearer token is not for the licence of this subject.",
        "`/v1/licenses` lists the licences; ask the operator for a token for this one.",
    ),
    "request.unexpected": Code(
        "An error that voxshelf does not know ended this request.",
        "Try again; if it happens twice, tell the operator the X-Request-Id: the log holds the reason.",
    ),
    "request.method": Code("The route does not have this method.", "Everything is read with GET or HEAD."),
    "request.parameter": Code("A query parameter cannot be used.", "The OpenAPI document lists them."),
}
CODES: Final[dict[str, Code]] = {**_SOURCE, **_SETTINGS, **_STORE, **_LAYOUT, **_NOT_FOUND, **_REQUEST}


class VoxshelfError(Exception):
    """Base of all errors that voxshelf raises on purpose.

    Parameters
    ----------
    code
        A key of `CODES`.
    message
        What happened, with what was expected and what was found.
    place
        The file, URL, subject or option it concerns.
    hint
        What to do; the hint of the code when empty.
    """

    kind = "unexpected"

    def __init__(self, code: str, message: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(code, message, place, hint)
        self.code = code
        self.message = message
        self.place = place
        self.hint = hint or CODES[code].hint

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.message} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; the default would lose the keyword arguments.
        return (_rebuild, (type(self), self.code, self.message, self.place, self.hint))


def _rebuild(kind: type[VoxshelfError], code: str, message: str, place: str, hint: str) -> VoxshelfError:
    return kind(code, message, place=place, hint=hint)


class SourceError(VoxshelfError, ValueError):
    """The input is bad: fetch or write the file anew. The file is quarantined, everything else goes on."""

    kind = "source"


class SettingsError(VoxshelfError, ValueError):
    """The call is wrong: use other options."""

    kind = "settings"


class StoreError(VoxshelfError, OSError):
    """The storage failed: try again, or mend it."""

    kind = "store"

    def __str__(self) -> str:
        return VoxshelfError.__str__(self)


class LayoutError(VoxshelfError, ValueError):
    """The mirror is not what it should be: restore or convert again."""

    kind = "layout"


class NotFoundError(VoxshelfError, LookupError):
    """What was asked for does not exist."""

    kind = "not-found"


class RequestError(VoxshelfError, ValueError):
    """A reader asked for something that cannot be given: ask differently."""

    kind = "request"


EXIT_STATUS: Final[dict[str, int]] = {
    "settings": 2,
    "source": 3,
    "store": 4,
    "layout": 5,
    "not-found": 6,
    "request": 7,
}
"""Exit status of a command that an error of each kind ended. 0 is success; 1 means that the run itself went
through, and some volumes failed and are listed."""
