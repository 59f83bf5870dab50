"""The dense encoder: texts to vectors, in training and afterwards.

Legend: N texts, D dimension.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.config import fingerprint
from winnow.errors import ConfigError
from winnow.modeling.backbone import load_backbone, merged_weights, save_backbone
from winnow.modeling.batches import batches_by_length
from winnow.modeling.config import EncoderConfig, Precision
from winnow.modeling.contract import Contract, read_contract, write_contract
from winnow.modeling.layout import read_layout, write_layout
from winnow.modeling.module import EncoderModule
from winnow.modeling.packing import drops_attention, enable_packing, has_packing, has_packing_kernel, pack
from winnow.modeling.padding import pad
from winnow.modeling.projection import load_projection, save_projection
from winnow.modeling.protocol import Side
from winnow.modeling.tokenizing import TextTokenizer

_DEFAULT_BATCH_TOKENS = EncoderConfig.model_fields["batch_tokens"].default


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
        packing: Literal["auto", "always", "never"] = "auto",
    ) -> None:
        """``packing="always"`` packs where that is slow, too: on any device and in float32, for tests."""
        self.module = module
        self.tokenizer = tokenizer
        self.contract = contract
        self._precision = precision
        self._batch_tokens = batch_tokens
        self._packs_in_float32 = packing == "always"
        self._can_pack = has_packing(module.backbone) and (
            packing == "always" or (packing == "auto" and has_packing_kernel(self.device))
        )
        if self._can_pack:
            for tower in module.towers:
                enable_packing(tower)

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
        module = _load_module(directory, contract)
        has_gpu = torch.cuda.is_available()
        place = torch.device(device or ("cuda" if has_gpu else "cpu"))
        if place.type == "cuda" and not has_gpu:
            raise ConfigError(
                "an encoder on cuda needs a CUDA device and a torch that was built for it, and one is missing here; "
                "put it on the CPU"
            )
        speed = {} if overrides is None else {"precision": overrides.precision, "batch_tokens": overrides.batch_tokens}
        return cls(module.to(place).eval(), tokenizer, contract, **speed)

    @property
    def dimension(self) -> int:
        """D."""
        return self.module.dimension

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer and contract. Reads every weight: ask once and keep it."""
        return fingerprint(_hash_weights(self.module), self.tokenizer.digest, asdict(self.contract))

    @property
    def packs(self) -> bool:
        """Whether ``embed`` now takes texts without padding: on a GPU, in half precision, without attention dropout.

        Half precision is what ``torch.autocast`` says at the moment of asking.
        """
        is_half = torch.is_autocast_enabled(self.device.type)
        return self._can_pack and (is_half or self._packs_in_float32) and not drops_attention(self.module.backbone)

    def tokenize(self, texts: Sequence[str], *, side: Side) -> list[list[int]]:
        """Token ids of each text, with prefix and special tokens, cut to the side's limit."""
        return self.tokenizer.tokenize(texts, side=side)

    def tokenize_with_cuts(self, texts: Sequence[str], *, side: Side) -> tuple[list[list[int]], list[bool]]:
        """As ``tokenize``, and whether each text was cut."""
        return self.tokenizer.tokenize_with_cuts(texts, side=side)

    def embed(self, token_ids: Sequence[Sequence[int]], *, side: Side) -> Tensor:
        """``embeddings_ND`` in float32, with gradient. For texts, and without gradient, use ``encode``."""
        if self.packs:
            return self.module(pack(token_ids, device=self.device), side=side)
        return self.module(pad(token_ids, pad_token_id=self.tokenizer.pad_token_id, device=self.device), side=side)

    def encode(self, texts: Sequence[str], *, side: Side) -> NDArray[np.float32]:
        """``embeddings_ND`` in the order of ``texts``, float32, dropout off."""
        return self.encode_tokens(self.tokenize(texts, side=side), side=side)

    def encode_tokens(self, token_ids: Sequence[Sequence[int]], *, side: Side) -> NDArray[np.float32]:
        """The same for texts that ``tokenize`` was given already."""
        lengths = [len(row) for row in token_ids]
        embeddings_ND = np.empty((len(token_ids), self.dimension), dtype=np.float32)
        # Asked first, because switching goes through all modules, which a short query would feel.
        if was_training := self.module.training:
            self.module.eval()
        with torch.inference_mode(), self.autocast():
            for batch in batches_by_length(lengths, max_tokens=self._batch_tokens, packed=self.packs):
                vectors_ND = self.embed([token_ids[position] for position in batch], side=side)
                embeddings_ND[batch] = vectors_ND.cpu().numpy()
        if was_training:
            self.module.train()
        return embeddings_ND

    @property
    def precision(self) -> Literal["float32", "bfloat16"]:
        """What ``encode`` computes in on this machine."""
        if self._precision != "auto":
            return self._precision
        return "bfloat16" if _has_bfloat16(self.device) else "float32"

    def autocast(self) -> torch.autocast:
        """The precision of `encode`, as a context."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def save(self, directory: Path) -> Path:
        """``directory``, which sentence-transformers loads unchanged and gives equal vectors; adapters are merged."""
        module, contract = self.module, self.contract
        layout = write_layout(
            directory,
            is_untied=module.passage_backbone is not None,
            has_projection=module.projection is not None,
            is_normalised=contract.normalise,
        )
        limits = {layout.query: contract.query_max_tokens, layout.passage: contract.passage_max_tokens}
        if not layout.is_untied:
            limits[layout.query] = max(contract.query_max_tokens, contract.passage_max_tokens)
        for tower, (folder, limit) in zip(module.towers, limits.items(), strict=True):
            save_backbone(tower, folder)
            self.tokenizer.save(folder, max_tokens=limit)
        if module.projection is not None and layout.projection is not None:
            save_projection(module.projection, layout.projection)
        write_contract(layout, contract, hidden_size=module.hidden_size)
        return directory


def build_encoder(config: EncoderConfig, *, device: torch.device | str | None = None) -> DenseEncoder:
    """The encoder that ``config`` names. Raises ``ConfigError``."""
    return DenseEncoder.load(config.locate(), config, device=device)


def _load_module(directory: Path, contract: Contract) -> EncoderModule:
    layout = read_layout(directory)
    backbone = load_backbone(layout.query)
    passage_backbone = load_backbone(layout.passage) if layout.is_untied else None
    sizes = {tower.config.hidden_size for tower in (backbone, passage_backbone) if tower is not None}
    if len(sizes) > 1:
        raise ConfigError(f"the two towers in {str(directory)!r} give vectors of {sorted(sizes)} dimensions")
    projection = layout.projection and load_projection(layout.projection, hidden_size=sizes.pop())
    return EncoderModule(backbone, contract, passage_backbone=passage_backbone, projection=projection)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without these instructions a CPU emulates bfloat16 and is many times slower than in float32.
    instructions = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(instructions.get(name) for name in ("avx512_bf16", "amx_bf16"))


def _hash_weights(module: EncoderModule) -> str:
    weights = merged_weights(module.backbone)
    if module.passage_backbone is not None:
        own = merged_weights(module.passage_backbone)
        weights |= {f"passage_backbone.{name}": weight for name, weight in own.items()}
    if module.projection is not None:
        weights |= {f"projection.{name}": weight for name, weight in module.projection.state_dict().items()}
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
