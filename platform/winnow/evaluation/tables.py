"""The comparison of systems on one collection: a record, and its renderings for terminal and file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from winnow.evaluation.config import EvaluateConfig
from winnow.evaluation.measures import Values, mean
from winnow.evaluation.significance import PairedTest, compare

LEXICAL, BASELINE, TRAINED, HYBRID = "BM25", "off-the-shelf", "trained", "hybrid"
"""The systems of a comparison, in the order of the table's rows; hybrid only where the version has BM25."""

COMPARED = ((LEXICAL, BASELINE), (TRAINED, BASELINE), (TRAINED, LEXICAL), (HYBRID, TRAINED))
"""The pairs that are tested: a system and what it is measured against."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``system`` against ``baseline``, by measure."""

    system: str
    baseline: str
    tests: Mapping[str, PairedTest]


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """Everything the table of one collection says."""

    collection: str
    num_queries: int
    num_unjudged: int
    """Questions left out because nobody found a useful passage for them."""
    measures: tuple[str, ...]
    primary: str
    level: float
    power: float
    means: Mapping[str, Mapping[str, float]]
    """By system and measure."""
    comparisons: tuple[Comparison, ...]


def report_collection(
    collection: str, values: Mapping[str, Values], config: EvaluateConfig, *, num_unjudged: int
) -> CollectionReport:
    """The report on ``values``, which are given by system, measure and query id."""
    level, power = config.significance_level, config.power
    comparisons = tuple(
        Comparison(
            system,
            baseline,
            {
                name: compare(values[system][name], values[baseline][name], level=level, power=power)
                for name in config.measures
            },
        )
        for system, baseline in COMPARED
        if system in values
    )
    means = {system: {name: mean(values[system][name]) for name in config.measures} for system in values}
    num_queries = len(values[BASELINE][config.primary])
    return CollectionReport(
        collection, num_queries, num_unjudged, config.measures, config.primary, level, power, means, comparisons
    )


def report_to_json(report: CollectionReport) -> dict[str, Any]:
    """``report`` as plain JSON values; inverse of ``report_from_json``."""
    return asdict(report)


def report_from_json(fields: Mapping[str, Any]) -> CollectionReport:
    """The report that ``report_to_json`` wrote."""
    comparisons = tuple(
        Comparison(row["system"], row["baseline"], {name: PairedTest(**test) for name, test in row["tests"].items()})
        for row in fields["comparisons"]
    )
    return CollectionReport(**{**fields, "measures": tuple(fields["measures"]), "comparisons": comparisons})


def render_terminal(report: CollectionReport) -> Table:
    """The table for a terminal: a row per system, below them the p-values of the paired tests."""
    table = Table(title=_title(report), title_justify="left")
    table.add_column("system")
    for name in report.measures:
        table.add_column(name, justify="right")
    for cells in _mean_rows(report):
        table.add_row(*cells, end_section=cells[0] == list(report.means)[-1])
    for cells in _p_value_rows(report):
        table.add_row(*cells, style="dim")
    return table


def render_markdown(report: CollectionReport) -> str:
    """The same table and sentences in Markdown."""
    header = ["system", *report.measures]
    rows = [header, ["---", *["---:"] * len(report.measures)], *_mean_rows(report), *_p_value_rows(report)]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    notes = "\n".join(f"- {note}" for note in render_notes(report))
    return f"## {_title(report)}\n\n" + "\n".join(lines) + f"\n\n{notes}\n"


def render_notes(report: CollectionReport) -> list[str]:
    """What a reader must know beside the numbers: what could have been seen, and what was left out."""
    notes = [_power_sentence(report, comparison) for comparison in report.comparisons if comparison.system != LEXICAL]
    notes.append(
        "p-values are two-sided, paired by question and not corrected for the number of tests; "
        f"{report.primary} was chosen beforehand."
    )
    if report.num_unjudged:
        notes.append(f"Questions left out because their qrels name no useful passage: {report.num_unjudged}.")
    return notes


def _title(report: CollectionReport) -> str:
    return f"{report.collection}: {report.num_queries} questions"


def _mean_rows(report: CollectionReport) -> list[list[str]]:
    return [[system, *(f"{means[name]:.3f}" for name in report.measures)] for system, means in report.means.items()]


def _p_value_rows(report: CollectionReport) -> list[list[str]]:
    return [
        [f"p: {row.system} vs {row.baseline}", *(_render_p(row.tests[name].p_value) for name in report.measures)]
        for row in report.comparisons
    ]


def _render_p(p_value: float | None) -> str:
    if p_value is None:
        return "-"
    return "<.001" if p_value < 0.001 else f"{p_value:.3f}".removeprefix("0")


def _power_sentence(report: CollectionReport, comparison: Comparison) -> str:
    test = comparison.tests[report.primary]
    pair = f"{report.primary}, {comparison.system} against {comparison.baseline}"
    if test.num_queries < 2:
        return f"{pair}: {test.num_queries} questions cannot show a difference; at least 2 are needed, better 100."
    if test.p_value is None:
        said = "no difference observed" if test.difference == 0 else f"{test.difference:+.3f} on every question"
        return f"{pair}: {said}, so there is no spread to tell the smallest detectable difference from."
    verdict = "significant" if test.p_value < report.level else "not significant"
    return (
        f"{pair}: {test.difference:+.3f}, {verdict} (p {_equals(test.p_value)}). "
        f"With {test.num_queries} questions and the spread seen here, about {test.detectable:.3f} is the smallest "
        f"difference that is detected with {100 * report.power:g} % power at p < {report.level:g}."
    )


def _equals(p_value: float) -> str:
    text = _render_p(p_value)
    return f"{text[0]} {text[1:]}" if text.startswith("<") else f"= {text}"
