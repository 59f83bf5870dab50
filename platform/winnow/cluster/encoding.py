"""Encode a corpus on Ray Data: an actor pool of encoders, the embeddings cached by what made them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from winnow.cluster.config import ClusterConfig
from winnow.cluster.reading import RowRange, RowReader, row_ranges
from winnow.cluster.runtime import note_crowding, preflight, ray_session
from winnow.errors import ConfigError, DataError
from winnow.files import hash_file
from winnow.machine import waiting_policy
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import DenseEncoder, build_encoder
from winnow.modeling.text import ENCODING_VERSION, passage_text
from winnow.progress import progress
from winnow.records import Passage
from winnow.retrieval.embeddings import to_table, writing_embeddings

_COLUMNS = ["passage_id", "title", "text"]
_PRECISION = "precision"
"""A column beside the embeddings, on their way only: what they were computed in."""
_FEW_ROWS = 512
_BLOCK_ROWS = 256
"""Passages in one task: enough to sort by length, few enough to share between actors and to show progress."""
_MOST_BLOCKS = 4096
"""Ray keeps a record of each task from the start, so those of large corpora are larger."""


def embed_corpus(encoder: EncoderConfig, passages: Path, *, output: Path, cluster: ClusterConfig) -> Path:
    """The embeddings of ``passages`` (Parquet), in its order: ``<output>/cache/embeddings/*.parquet``.

    Found if the same encoder has encoded the same passages under this output root before, else computed.
    """
    num_passages = pq.read_metadata(passages).num_rows
    if num_passages == 0:
        raise DataError(f"{passages} holds no passage to encode; check the corpus in the `data` section")
    path = embeddings_path(encoder, passages, output=output)
    if path.exists():
        print(f"encode: {num_passages:,} passages are in the cache: {path}", flush=True)
        return path
    with (
        ray_session(cluster),
        writing_embeddings(path, fingerprint=path.stem) as append,
        progress(num_passages, label="encode", unit="passages") as done,
    ):
        for table in of_one_precision(_encoded(encoder, passages, cluster)):
            append(table)
            done.advance(table.num_rows)
    return path


def of_one_precision(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The embeddings in ``tables``. Raises ``ConfigError`` where machines computed in different precisions."""
    first: str | None = None
    for table in tables:
        for precision in table[_PRECISION].unique().to_pylist():
            first = first or precision
            if precision != first:
                raise ConfigError(
                    f"encoder.precision: auto is {first} on some of the machines that encode and {precision} on "
                    f"others, and vectors of two precisions are not mixed; set encoder.precision to one of them"
                )
        yield table.drop_columns(_PRECISION)


def embeddings_path(encoder: EncoderConfig, passages: Path, *, output: Path) -> Path:
    """Where the embeddings of ``passages`` are kept. Loads the encoder, whose weights are part of the name."""
    fingerprint = build_encoder(encoder, device="cpu").fingerprint
    # The precision is no part of an encoder's identity, but vectors of two precisions are not mixed.
    name = f"{fingerprint}-{hash_file(passages)[:16]}-{encoder.precision}-{ENCODING_VERSION}.parquet"
    return output / "cache" / "embeddings" / name


def _encoded(encoder: EncoderConfig, passages: Path, cluster: ClusterConfig) -> Iterator[pa.Table]:
    """Tables of embeddings, in the order of ``passages``; the driver holds one at a time."""
    fewest, most = cluster.encoder_actors
    preflight("encoding", {"CPU": cluster.encoder_cpus, "GPU": cluster.encoder_gpus}, count=fewest)
    if not cluster.encoder_gpus:
        note_crowding("encoding", processes=most, threads=cluster.encoder_threads, cpus=cluster.encoder_cpus)
    num_passages = pq.read_metadata(passages).num_rows
    blocks = row_ranges(passages, most=max(_BLOCK_ROWS, -(-num_passages // _MOST_BLOCKS)))
    if num_passages <= _FEW_ROWS and not cluster.encoder_gpus:
        # An actor takes longer to start than these take.
        here, reader = build_encoder(encoder, device="cpu"), RowReader(passages, columns=_COLUMNS)
        return (_encode(here, reader.read(block)) for block in blocks)
    # Numbers of blocks, which the actors read. Passages that Ray reads and cuts for them come in one block where it
    # runs all of that as one task, and wait for a CPU where it does not.
    dataset = ray.data.from_arrow([pa.table({"block": [number]}) for number in range(len(blocks))])
    dataset.context.execution_options.preserve_order = True
    # An actor that reserves no GPU sees all those of its node.
    device = "cuda" if cluster.encoder_gpus else "cpu"
    return dataset.map_batches(
        _Encoder,
        fn_constructor_args=(encoder, device, cluster.encoder_threads, passages.absolute(), blocks),
        batch_format="pyarrow",
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(min_size=fewest, max_size=most),
        num_cpus=cluster.encoder_cpus,
        num_gpus=cluster.encoder_gpus,
        runtime_env={"env_vars": waiting_policy()},
    ).iter_batches(batch_format="pyarrow", batch_size=None)


class _Encoder:
    """One encoder in one actor. Safe to retry: equal passages give equal embeddings."""

    def __init__(
        self, encoder: EncoderConfig, device: str, threads: int, passages: Path, blocks: Sequence[RowRange]
    ) -> None:
        torch.set_num_threads(threads)
        self._encoder = build_encoder(encoder, device=device)
        self._passages = RowReader(passages, columns=_COLUMNS)
        self._blocks = blocks

    def __call__(self, numbers: pa.Table) -> pa.Table:
        blocks = [self._blocks[number] for number in numbers["block"].to_pylist()]
        return pa.concat_tables([_encode(self._encoder, self._passages.read(block)) for block in blocks])


def _encode(encoder: DenseEncoder, batch: pa.Table) -> pa.Table:
    passages = [Passage(**row) for row in batch.select(_COLUMNS).to_pylist()]
    texts = [passage_text(passage) for passage in passages]
    table = to_table(batch["passage_id"].to_pylist(), encoder.encode(texts, side="passage"))
    return table.append_column(_PRECISION, pa.array([encoder.precision] * table.num_rows, pa.string()))
