"""The command line: arguments in, one step called, exit code out. Nothing else happens here."""

import io
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from winnow import __version__
from winnow.config import load_config, refuse_url
from winnow.errors import WinnowError
from winnow.machine import Ended, share_cores, signals_end_the_block, trouble_of

if TYPE_CHECKING:
    from winnow.steps.config import RunConfig
    from winnow.steps.keys import Scope

_EPILOG = (
    "Exit codes: 0 done, 2 usage, configuration or machine, 3 input data, 4 too many failed rows, 1 our bug; "
    "130 after Ctrl-C, 143 after SIGTERM."
)


class _Group(click.Group):
    """Lists verbs in the order of the pipeline, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class _Path(click.Path):
    """A path on a disk."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            refuse_url(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx)


@click.group(cls=_Group, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Label which passages are useful with an LLM, train a retriever on those labels, serve it.

    One YAML file configures all verbs; `winnow run` chains them. A step whose output is already
    there is skipped, so each verb can be repeated freely.
    """


def _shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="A.B=C",
        help="Override one setting, such as train.epochs=3; may be repeated.",
    )(command)
    return click.option(
        "--config",
        "config_path",
        type=_Path(),
        required=True,
        metavar="FILE",
        help="The run's YAML file; its sections are described in docs/configuration.md.",
    )(command)


def _batch_verb(name: str, help_text: str) -> None:
    @cli.command(name, help=help_text)
    @_shared_options
    @click.option("--force", is_flag=True, help="Do it again even if its output is there.")
    def verb(config_path: Path, overrides: Sequence[str], force: bool) -> None:
        from winnow.steps.verbs import run_verb

        run_verb(name, _load(config_path, overrides), force=force)


@cli.command()
@_shared_options
@click.option("--force", is_flag=True, help="Do it again even if its output is there.")
@click.option("--stats", is_flag=True, help="Show the recall of human positives by source and depth.")
def pool(config_path: Path, overrides: Sequence[str], force: bool, stats: bool) -> None:
    """Unite ranked lists (BM25, dense encoders, TREC run files) into candidate pools."""
    from winnow.steps.verbs import run_verb

    config = _load(config_path, overrides)
    run_verb("pool", config, force=force)
    if stats:
        from winnow.steps.pool import show_stats

        show_stats(config)


@cli.command()
@_shared_options
@click.option("--force", is_flag=True, help="Judge everything again; the old evidence is kept aside.")
@click.option("--dry-run", is_flag=True, help="Only estimate tokens, time and cost, from a sample.")
def annotate(config_path: Path, overrides: Sequence[str], force: bool, dry_run: bool) -> None:
    """Let the LLM judge every candidate of every question; resumes where it stopped."""
    config = _load(config_path, overrides)
    if dry_run:
        from winnow.steps.estimate import estimate

        estimate(config, judge_all_again=force)
    else:
        from winnow.steps.verbs import run_verb

        run_verb("annotate", config, force=force)


_batch_verb("audit", "Hold the judge against people: agreement, biases, costs; a page to read its labels on.")
_batch_verb("label", "Turn the judge's evidence into positives and hard negatives.")
_batch_verb("train", "Train the encoder on the labels, on several workers; resumes from its last checkpoint.")
_batch_verb("index", "Encode the corpus and build the index: encoder and index are one version.")


@cli.command()
@_shared_options
@click.option("-q", "--query", "queries", multiple=True, required=True, help="What to search for; may be repeated.")
@click.option("-k", type=click.IntRange(1, 1000), default=5, show_default=True, help="Results per query.")
@click.option(
    "--mode",
    type=click.Choice(["dense", "bm25", "hybrid"]),
    default="dense",
    show_default=True,
    help="What ranks: the encoder's vectors, BM25, or both.",
)
@click.option(
    "--filter",
    "conditions",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only passages whose field has this value; may be repeated.",
)
def search(
    config_path: Path, overrides: Sequence[str], queries: Sequence[str], k: int, mode: Any, conditions: Sequence[str]
) -> None:
    """Search the run's trained index from the command line."""
    from winnow.steps.search import parse_conditions
    from winnow.steps.search import search as search_step

    config = _load(config_path, overrides)
    found = search_step(config, queries, k, mode=mode, filter=parse_conditions(conditions))
    for query, hits in zip(queries, found, strict=True):
        click.echo(f"\n{query}")
        for rank, hit in enumerate(hits, start=1):
            click.echo(f"{rank:3d}. {hit.score:.4f}  {hit.passage_id}  {hit.title}")


_batch_verb("evaluate", "Measure BM25, the encoder before training and the trained retriever; register the version.")


@cli.command()
@_shared_options
@click.option("--keep", is_flag=True, help="Leave the endpoint running in the background and return.")
@click.option("--without-ray", is_flag=True, help="One process under uvicorn: no Ray, no replicas.")
def serve(config_path: Path, overrides: Sequence[str], keep: bool, without_ray: bool) -> None:
    """Serve a retriever version over HTTP, until Ctrl-C."""
    if keep and without_ray:
        raise click.UsageError("--keep and --without-ray do not go together: let your shell keep the process")
    config = _load(config_path, overrides)
    if without_ray:
        from winnow.steps.serve_alone import serve_without_ray as act
    elif keep:
        from winnow.steps.serve import serve_in_background as act
    else:
        from winnow.steps.serve import serve_until_stopped as act
    act(config)


@cli.group()
def keys() -> None:
    """API keys of an endpoint: made once, shown once, kept as hashes."""


_KEY_FILE = click.option("--file", "path", type=_Path(), required=True, help="The file of keys.")


@keys.command("create")
@_KEY_FILE
@click.option("--name", required=True, help="Whose key it is.")
@click.option("--scope", type=click.Choice(["search", "admin"]), default="search", show_default=True)
@click.option("--rate-per-minute", type=click.FloatRange(min=0, min_open=True), help="Requests over all replicas.")
def keys_create(path: Path, name: str, scope: "Scope", rate_per_minute: float | None) -> None:
    """Make a key and print it; it cannot be shown again."""
    from winnow.steps import keys as step

    step.create(path, name=name, scopes=(scope,), rate_per_minute=rate_per_minute)


@keys.command("list")
@_KEY_FILE
def keys_list(path: Path) -> None:
    """Ids, names, scopes; nothing secret."""
    from winnow.steps import keys as step

    step.show(path)


@keys.command("revoke")
@_KEY_FILE
@click.argument("key_id")
def keys_revoke(path: Path, key_id: str) -> None:
    """Make a key useless; a running endpoint refuses it within seconds."""
    from winnow.steps import keys as step

    step.revoke(path, key_id)


@cli.command()
@click.argument("yaml_file", required=False, type=_Path(), metavar="[FILE]")
@click.option("--config", "config_path", type=_Path(), metavar="FILE", help="The same as FILE.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override one setting; may be repeated.")
@click.option("--force", is_flag=True, help="Do every step again even if its output is there.")
@click.option("--keep", is_flag=True, help="Leave the endpoint running at the end.")
def run(yaml_file: Path | None, config_path: Path | None, overrides: Sequence[str], force: bool, keep: bool) -> None:
    """All steps, from raw text to a served and compared retriever."""
    if (yaml_file is None) == (config_path is None):
        raise click.UsageError("give the run's YAML file once: `winnow run FILE` or `winnow run --config FILE`")
    from winnow.steps.run import run as run_steps

    run_steps(_load(yaml_file or config_path, overrides), force=force, keep=keep)


def _load(path: Path | None, overrides: Sequence[str]) -> "RunConfig":
    from winnow.steps.config import RunConfig

    assert path is not None
    return load_config(RunConfig, path, overrides)


def main(*arguments: str) -> None:
    """Run the command line with ``arguments`` before those of the process; exits with its code."""
    _write_whatever_the_terminal_can_show()
    share_cores()
    try:
        with signals_end_the_block() as signals:
            code = cli.main([*arguments, *sys.argv[1:]], prog_name="winnow", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        _say_that_it_was_ended(error, signals)
    except WinnowError as error:
        click.echo(f"winnow: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if (trouble := trouble_of(error)) is None:
            raise
        click.echo(f"winnow: {trouble}", err=True)
        sys.exit(trouble.exit_code)
    sys.exit(code or 0)


def _say_that_it_was_ended(error: BaseException, signals: Sequence[int]) -> NoReturn:
    raised = (each for each in (error, error.__cause__) if isinstance(each, Ended))
    ended = next(raised, Ended(signals[0]) if signals else None)
    click.echo(f"winnow: {ended or 'interrupted'}; finished work is kept, the same command goes on from here", err=True)
    sys.exit(128 + (ended.number if ended else signal.SIGINT))


def _write_whatever_the_terminal_can_show() -> None:
    """What a terminal has no letters for is written as its code, and ends no run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
