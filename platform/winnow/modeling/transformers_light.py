"""Transformers without what an encoder has no use for.

It imports scikit-learn, if that is installed, for one function of speculative decoding: 3 of the 10 CPU seconds
that its auto classes take, in every actor and worker. Import the auto classes, and what brings them, from here.
"""

import transformers.utils

transformers.utils.is_sklearn_available = lambda: False

from transformers import MODEL_MAPPING, AutoConfig, AutoModel, AutoTokenizer  # noqa: E402
from transformers.modeling_layers import GradientCheckpointingLayer  # noqa: E402

__all__ = ["MODEL_MAPPING", "AutoConfig", "AutoModel", "AutoTokenizer", "GradientCheckpointingLayer"]
