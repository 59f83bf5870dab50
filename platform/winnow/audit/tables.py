"""An audit as tables and sentences, for the terminal, for Markdown and for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Group
from rich.table import Table

from winnow.audit.biases import Place
from winnow.audit.lists import ListComparison
from winnow.audit.people import HumanAgreement
from winnow.audit.reordering import Flips
from winnow.audit.report import AuditReport
from winnow.audit.resampling import Estimate
from winnow.judging.ledger import render as render_ledger

_NOT_KNOWN = "-"
_MOST_BANDS = 5
_MEASURED = ("", "value", "95 % interval", "queries", "pairs")
_ORDER_TITLES = {"first_right": "first is right", "auc": "AUC", "sibling_auc": "AUC vs siblings"}


@dataclass(frozen=True, slots=True)
class Section:
    """One table with what must be read beside it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def sections(report: AuditReport) -> list[Section]:
    """Everything the report has to show, in the order to read it."""
    found = [_queries(report)]
    if report.people is not None:
        found += [_labels(report.people), _orders(report.people)]
    if report.lists is not None:
        found.append(_lists(report.lists))
    if report.second_judge is not None:
        found.append(_second_judge(report))
    if report.queries.ok:
        found += [_positions(report), _lengths(report)]
    if report.reordering is not None:
        found.append(_reordering(report))
    return found


def sentences(report: AuditReport) -> list[str]:
    """What the audit comes to, and what its numbers cannot say."""
    queries = report.queries
    said = [f"{queries.ok:,} of {queries.total:,} queries were judged ok, with {queries.num_pairs:,} passages in all."]
    if queries.ok == 0:
        return [*said, "There is no label to audit; see the statuses and the failures on the page."]
    if report.people is None:
        said.append(
            "No pool holds a passage that people called relevant, so nothing here says whether the labels are right: "
            "give the training questions `qrels`, or label a sample by hand."
        )
    else:
        said += _about_people(report.people, num_ok=queries.ok)
    return said if report.lists is None else said + _about_lists(report.lists)


def render_terminal(report: AuditReport) -> Group:
    """The tables for a terminal, each with its notes."""
    parts: list[Table | str] = []
    for section in sections(report):
        table = Table(title=section.title, title_justify="left")
        for number, name in enumerate(section.header):
            table.add_column(name, justify="right" if number else "left")
        for cells in section.rows:
            table.add_row(*cells)
        parts += [table, *(f"- {note}" for note in section.notes), ""]
    return Group(*parts, *(f"- {sentence}" for sentence in sentences(report)))


def render_markdown(report: AuditReport) -> str:
    """The same as Markdown."""
    lines = [f"# Audit of {report.judge_id}", "", *(f"- {sentence}" for sentence in sentences(report))]
    for section in sections(report):
        lines += ["", f"## {section.title}", "", _line(section.header)]
        lines += [_line(["---", *["---:"] * (len(section.header) - 1)]), *map(_line, section.rows)]
        lines += ["", *(f"- {note}" for note in section.notes)] if section.notes else []
    return "\n".join(lines) + "\n"


def bands(places: Sequence[Place] | Sequence[Flips]) -> list[tuple[str, list[int]]]:
    """At most five bands of neighbouring positions, named, with the indices in them.

    >>> bands([None] * 7)
    [('1-2', [0, 1]), ('3-4', [2, 3]), ('5', [4]), ('6', [5]), ('7', [6])]
    """
    parts = np.array_split(np.arange(len(places)), min(_MOST_BANDS, max(1, len(places))))
    return [(_span(int(part[0]) + 1, int(part[-1]) + 1), part.tolist()) for part in parts if len(part)]


def _queries(report: AuditReport) -> Section:
    queries = report.queries
    rows = [(f"status {name}", f"{count:,}") for name, count in queries.statuses.items()]
    rows += [(f"ok, with {number} positives", f"{count:,}") for number, count in queries.positives.items()]
    rows += [
        ("asked again", f"{queries.asked_again:,}"),
        ("judged in several windows", f"{queries.in_windows:,}"),
        ("passages cut", f"{queries.passages_cut:,}"),
    ]
    policy = ", ".join(f"{name} {value}" for name, value in report.labels.items() if value is not None)
    notes = [f"Label policy: {policy}."] if policy else []
    if report.ledger is not None:
        notes.append(f"Cost: {render_ledger(report.ledger)}.")
    return Section("Queries", ("", "count"), tuple(rows), tuple(notes))


