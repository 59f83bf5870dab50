"""The likelihood judge: how much likelier does a passage make the query?

``utility_score = log P(query | passage) - log P(query)``, natural logarithm, mean per token of the query.
Within one query ``log P(query)`` changes no order; it puts the scores of different queries on one footing.
Query likelihood as a relevance signal: UPR, arXiv 2204.07496; training on it: ART, arXiv 2206.10658.
"""

from collections.abc import Sequence
from hashlib import sha256

from winnow.engines.protocol import Engine, Likelihood, LikelihoodRequest
from winnow.judging.config import LikelihoodJudgeConfig
from winnow.judging.templates import load_template
from winnow.records import Candidate, CandidatePool, JudgedQuery, JudgeTrace, Judgment, Status

_WITH_PASSAGE = "query_gain"
_WITHOUT_PASSAGE = "query_prior"


class LikelihoodJudge:
    """Scores every passage of a pool. Safe to repeat."""

    def __init__(self, engine: Engine, config: LikelihoodJudgeConfig, *, judge_id: str) -> None:
        self._engine = engine
        self._template = load_template(config.template)
        self._max_words = config.max_passage_words
        self._judge_id = judge_id

    def judge(self, pools: Sequence[CandidatePool]) -> list[JudgedQuery]:
        """One result per pool. An engine that raises is asked again query by query, to find the one it chokes on."""
        try:
            return self._judge_together(pools)
        except Exception as error:
            if len(pools) == 1:
                return [self._failed(pools[0], "engine_error", f"{type(error).__name__}: {error}"[:500])]
            return [judged for pool in pools for judged in self.judge([pool])]

    def _judge_together(self, pools: Sequence[CandidatePool]) -> list[JudgedQuery]:
        requests = [self._requests(pool) for pool in pools]
        answers = iter(self._engine.likelihood([request for several in requests for request in several]))
        return [
            self._read(pool, several, [next(answers) for _ in several])
            for pool, several in zip(pools, requests, strict=True)
        ]

    def _requests(self, pool: CandidatePool) -> list[LikelihoodRequest]:
        """The query without a passage, then after each passage; nothing for an empty pool."""
        if not pool.passages:
            return []
        contexts = [self._template.context_without_passage, *map(self._context, pool.passages)]
        query = self._template.render_continuation(pool.query)
        return [LikelihoodRequest(context, query) for context in contexts]

    def _context(self, passage: Candidate) -> str:
        return self._template.render_context(passage.title, cut_words(passage.text, self._max_words))

    def _read(
        self, pool: CandidatePool, requests: Sequence[LikelihoodRequest], answers: Sequence[Likelihood]
    ) -> JudgedQuery:
        if not requests:
            return self._failed(pool, "empty_pool", "no ranked list found a passage for this query")
        passage_ids = [None, *(passage.passage_id for passage in pool.passages)]
        traces = tuple(map(_trace, passage_ids, requests, answers))
        for passage_id, answer in zip(passage_ids, answers, strict=True):
            if answer.error is not None:
                status: Status = "too_long" if answer.finish_reason == "too_long" else "engine_error"
                return self._failed(pool, status, f"passage {passage_id!r}: {answer.error}", traces)
        prior, *posteriors = (answer.mean_logprob for answer in answers)
        judgments = tuple(
            Judgment(passage.passage_id, utility_score=posterior - prior)
            for passage, posterior in zip(pool.passages, posteriors, strict=True)
        )
        return JudgedQuery(pool.query_id, pool.pool_id, self._judge_id, "ok", judgments=judgments, traces=traces)

    def _failed(
        self, pool: CandidatePool, status: Status, detail: str, traces: tuple[JudgeTrace, ...] = ()
    ) -> JudgedQuery:
        return JudgedQuery(pool.query_id, pool.pool_id, self._judge_id, status, detail=detail, traces=traces)


def cut_words(text: str, max_words: int) -> str:
    """``text`` up to the end of its ``max_words``-th word, its spacing kept.

    >>> cut_words("one  two three", 2)
    'one  two'
    """
    words = text.split(maxsplit=max_words)
    return text if len(words) <= max_words else text[: -len(words[-1])].rstrip()


def is_cut(text: str, max_words: int) -> bool:
    """Whether ``cut_words`` leaves something out."""
    return len(text.split(maxsplit=max_words)) > max_words


def _trace(passage_id: str | None, request: LikelihoodRequest, answer: Likelihood) -> JudgeTrace:
    return JudgeTrace(
        round=_WITHOUT_PASSAGE if passage_id is None else _WITH_PASSAGE,
        attempt=1,
        prompt_sha=sha256(f"{request.context}\x1f{request.continuation}".encode()).hexdigest()[:16],
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        cached_tokens=answer.cached_tokens,
        output_tokens=answer.output_tokens,
        seconds=answer.seconds,
        passage_id=passage_id,
    )
