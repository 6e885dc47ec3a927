"""An index of adapters on the Hub: their configurations and hashes, and summaries of their datasets. No weights."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path

from lorameta.bank import edit
from lorameta.bank.counting import Counting, silent
from lorameta.bank.garbage import retired
from lorameta.bank.hub.client import Client, Trouble
from lorameta.bank.hub.presets import Collection, Member
from lorameta.bank.lock import clear_work, locked, refuse_foreign, work_folder
from lorameta.bank.manifest import MANIFEST, read_manifest
from lorameta.bank.records import AdapterRecord, BaseRecord, Manifest
from lorameta.bank_builder.hub.adapters import look
from lorameta.bank_builder.hub.rows import MAX_ROWS, stream
from lorameta.bank_builder.hub.state import MemberState, States
from lorameta.bank_builder.hub.tokenizer import find_tokenizer
from lorameta.bank_builder.summarise import Summariser
from lorameta.data import ReadOptions, read_alike
from lorameta.encoder.join import join
from lorameta.encoder.summary import Summaries
from lorameta.errors import BankError, LorametaError, UsageError, violations
from lorameta.files.links import remove_folder, user_path

#: Adapters that are asked for at once.
JOBS = 4
#: Adapters that could not be fetched for now, after which a run stops.
GIVE_UP = 3


@dataclass(frozen=True)
class Indexed:
    """What :func:`build` did.

    Attributes
    ----------
    path : Path
        The bank.
    adapters : int
        How many are in it.
    left_out : tuple of dict
        ``id`` and ``reason`` of those that are not.
    renamed : dict of str to str
        Repositories that are in it under the name that they have by now.
    looked, encoded : int
        Adapters looked at and datasets read in this run; the others were finished in an earlier one.
    notes : tuple of str
        What is good to know.
    """

    path: Path
    adapters: int
    left_out: tuple[dict[str, str], ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    looked: int = 0
    encoded: int = 0
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all adapters are in the bank, under the names that were given."""
        return not self.left_out and not self.renamed


@dataclass
class _Work:
    """What the threads of a build share."""

    client: Client
    states: States
    base: BaseRecord
    summariser: Summariser
    max_rows: int
    looked: int = 0
    encoded: int = 0


def build(
    out: str | PathLike[str],
    collection: Collection,
    *,
    client: Client | None = None,
    base: str = "",
    name: str | None = None,
    revision: str | None = None,
    tokenizer: str | None = None,
    sentences: bool = False,
    max_rows: int = MAX_ROWS,
    skip_bad: bool = False,
    jobs: int = JOBS,
    reading: ReadOptions | None = None,
    counting: Counting = silent,
) -> Indexed:
    """Make a bank of adapters that stay on the Hub until a mix needs them.

    For each adapter the Hub is asked for the newest commit, the hash of its weights and its configuration, and for its
    dataset, which is streamed once and summarised. What the Hub refuses for good (gated or missing repositories,
    adapters that are no plain LoRA or of another base, datasets that cannot be read) is left out and listed.

    Parameters
    ----------
    out : path
        A new or empty directory, one in which an earlier run stopped, or a bank made of the same collection: then
        only what it lacks is asked for.
    collection : Collection
        See :mod:`lorameta.bank.hub.presets` and :mod:`lorameta.bank_builder.hub.collect`.
    client : Client, optional
    base : str
        Hub id of the base model; by default that of the collection.
    name : str, optional
        The bank's; by default that of the collection.
    revision : str, optional
        Of the base.
    tokenizer : str, optional
        A directory or a repository on the Hub with the base's ``tokenizer.json``; by default the base.
    sentences : bool
        Make sentence summaries too. Needs the extra `sentence`.
    max_rows : int
        Rows of each dataset that are read at most.
    skip_bad : bool
        Also leave out what could not be fetched for now, instead of stopping.
    jobs : int
        Adapters that are asked for at once.
    reading : ReadOptions, optional
        Of datasets with other columns.
    counting : callable
        For progress.

    Returns
    -------
    Indexed

    Raises
    ------
    Trouble
        Something could not be fetched for now: the same command goes on where this one stopped.
    BankError
        No adapter is left.
    UsageError
        The options cannot work.
    """
    root = user_path(out).resolve()
    base = base or collection.base_model
    if not base:
        raise UsageError("give the base model of the adapters: --base, an id of the Hub")
    old = _old(root, collection, base)
    record = BaseRecord(base, revision=revision)
    client = client or Client("making a bank out of adapters on the Hub")
    with locked(root, name="build.lock"):
        folder = work_folder(root, "hub")
        if old is None and "tokenizer" in retired(root):
            remove_folder(root, "tokenizer")  # of a run that was killed at its very end
        tokens = root / "tokenizer" if old else find_tokenizer(client, tokenizer or base, folder, revision)
        with_sentences = sentences if old is None else "sentence" in old.encoders
        parts = ("tokens", "sentence") if with_sentences else ("tokens",)
        summariser = Summariser(tokens, parts, reading or ReadOptions())
        key = [base, revision, summariser.tokenizer_hash, parts, summariser.reading.as_dict(), max_rows]
        summariser.encoders()  # a missing extra shows before the work
        states = States(folder, key)
        work = _Work(client, states, record, summariser, max_rows)
        known = {one.id for one in old.adapters} if old else set()
        wanted = [member for member in collection.members if member.id not in known]
        found, troubles = _all(work, wanted, jobs, None if skip_bad else GIVE_UP, counting)
        _stop(troubles, skip_bad, root)
        left_out = {name: [str(trouble)] for name, trouble in troubles.items()}
        left_out |= {name: state.problems for name, state in found.items() if state.problems}
        manifest, summaries = _manifest(root, collection, work, old, wanted, found, left_out, name)
        moves = {} if old else {"tokenizer": tokens}
        edit.replace_bank(root, old, edit.Change(manifest, summaries, moves))
        clear_work(root, "hub")
    taken = [state for id, state in found.items() if id not in left_out]
    renamed = {was: now for state in taken for was, now in state.renamed.items()}
    notes = (*read_alike(summariser.reads), *(note for state in taken for note in state.notes))
    return Indexed(root, len(manifest.adapters), manifest.left_out, renamed, work.looked, work.encoded, notes)