def _labels(people: HumanAgreement) -> Section:
    rows = [
        ("precision", people.precision),
        ("recall", people.recall),
        ("positives per query", people.positives_per_query),
        ("human positives per query", people.human_per_query),
        ("Cohen's kappa", people.kappa),
    ]
    notes = ["Precision, recall and kappa pool the pairs of all queries. Unlabelled passages count as not useful."]
    if (alone := people.judged_alone) is None:
        notes.append("No agreement on judged pairs alone: people have rejected no passage of these pools.")
    else:
        rows += [
            ("precision, judged pairs alone", alone.precision),
            ("recall, judged pairs alone", alone.recall),
            ("Cohen's kappa, judged pairs alone", alone.kappa),
        ]
        notes.append(
            f"Judged pairs alone are the {alone.num_pairs:,} that people called relevant or not relevant; what they "
            "have not seen, or graded between the two, is left out."
        )
    return Section(
        f"The judge's labels against human ones: {people.num_queries:,} queries, {people.num_pairs:,} pairs",
        _MEASURED,
        tuple((name, *_cells(found)) for name, found in rows),
        tuple(notes),
    )


def _orders(people: HumanAgreement) -> Section:
    scorers = {"judge": people.order}
    for name, beside in people.beside.items():
        if beside is not None:
            where = f"where {name} did not choose"
            scorers |= {f"judge, {where}": beside.judge, f"{name}, {where}": beside.other}
            scorers |= {f"judge - {name}, {where}": beside.gain}
    rows = [
        (f"{title}: {name}", *_cells(found))
        for kind, title in _ORDER_TITLES.items()
        for name, order in scorers.items()
        if (found := getattr(order, kind)) is not None
    ]
    notes = [
        "First is right: the best-scored passage is a human positive. "
        "AUC: how often a human positive scores above another passage, averaged over queries, ties half. "
        "Siblings: against passages of the positive's own document only, where topic does not help.",
        "Where a scorer did not choose: passages that the other lists of the pools brought in. On what its own list "
        "brought in, a scorer looks worse than it is, for that list holds its own mistakes.",
    ]
    notes += [
        f"The judge beside {name}: not available, as no list of another scorer brought in a human positive with others."
        for name, beside in people.beside.items()
        if beside is None
    ]
    if people.siblings_absent is not None:
        notes.append(f"No sibling AUC: {people.siblings_absent}.")
    if people.order.first_right is None:
        notes.append("First is right: not available for a judge that says yes or no and gives no order.")
    return Section("The judge's order against human labels", _MEASURED, tuple(rows), tuple(notes))


def _lists(lists: ListComparison) -> Section:
    found = {"the pool in the judge's order": lists.judged, **{f"list {name}": by for name, by in lists.lists.items()}}
    found |= {f"judged pool - list {name}": by for name, by in lists.gains.items()}
    rows = [(f"{measure}: {name}", *_cells(by[measure])) for measure in lists.judged for name, by in found.items()]
    notes = (
        "All human positives count, found or not; passages that only people added to a pool are left out of it.",
        "This is what judging adds to a list, not which of the two scores better: the judged pool has the knowledge of "
        "the lists in it.",
    )
    title = f"What judging adds to the ranked lists: {lists.num_queries:,} queries"
    return Section(title, _MEASURED[:-1], tuple(row[:-1] for row in rows), notes)


def _second_judge(report: AuditReport) -> Section:
    found = report.second_judge
    return Section(
        f"Against another judge: {found.num_queries:,} queries, {found.num_pairs:,} pairs in common",
        _MEASURED,
        (
            ("Cohen's kappa of positives", *_cells(found.kappa)),
            ("Spearman's rho within queries", *_cells(found.spearman)),
            *((name, f"{count:,}", "", "", "") for name, count in _overlap(report).items()),
        ),
        (f"The other judge: {report.second_judge_id}. The same label policy makes positives of both.",),
    )


def _overlap(report: AuditReport) -> Mapping[str, int]:
    found = report.second_judge
    return {
        "positive for both": found.both,
        "for this judge only": found.only_first,
        "for the other only": found.only_second,
        "for neither": found.neither,
    }


