"""Who judged: the name under which evidence is kept and found again."""

import re

from winnow.config import fingerprint
from winnow.judging.config import AnnotateConfig
from winnow.judging.templates import load_template


def judge_id(config: AnnotateConfig, *, model_id: str) -> str:
    """A readable name with a hash of all that can change a judgment: model, prompt, settings.

    ``model_id`` names the model by its content, so where it lies does not matter.
    """
    settings = {**config.engine.science(), "model": model_id}
    digest = fingerprint(settings, config.judge.science(), load_template(config.judge.template).digest)
    readable = re.sub(r"[^\w.-]+", "-", f"{config.judge.template}-{model_id}")
    return f"{readable[:80]}-{digest[:12]}"