def _old(root: Path, collection: Collection, base: str) -> Manifest | None:
    """Return the bank that is to be completed, if there is one; UsageError where another one, or other files, are."""
    if (root / MANIFEST).is_file():
        old = read_manifest(root)
        if old.recipe.get("hub") != collection.origin or old.base.model != base:
            raise UsageError(f"{root} is a bank already, and not one of this collection; give a new directory")
        return old
    refuse_foreign(root, "hub")
    return None


def _all(
    work: _Work, wanted: Sequence[Member], jobs: int, give_up: int | None, counting: Counting
) -> tuple[dict[str, MemberState], dict[str, Trouble]]:
    """Finish all adapters: their states by id, and what stood in the way of others, of `give_up` of them at most."""
    found: dict[str, MemberState] = {}
    troubles: dict[str, Trouble] = {}
    passing: list[Trouble] = []
    with counting("reading", len(wanted), "adapters") as progress, ThreadPoolExecutor(max(1, jobs)) as pool:

        def finish(member: Member) -> MemberState | Trouble | None:
            if give_up is not None and len(passing) >= give_up:
                return None  # the network is down, or the Hub: nobody is helped by asking for all the others
            try:
                return _finish(work, member)
            except Trouble as trouble:
                passing.extend([trouble] if trouble.passing else [])
                return trouble
            finally:
                progress(1)

        try:
            for member, one in zip(wanted, pool.map(finish, wanted), strict=True):
                if isinstance(one, Trouble):
                    troubles[member.id] = one
                elif one is not None:
                    found[member.id] = one
        except BaseException:
            work.client.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found, troubles


def _finish(work: _Work, member: Member) -> MemberState:
    """Ask for what is not known of an adapter yet; its state is kept after each step."""
    facts = asdict(member)
    state = work.states.load(member.id, facts)
    if state.done and (state.problems or work.states.summary(member.id) is not None):
        return state
    if state.adapter is None:
        seen = look(work.client, member, work.base, work.states.files(member.id))
        state = MemberState(None if seen.problems else seen.facts, None, seen.problems, repo=seen.dataset)
        if seen.renamed:
            state.renamed[member.adapter] = seen.renamed
        work.looked += 1
        work.states.save(member.id, facts, state)
        if state.problems:
            return state
    read = stream(work.client, member, state.repo, work.summariser, work.max_rows)
    if read.renamed:
        state.renamed[state.repo] = read.renamed
    state.problems, state.notes = read.problems, read.notes
    if read.summaries is not None:
        work.states.keep(member.id, read.summaries)
        state.dataset = read.facts
        work.encoded += 1
    work.states.save(member.id, facts, state)
    return state


def _stop(troubles: dict[str, Trouble], skip: bool, root: Path) -> None:
    """Stop for what may pass; what stays is left out."""
    passing = {name: trouble for name, trouble in troubles.items() if trouble.passing}
    if passing and not skip:
        heading = f"not everything could be fetched for now, so no bank was written to {root}:"
        remedy = "Run the same command again: it goes on where this one stopped. --skip-bad leaves them out."
        raise LorametaError(violations([f"{name}: {one}" for name, one in sorted(passing.items())], heading, remedy))


def _manifest(
    root: Path,
    collection: Collection,
    work: _Work,
    old: Manifest | None,
    wanted: Sequence[Member],
    found: dict[str, MemberState],
    left_out: dict[str, list[str]],
    name: str | None,
) -> tuple[Manifest, Summaries]:
    records = list(old.adapters) if old else []
    summaries = [Summaries.load(root / old.summaries["file"])] if old else []
    for member in wanted:
        if member.id in left_out:
            continue
        state, summary = found[member.id], work.states.summary(member.id)
        assert state.adapter is not None and state.dataset is not None and summary is not None  # noqa: PT018 - done
        adapter = {**state.adapter, "targets": tuple(state.adapter["targets"])}
        fields = {"family": "", "path": f"adapters/{member.id}", **state.dataset, **member.facts, **adapter}
        records.append(AdapterRecord(member.id, **fields))
        summaries.append(summary)
    reasons = tuple({"id": id, "reason": "; ".join(left_out[id])} for id in sorted(left_out))
    if not records:
        lines = [f"{entry['id']}: {entry['reason']}" for entry in reasons]
        raise BankError(violations(lines, f"no adapter is left, so no bank was written to {root}:"))
    base = replace(old.base if old else work.base, tokenizer_hash=work.summariser.tokenizer_hash)
    encoders = work.summariser.encoders()
    recipe = {"hub": collection.origin, "rows_at_most": work.max_rows}
    bank_name = name or (old.name if old else collection.name)
    return Manifest(bank_name, base, {}, tuple(records), encoders, reasons, recipe), join(*summaries)
