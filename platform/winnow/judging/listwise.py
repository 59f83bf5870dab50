"""The listwise judge: one pool in, relevance selection, a pseudo-answer and a verdict on utility out.

After arXiv 2504.05220. Knows no Ray, no library that runs models, no files.
"""

from dataclasses import dataclass, replace

from winnow.engines.protocol import Engine, EngineDeadError
from winnow.judging.config import ListwiseJudgeConfig
from winnow.judging.dialogue import Dialogue, UnansweredError
from winnow.judging.rounds import Conversation, Rounds, SeparatePrompts
from winnow.judging.showing import PassageTooLongError, Showing, ShownPool
from winnow.judging.templates import Round, load_listwise_template
from winnow.judging.windows import Room
from winnow.records import CandidatePool, JudgedQuery, Judgment

IN_SEPARATE_PROMPTS = "separate prompts: a conversation does not fit into engine.max_tokens"
"""The note on a query that a conversation was configured for."""


@dataclass(frozen=True, slots=True)
class _Findings:
    """Positions in the pool. ``useful`` is in order of utility where the verdict is a ranking."""

    windows: list[range]
    """The pool as relevance selection showed it, prompt by prompt."""
    relevant: list[int]
    useful: list[int]
    pseudo_answer: str | None = None


class ListwiseJudge:
    """Judges all passages of a pool together. Safe to repeat: at temperature 0, or with the same seed."""

    def __init__(self, engine: Engine, config: ListwiseJudgeConfig, *, judge_id: str) -> None:
        self.judge_id = judge_id
        self._engine = engine
        self._config = config
        self._template = load_listwise_template(config.template)
        verdict: Round = "utility_ranking" if config.verdict == "ranking" else "utility_selection"
        self._turns: tuple[Round, ...] = ("relevance_selection", "pseudo_answer", verdict)
        self._room = Room(engine, self._template, config)
        self._showing = Showing(engine, self._template, max_words=config.max_passage_words)

    async def judge(self, pool: CandidatePool) -> JudgedQuery:
        """Evidence about every passage, or a status that says why there is none; traces either way."""
        judged = JudgedQuery(pool.query_id, pool.pool_id, self.judge_id, "ok")
        if not pool.passages:
            return replace(judged, status="empty_pool", detail="no ranked list found a passage for this query")
        dialogue = Dialogue(self._engine, self._template, self._config, query_id=pool.query_id)
        try:
            shown = await self._show(pool)
            judged = replace(judged, passages_cut=shown.num_cut)
            findings = await self._ask(await self._rounds(dialogue, shown))
            judged = self._with_evidence(judged, pool, findings, detail="; ".join(dialogue.notes) or None)
        except EngineDeadError:
            raise
        except UnansweredError as failure:
            judged = replace(judged, status=failure.status, detail=failure.detail)
        except PassageTooLongError as error:
            judged = replace(judged, status="too_long", detail=str(error))
        except Exception as error:
            judged = replace(judged, status="engine_error", detail=f"{type(error).__name__}: {error}"[:500])
        attempts = max((trace.attempt for trace in dialogue.traces), default=1)
        return replace(judged, attempts=attempts, traces=tuple(dialogue.traces))

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    async def _show(self, pool: CandidatePool) -> ShownPool:
        """Each passage short enough for every round; two of them for a ranking, which compares."""
        capacities = [await self._room.in_prompt(round, pool.query) for round in self._turns]
        if self._config.verdict == "ranking" and len(pool.passages) > 1:
            capacities[-1] //= 2
        return await self._showing.show(pool, capacity=min(capacities))

    async def _rounds(self, dialogue: Dialogue, shown: ShownPool) -> Rounds:
        if self._config.layout == "conversation":
            if sum(shown.sizes) <= await self._room.in_conversation(self._turns, shown.query):
                return Conversation(dialogue, self._template, shown)
            dialogue.notes.append(IN_SEPARATE_PROMPTS)
        return SeparatePrompts(dialogue, self._template, shown, self._room)

    async def _ask(self, rounds: Rounds) -> _Findings:
        selection = await rounds.select_relevant()
        windows, relevant = selection.windows, selection.positions
        if not relevant:
            return _Findings(windows, relevant=[], useful=[])
        answer = await rounds.answer(relevant)
        give_verdict = rounds.rank_useful if self._config.verdict == "ranking" else rounds.select_useful
        return _Findings(windows, relevant, await give_verdict(relevant, answer), answer)

    def _with_evidence(
        self, judged: JudgedQuery, pool: CandidatePool, findings: _Findings, *, detail: str | None
    ) -> JudgedQuery:
        is_ranking = self._config.verdict == "ranking"
        ranks = {position: rank for rank, position in enumerate(findings.useful, start=1)}
        places = [place for window in findings.windows for place in range(1, len(window) + 1)]
        judgments = tuple(
            Judgment(
                passage.passage_id,
                position=places[position],
                is_relevant=position in findings.relevant,
                is_useful=None if is_ranking else position in ranks,
                utility_rank=ranks.get(position) if is_ranking else None,
            )
            for position, passage in enumerate(pool.passages)
        )
        return replace(judged, detail=detail, pseudo_answer=findings.pseudo_answer, judgments=judgments)
