"""The dense encoder: texts to vectors, in training and afterwards.

Legend: N texts, L tokens (padded), D dimension.
"""

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedModel
from transformers.utils import logging

from winnow.config import fingerprint
from winnow.errors import ConfigError
from winnow.modeling.batches import batches_by_length
from winnow.modeling.config import EncoderConfig, Pooling, Precision
from winnow.modeling.contract import Contract, read_contract, transformer_directory, write_contract
from winnow.modeling.protocol import Side
from winnow.modeling.tokenizing import TextTokenizer
from winnow.modeling.transformers_light import MODEL_MAPPING, AutoConfig, AutoModel
from winnow.models import locate_model

_DEFAULT_BATCH_TOKENS = EncoderConfig.model_fields["batch_tokens"].default


class EncoderModule(nn.Module):
    """Token ids to one vector per text. This is what DDP wraps and the optimizer trains."""

    def __init__(self, backbone: PreTrainedModel, contract: Contract) -> None:
        super().__init__()
        self.backbone = backbone
        self._pooling = contract.pooling
        self._normalise = contract.normalise

    def forward(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        tokens_NLD = self.backbone(input_ids=input_ids_NL, attention_mask=attention_mask_NL).last_hidden_state
        embeddings_ND = pool(tokens_NLD, attention_mask_NL, self._pooling).float()
        return normalize(embeddings_ND, dim=-1) if self._normalise else embeddings_ND


def pool(tokens_NLD: Tensor, attention_mask_NL: Tensor, pooling: Pooling) -> Tensor:
    """One vector per row, from the tokens that the mask keeps. Padding is on the right."""
    if pooling == "cls":
        return tokens_NLD[:, 0]
    if pooling == "last":
        last_N = attention_mask_NL.sum(dim=1) - 1
        return tokens_NLD[torch.arange(len(tokens_NLD), device=tokens_NLD.device), last_N]
    mask_NL1 = attention_mask_NL.unsqueeze(-1).to(tokens_NLD.dtype)
    return (tokens_NLD * mask_NL1).sum(dim=1) / mask_NL1.sum(dim=1)


class DenseEncoder:
    """An encoder with its tokenizer and contract. Reads and writes sentence-transformers directories."""

    def __init__(
        self,
        module: EncoderModule,
        tokenizer: TextTokenizer,
        contract: Contract,
        *,
        precision: Precision = "auto",
        batch_tokens: int = _DEFAULT_BATCH_TOKENS,
    ) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.contract = contract
        self._precision = precision
        self._batch_tokens = batch_tokens

    @classmethod
    def load(
        cls, directory: Path, overrides: EncoderConfig | None = None, *, device: torch.device | str | None = None
    ) -> "DenseEncoder":
        """The encoder in ``directory``, in evaluation mode, on ``device`` (a GPU if there is one).

        ``overrides`` replaces what the directory says of pooling, prefixes and lengths; its ``model`` is not read.
        Raises ``ConfigError``.
        """
        contract = read_contract(directory, overrides)
        tokenizer = TextTokenizer.load(directory, overrides)
        module = EncoderModule(_load_backbone(transformer_directory(directory)), contract)
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        speed = {} if overrides is None else {"precision": overrides.precision, "batch_tokens": overrides.batch_tokens}
        return cls(module.to(place).eval(), tokenizer, contract, **speed)

    @property
    def dimension(self) -> int:
        """D."""
        return self.module.backbone.config.hidden_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer and contract. Reads every weight: ask once and keep it."""
        weights = _hash_weights(self.module.backbone)
        return fingerprint(weights, self.tokenizer.digest, asdict(self.contract))

    def tokenize(self, texts: Sequence[str], *, side: Side) -> list[list[int]]:
        """Token ids of each text, with prefix and special tokens, cut to the side's limit."""
        return self.tokenizer.tokenize(texts, side=side)

    def collate(self, token_ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """``input_ids_NL`` and ``attention_mask_NL``, padded on the right, on the encoder's device."""
        width = max(map(len, token_ids))
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in token_ids])
        mask = torch.arange(width) < torch.tensor([len(row) for row in token_ids]).unsqueeze(1)
        return ids.to(self.device), mask.long().to(self.device)

    def embed(self, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> Tensor:
        """``embeddings_ND`` in float32, with gradient. For texts, and without gradient, use ``encode``."""
        return self.module(input_ids_NL, attention_mask_NL)

    def encode(self, texts: Sequence[str], *, side: Side) -> NDArray[np.float32]:
        """``embeddings_ND`` in the order of ``texts``, float32, dropout off."""
        token_ids = self.tokenize(texts, side=side)
        embeddings_ND = np.empty((len(texts), self.dimension), dtype=np.float32)
        was_training = self.module.training
        self.module.eval()
        with torch.inference_mode(), self._autocast():
            for batch in batches_by_length([len(row) for row in token_ids], max_tokens=self._batch_tokens):
                vectors_ND = self.embed(*self.collate([token_ids[position] for position in batch]))
                embeddings_ND[batch] = vectors_ND.cpu().numpy()
        self.module.train(was_training)
        return embeddings_ND

    def _autocast(self) -> torch.autocast:
        wanted = self._precision == "bfloat16" or (self._precision == "auto" and _has_bfloat16(self.device))
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=wanted)

    def save(self, directory: Path) -> Path:
        """``directory``, which sentence-transformers loads unchanged and gives equal vectors."""
        directory.mkdir(parents=True, exist_ok=True)
        with _quiet_transformers():
            self.module.backbone.save_pretrained(directory)
        longest = max(self.contract.query_max_tokens, self.contract.passage_max_tokens)
        self.tokenizer.save(directory, max_tokens=longest)
        write_contract(directory, self.contract, dimension=self.dimension)
        for path in directory.glob("*.safetensors"):
            path.chmod(0o644)  # written for the owner alone; shared storage has other readers
        return directory


def build_encoder(config: EncoderConfig, *, device: torch.device | str | None = None) -> DenseEncoder:
    """The encoder that ``config`` names. Raises ``ConfigError``."""
    return DenseEncoder.load(locate_model(config.model), config, device=device)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without these instructions a CPU emulates bfloat16 and is many times slower than in float32.
    instructions = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(instructions.get(name) for name in ("avx512_bf16", "amx_bf16"))


def _load_backbone(directory: Path) -> PreTrainedModel:
    try:
        backbone, report = _from_pretrained(directory)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"no encoder could be loaded from {str(directory)!r}: {error}; "
            f"expected config.json and model.safetensors of an architecture that transformers knows"
        ) from error
    if absent := sorted(report["missing_keys"]):
        raise ConfigError(f"the weights in {str(directory)!r} lack {absent[:3]}: not a whole {type(backbone).__name__}")
    return backbone


def _from_pretrained(directory: Path) -> tuple[PreTrainedModel, dict[str, Any]]:
    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    # The pooling layer's output is not used, and DDP stops at parameters without a gradient.
    no_pooler = {"add_pooling_layer": False} if _has_pooler(MODEL_MAPPING[type(config)]) else {}
    with _quiet_transformers():
        return AutoModel.from_pretrained(
            directory,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **no_pooler,
        )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bar for a load of a second, no report on the pooling layer that is left out on purpose."""
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()


def _has_pooler(model_class: type[PreTrainedModel]) -> bool:
    return "add_pooling_layer" in inspect.signature(model_class.__init__).parameters


def _hash_weights(backbone: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
