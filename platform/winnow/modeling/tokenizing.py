"""Texts to token ids, with the prefix and the length limit of their side. Loads no weights."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerFast

from winnow.errors import ConfigError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.contract import Contract, read_contract
from winnow.modeling.layout import read_layout
from winnow.modeling.protocol import Side
from winnow.modeling.transformers_light import AutoTokenizer


class TextTokenizer:
    """Tokenizes queries and passages as the contract says. Safe to share between threads."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, contract: Contract) -> None:
        if tokenizer.pad_token is None:
            # Decoders often name none. Which token fills up a row changes no vector, but other readers need a name.
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.bos_token
        self.pad_token_id: int = tokenizer.pad_token_id or 0
        self._tokenizer = tokenizer
        self._prefixes: dict[Side, str] = {"query": contract.query_prefix, "passage": contract.passage_prefix}
        # One tokenizer per side: changing the limit of a shared one while another thread uses it fails.
        self._sides: dict[Side, Tokenizer] = {
            "query": _cutting_at(tokenizer, contract.query_max_tokens),
            "passage": _cutting_at(tokenizer, contract.passage_max_tokens),
        }

    @classmethod
    def load(cls, directory: Path, overrides: EncoderConfig | None = None) -> "TextTokenizer":
        """The tokenizer of the encoder in ``directory``. Raises ``ConfigError``."""
        layout = read_layout(directory)
        tokenizer = _load_fast(layout.query)
        if layout.is_untied and _digest(_load_fast(layout.passage)) != _digest(tokenizer):
            raise ConfigError(f"the two towers in {str(directory)!r} have two different tokenizers; expected one")
        return cls(tokenizer, read_contract(directory, overrides))

    @property
    def digest(self) -> str:
        """Hash of vocabulary and rules."""
        return _digest(self._tokenizer)

    def tokenize(self, texts: Sequence[str], *, side: Side) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to the side's limit.

        An empty text has one token also where the tokenizer adds no special ones, so that it has a vector.
        """
        return [encoding.ids or [self.pad_token_id] for encoding in self._encode(texts, side)]

    def tokenize_with_cuts(self, texts: Sequence[str], *, side: Side) -> tuple[list[list[int]], list[bool]]:
        """As ``tokenize``, and whether each text was cut."""
        encodings = self._encode(texts, side)
        is_cut = [bool(encoding.overflowing) for encoding in encodings]
        return [encoding.ids or [self.pad_token_id] for encoding in encodings], is_cut

    def _encode(self, texts: Sequence[str], side: Side) -> list[Encoding]:
        prefix = self._prefixes[side]
        return self._sides[side].encode_batch_fast([prefix + text for text in texts])

    def save(self, directory: Path, *, max_tokens: int) -> None:
        """Write the tokenizer's files."""
        self._tokenizer.model_max_length = max_tokens
        self._tokenizer.save_pretrained(directory)


def _load_fast(directory: Path) -> PreTrainedTokenizerFast:
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no tokenizer could be loaded from {str(directory)!r}: {error}") from error
    if not tokenizer.is_fast:
        raise ConfigError(f"{str(directory)!r} has no fast tokenizer; convert it so that tokenizer.json is there")
    if tokenizer.vocab_size <= len(tokenizer.all_special_tokens):
        # transformers makes an empty tokenizer, without a word of warning, where its files are missing.
        raise ConfigError(f"the tokenizer in {str(directory)!r} has no vocabulary; is tokenizer.json missing?")
    return tokenizer


def _digest(tokenizer: PreTrainedTokenizerFast) -> str:
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    # The limits in use are the contract's; what a file happens to say of them changes nothing.
    rules.pop("truncation")
    rules.pop("padding")
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def _cutting_at(tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> Tokenizer:
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_padding()
    copy.enable_truncation(max_tokens, direction=tokenizer.truncation_side)
    return copy