def _positions(report: AuditReport) -> Section:
    rows = []
    for name, members in bands(report.positions.places):
        places = [report.positions.places[index] for index in members]
        pairs, positives = sum(p.num_pairs for p in places), sum(p.num_positives for p in places)
        expected = sum(place.expected for place in places)
        rows.append((name, f"{pairs:,}", f"{positives:,}", f"{expected:,.1f}", _number(positives / max(1, pairs))))
    positions = report.positions
    p_value = "not defined" if positions.p_value is None else f"{positions.p_value:.3g}"
    note = (
        f"Chi-square {positions.chi_square:.1f} with {positions.degrees} degrees of freedom, p = {p_value}: how often "
        "chance alone spreads the positives this unevenly over shuffled pools. A judge that sees one passage at a "
        "time cannot know its position."
    )
    header = ("position", "pairs", "positives", "expected by chance", "share")
    return Section("Positives by position in the prompt", header, tuple(rows), (note,))


def _reordering(report: AuditReport) -> Section:
    found = report.reordering
    rows = []
    for name, members in bands(found.flips):
        flips = [found.flips[index] for index in members]
        gained, lost = sum(flip.gained for flip in flips), sum(flip.lost for flip in flips)
        rows.append((name, f"{sum(flip.num_pairs for flip in flips):,}", f"{gained:,}", f"{lost:,}"))
    notes = (
        f"{found.num_asked:,} queries were judged again with their passages in another order; {found.num_queries:,} "
        f"were judged ok both times. Kappa of the two readings: {_short(found.kappa)}.",
        f"{found.towards_front:,} flips favour the front of the prompt, {found.towards_back:,} the back.",
    )
    header = ("position at first", "pairs", "became positive", "ceased to be")
    return Section("The same pools in another order", header, tuple(rows), notes)


def _lengths(report: AuditReport) -> Section:
    lengths = report.lengths
    rows = (
        ("judge's score", *_cells(lengths.judge)[:3]),
        ("human label", *_cells(lengths.human)[:3]),
    )
    note = (
        f"Mean words: {_words(lengths.words_of_positives)} in the judge's positives, "
        f"{_words(lengths.words_of_others)} in the others."
    )
    header = ("Spearman's rho with the number of words", "value", "95 % interval", "queries")
    return Section("Length", header, rows, (note,))


def _about_people(people: HumanAgreement, *, num_ok: int) -> list[str]:
    said = [
        f"{people.num_queries:,} of the {num_ok:,} have a passage in the pool that people labelled useful, "
        f"{_number(people.human_per_query.value)} on average. A judge's positive that nobody labelled counts as wrong, "
        "and human labels are sparse: precision and kappa are floors."
    ]
    for name, beside in people.beside.items():
        kinds = () if beside is None else (("", beside.gain.auc), (" against siblings", beside.gain.sibling_auc))
        for kind, found in kinds:
            if found is not None and found.low is not None:
                where = f"where {name} did not choose the passages"
                said.append(f"AUC{kind}, judge minus {name}, {where}: {found.value:+.3f}, {_verdict(found)}.")
    return said


def _about_lists(lists: ListComparison) -> list[str]:
    return [
        f"{name} of the pool in the judge's order minus list {source}: {found.value:+.3f}, {_verdict(found)}."
        for source, by_measure in lists.gains.items()
        for name, found in by_measure.items()
        if found.low is not None
    ]


def _verdict(found: Estimate) -> str:
    interval = f"95 % interval {found.low:+.3f} to {found.high:+.3f} over {found.num_queries:,} queries"
    return f"{interval}, which " + ("includes 0" if found.low <= 0 <= found.high else "excludes 0")


def _cells(found: Estimate) -> tuple[str, str, str, str]:
    pairs = _NOT_KNOWN if found.num_pairs is None else f"{found.num_pairs:,}"
    return _number(found.value), _interval(found), f"{found.num_queries:,}", pairs


def _short(found: Estimate | None) -> str:
    if found is None or found.value is None:
        return _NOT_KNOWN
    return _number(found.value) if found.low is None else f"{_number(found.value)} ({_interval(found)})"


def _interval(found: Estimate) -> str:
    return _NOT_KNOWN if found.low is None else f"{_number(found.low)} to {_number(found.high)}"


def _number(value: float | None) -> str:
    return _NOT_KNOWN if value is None else f"{value:.3f}"


def _words(value: float | None) -> str:
    return _NOT_KNOWN if value is None else f"{value:.0f}"


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
