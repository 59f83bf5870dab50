"""Hard negatives for a stage: the ranking that they come from."""

from fakes import HashEncoder

from winnow.corpora.copies import Copies
from winnow.labels.mining import MiningConfig
from winnow.records import LabelledPassage, TrainingExample
from winnow.steps.mine import Miner

TEXTS = {"pos": "red apples", "copy": "red apples", "near": "red apples too", "far": "red cars", "twin": "red cars"}


def example(**withheld: str) -> TrainingExample:
    known = tuple(LabelledPassage(name, source) for name, source in withheld.items())
    return TrainingExample("q", "red apples", (LabelledPassage("pos", "llm"),), (), known)


def mined(of: TrainingExample, copies: dict[str, str], **settings) -> list[str]:
    encoder = HashEncoder()
    passages_PD = encoder.encode(list(TEXTS.values()), side="passage")
    miner = Miner(encoder, list(TEXTS), passages_PD, Copies(copies), MiningConfig(**settings))
    [found] = miner.mine([of], "harder")
    return [passage.passage_id for passage in found.negatives]


def test_no_copy_is_mined_neither_of_a_positive_nor_of_another_negative():
    assert mined(example(), {}, margin=None) == ["copy", "near", "far", "twin"]
    assert mined(example(), {"copy": "pos", "twin": "far"}, margin=None) == ["near", "far"]


def test_copies_and_withheld_passages_take_no_rank():
    copies = {"copy": "pos", "twin": "far"}

    assert mined(example(), copies, margin=None, first_rank=1, last_rank=1) == ["near"]
    assert mined(example(near="human"), copies, margin=None, first_rank=1, last_rank=1) == ["far"]
