"""The likelihood judge: how much likelier does a passage make the query, and its answer?

A gain is ``log P(text | passage) - log P(text)``, natural logarithm, mean per token of the text, which is the query
(*query gain*) or an answer after the query (*answer gain*; of several answers the best counts). Within one query
``log P(text)`` changes no order; it puts the scores of different queries on one footing.
Query likelihood as a relevance signal: UPR, arXiv 2204.07496; likelihood of the answer: REPLUG, arXiv 2301.12652.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from winnow.engines.protocol import Engine, EngineDeadError, Likelihood, LikelihoodRequest, Message
from winnow.judging.config import LikelihoodJudgeConfig, ListwiseJudgeConfig
from winnow.judging.cutting import cut_passages
from winnow.judging.dialogue import Dialogue, Question, UnansweredError
from winnow.judging.parsing import parse_answer
from winnow.judging.templates import LikelihoodTemplate, load_listwise_template, load_template
from winnow.records import CandidatePool, JudgedQuery, JudgeTrace, Judgment, Status

_ANSWERED_FROM = 3
"""Passages, those of the highest query gain, that a pseudo-answer is written from."""


@dataclass
class _Findings:
    """What is known of one pool so far."""

    shown: list[tuple[str, str]] = field(default_factory=list)
    """Titles and texts as the model gets them."""
    passages_cut: int = 0
    traces: list[JudgeTrace] = field(default_factory=list)
    pseudo_answer: str | None = None


class LikelihoodJudge:
    """Scores every passage of a pool on its own, so their order is of no effect. Safe to repeat."""

    def __init__(self, engine: Engine, config: LikelihoodJudgeConfig, *, judge_id: str) -> None:
        self.judge_id = judge_id
        self._engine = engine
        self._config = config
        self._query_template = load_template(config.query_template)
        self._answer_template = load_template(config.answer_template)
        self._chat_template = load_listwise_template(config.pseudo_answer_template)
        # How the pseudo-answer is asked for.
        self._chat = ListwiseJudgeConfig(
            kind="listwise",
            max_output_tokens=config.max_answer_tokens,
            max_reasoning_tokens=config.max_reasoning_tokens,
        )

    async def judge(self, pool: CandidatePool) -> JudgedQuery:
        """One score per passage, or a status that says why not."""
        findings = _Findings()
        try:
            scores = await self._scores(pool, findings)
        except EngineDeadError:
            raise
        except UnansweredError as error:
            return self._judged(pool, findings, error.status, detail=error.detail)
        except Exception as error:
            return self._judged(pool, findings, "engine_error", detail=f"{type(error).__name__}: {error}"[:500])
        judgments = tuple(
            Judgment(passage.passage_id, utility_score=score)
            for passage, score in zip(pool.passages, scores, strict=True)
        )
        return self._judged(pool, findings, "ok", judgments=judgments)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    async def _scores(self, pool: CandidatePool, findings: _Findings) -> list[float]:
        if not pool.passages:
            raise UnansweredError("empty_pool", "no ranked list found a passage for this query")
        await self._show(pool, findings)
        if self._config.kind == "query_gain":
            return await self._query_gains(pool, findings)
        if self._config.kind == "answer_gain" and self._config.answers == "human":
            return await self._answer_gains(pool, _human_answers(pool), findings)
        by_query = await self._query_gains(pool, findings)
        pseudo = self._config.answers == "pseudo"
        answers = [await self._pseudo_answer(pool, by_query, findings)] if pseudo else _human_answers(pool)
        by_answer = await self._answer_gains(pool, answers, findings)
        if self._config.kind == "answer_gain":
            return by_answer
        weight = self._config.answer_weight
        return [query + weight * answer for query, answer in zip(by_query, by_answer, strict=True)]

    async def _query_gains(self, pool: CandidatePool, findings: _Findings) -> list[float]:
        return await self._gains("query_gain", self._query_template, pool, "", findings)

    async def _answer_gains(self, pool: CandidatePool, answers: Sequence[str], findings: _Findings) -> list[float]:
        gains = [await self._gains("answer_gain", self._answer_template, pool, each, findings) for each in answers]
        return [max(of_passage) for of_passage in zip(*gains, strict=True)]

    async def _gains(
        self, round_: str, template: LikelihoodTemplate, pool: CandidatePool, answer: str, findings: _Findings
    ) -> list[float]:
        """How much likelier each passage makes the text."""
        text = template.render_continuation(pool.query, answer)
        contexts = [template.render_without_passage(pool.query)]
        contexts += [template.render_context(title, words, pool.query) for title, words in findings.shown]
        requests = [LikelihoodRequest(context, text) for context in contexts]
        found = await asyncio.gather(*map(self._engine.likelihood, requests))
        passage_ids = [None, *(passage.passage_id for passage in pool.passages)]
        findings.traces += [_trace(round_, *call) for call in zip(passage_ids, requests, found, strict=True)]
        for passage_id, each in zip(passage_ids, found, strict=True):
            if each.error is not None:
                status: Status = "too_long" if each.finish_reason == "too_long" else "engine_error"
                raise UnansweredError(status, f"passage {passage_id!r}: {each.error}")
            if not math.isfinite(each.mean_logprob):
                what = f"passage {passage_id!r} has the log probability {each.mean_logprob}, expected a finite one"
                raise UnansweredError("engine_error", f"{what}; use engine.dtype bfloat16 or float32")
        prior, *posteriors = (each.mean_logprob for each in found)
        return [posterior - prior for posterior in posteriors]

    async def _pseudo_answer(self, pool: CandidatePool, by_query: Sequence[float], findings: _Findings) -> str:
        """What the model answers from the passages that make the query likeliest."""
        best = sorted(range(len(by_query)), key=lambda place: -by_query[place])[:_ANSWERED_FROM]
        template = self._chat_template
        passages = template.render_passages([findings.shown[place] for place in best])
        prompt = template.render_round("separate", "pseudo_answer", query=pool.query, passages=passages)
        messages = (Message("system", template.system), Message("user", prompt))
        dialogue = Dialogue(self._engine, template, self._chat, query_id=pool.query_id)
        try:
            answer = await dialogue.ask(Question("pseudo_answer", messages, "answer", read=parse_answer))
        finally:
            findings.traces += dialogue.traces
        findings.pseudo_answer = answer.value
        return answer.value

    async def _show(self, pool: CandidatePool, findings: _Findings) -> None:
        whole = [each.text for each in pool.passages]
        texts = await cut_passages(self._engine, whole, max_words=self._config.max_passage_words)
        findings.shown = [(each.title, text) for each, text in zip(pool.passages, texts, strict=True)]
        findings.passages_cut = sum(shown != text for shown, text in zip(texts, whole, strict=True))

    def _judged(
        self,
        pool: CandidatePool,
        findings: _Findings,
        status: Status,
        *,
        detail: str | None = None,
        judgments: tuple[Judgment, ...] = (),
    ) -> JudgedQuery:
        return JudgedQuery(
            pool.query_id,
            pool.pool_id,
            self.judge_id,
            status,
            detail=detail,
            attempts=max((trace.attempt for trace in findings.traces), default=1),
            pseudo_answer=findings.pseudo_answer,
            passages_cut=findings.passages_cut,
            judgments=judgments,
            traces=tuple(findings.traces),
        )


def _human_answers(pool: CandidatePool) -> list[str]:
    answers = list(dict.fromkeys(answer.strip() for answer in pool.answers if answer.strip()))
    if not answers:
        raise UnansweredError("no_answer", "answer gain needs an answer, and nobody gave one to this query")
    return answers


def _trace(round_: str, passage_id: str | None, request: LikelihoodRequest, found: Likelihood) -> JudgeTrace:
    return JudgeTrace(
        round=f"{round_}_prior" if passage_id is None else round_,
        attempt=1,
        prompt_sha=sha256(f"{request.context}\x1f{request.continuation}".encode()).hexdigest()[:16],
        finish_reason=found.finish_reason,
        prompt_tokens=found.prompt_tokens,
        cached_tokens=found.cached_tokens,
        output_tokens=found.output_tokens,
        seconds=found.seconds,
        passage_id=passage_id,
    )
