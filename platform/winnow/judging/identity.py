"""Who judged: the name under which evidence is kept and found again."""

import re

from winnow.config import fingerprint
from winnow.judging.config import AnnotateConfig, JudgeConfig
from winnow.judging.templates import load_listwise_template, load_template


def judge_id(config: AnnotateConfig, *, model_id: str) -> str:
    """A readable name with a hash of all that can change a judgment: model, prompts, settings.

    ``model_id`` names the model by its content, so where it lies does not matter.
    """
    settings = {**config.engine.science(), "model": model_id}
    settings.pop("revision", None)  # which is a way to find that content
    digest = fingerprint(settings, config.judge.science(), _prompts(config.judge))
    readable = re.sub(r"[^\w.-]+", "-", f"{config.judge.kind}-{model_id}")
    return f"{readable[:80]}-{digest[:12]}"


def _prompts(judge: JudgeConfig) -> list[str]:
    """What changes when a prompt of ``judge`` does."""
    if judge.kind == "listwise":
        return [load_listwise_template(judge.template).digest]
    scoring = [judge.query_template] if judge.uses("query_template") else []
    scoring += [judge.answer_template] if judge.uses("answer_template") else []
    writing = [judge.pseudo_answer_template] if judge.uses("pseudo_answer_template") else []
    return [*(load_template(name).digest for name in scoring), *(load_listwise_template(n).digest for n in writing)]
