"""Feed the reply parsers what no judge should say, and count labels that they made up. There must be none.

python benchmarks/hostile_replies.py

A label is made up when it lies outside the pool, or when its digits do not stand alone in the reply, outside
of reasoning. An empty reading is made up when the reply does not say [none]. Any reading is made up when the list
stands among words that take it back or put it in doubt. The check shares no code with the parsers.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable

from winnow.errors import JudgmentParseError
from winnow.judging.parsing import parse_ranking, parse_selection
from winnow.seeding import derive_seed

_WORDS = [
    "passage",
    "the",
    "useful",
    "none",
    "of",
    "them",
    "relevant",
    "[none]",
    "3",
    "and",
    "not",
    "off-topic",
    "Selection:",
    ">",
    ",",
    "[",
    "]",
    "[[",
    "]]",
    "label",
]
_SCRAPS = ["[", "]", "[]", "[none]", "[0]", "[-1]", "[1-3]", "[1.5]", "[1e3]", "[٣]", "[²]", "[1, 4]", "[1 4]", " > "]
# Where the labels stand is marked by {}. No such reply is a list of what it selects.
_TAKEN_BACK = [
    "all passages but {}",
    "all but {} are relevant",
    "I would exclude {}",
    "discard {}",
    "these do not help: {}",
    "irrelevant passages: {}",
    "the useful passages are not {}",
    "relevant passages: none of {}",
    "my selection: everything except {}",
    "{} only if nothing else helps",
    "{} is unrelated",
    "{} are off-topic",
    "{} lacks the answer",
    "{} cannot help",
    "{} helps nobody",
    "{} helps, the others do not",
    "{} is relevant, but useless",
    "{} are useful?",
    "{}: no",
    "{} ist nicht relevant",
    "{} n'aident pas",
    "{} не помогает",
    "除了{}以外，其他都相关",
    "{}は関係ない",
]
_SCRAPS += [
    "<think>",
    "</think>",
    "<THINK>",
    "<think>[2]",
    "[3]</think>",
    "\n",
    "\x00",
    "\u202e",
    "［1］",
    "【2】",
    "[07]",
]


def main() -> int:
    """Print the counts; 1 if any label was made up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=13)
    options = parser.parse_args()
    draw = random.Random(derive_seed(options.seed, "hostile"))
    counts: Counter[str] = Counter()
    started = time.monotonic()
    for _ in range(options.replies):
        pool_size = draw.randint(1, 40)
        reply = draw.choice(_KINDS)(draw, pool_size)
        for parse in (parse_selection, parse_ranking):
            counts[_outcome(parse, reply, pool_size)] += 1
    seconds = time.monotonic() - started
    print(
        f"{options.replies:,} replies read twice in {seconds:.0f} s: "
        f"{counts['parsed']:,} parsed, {counts['refused']:,} refused, {counts['invented']:,} invented"
    )
    return 1 if counts["invented"] else 0


def _outcome(parse: Callable[..., list[int]], reply: str, pool_size: int) -> str:
    try:
        positions = parse(reply, pool_size=pool_size)
    except JudgmentParseError:
        return "refused"
    said = _without_reasoning(reply)
    numbers = _numbers(said)
    is_sound = (
        not _is_taken_back(said)
        and all(0 <= position < pool_size and str(position + 1) in numbers for position in positions)
        and len(set(positions)) == len(positions)
        and (positions or "none" in said.lower())
    )
    if not is_sound:
        print(f"invented: {positions} from {reply[:200]!r} with a pool of {pool_size}")
    return "parsed" if is_sound else "invented"


def _is_taken_back(said: str) -> bool:
    """Whether the words of one of ``_TAKEN_BACK`` stand around the first and the last bracket."""
    plain = said.lower().replace("*", "").strip()
    before, after = plain.partition("[")[0], plain.rpartition("]")[2]
    return any(
        before.startswith(form.lower().partition("{}")[0]) and after.rstrip(".") == form.partition("{}")[2]
        for form in _TAKEN_BACK
    )


def _without_reasoning(reply: str) -> str:
    """What is left outside of reasoning, found tag by tag."""
    said, rest = "", reply
    while rest:
        lower = "".join(character.lower() if character.isascii() else character for character in rest)
        opening, closing = lower.find("<think>"), lower.find("</think>")
        if closing >= 0 and (opening < 0 or closing < opening):
            said, rest = "", rest[closing + len("</think>") :]  # all before it was reasoning
        elif opening >= 0:
            said += rest[:opening] + " "
            rest = rest[closing + len("</think>") :] if closing >= 0 else ""
        else:
            said, rest = said + rest, ""
    return said


def _numbers(text: str) -> set[str]:
    """Runs of ASCII digits."""
    return set("".join(character if character in "0123456789" else " " for character in text).split())


def _good(draw: random.Random, pool_size: int) -> str:
    labels = draw.sample(range(1, pool_size + 1), draw.randint(1, pool_size))
    separator = draw.choice([", ", " > ", "\n", " and ", ""])
    return draw.choice(["", "My selection: "]) + separator.join(f"[{label}]" for label in labels)


def _taken_back(draw: random.Random, pool_size: int) -> str:
    labels = draw.sample(range(1, pool_size + 1), draw.randint(1, min(3, pool_size)))
    written = draw.choice([", ", " and ", ""]).join(f"[{label}]" for label in labels)
    mark = draw.choice(["", "**"])
    reply = draw.choice(_TAKEN_BACK).format(f"{mark}{written}{mark}") + draw.choice(["", "."])
    return draw.choice([reply, reply.capitalize(), reply.upper()])


def _mutated(draw: random.Random, pool_size: int) -> str:
    """A good reply with characters taken out, put in, doubled or swapped."""
    characters = list(_good(draw, pool_size))
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(characters) + 1)
        change = draw.choice(["insert", "insert", "delete", "double", "swap"])
        if change == "insert":
            characters.insert(
                place, draw.choice("[]0123456789,-.> ٣²\n") if draw.random() < 0.7 else draw.choice(_SCRAPS)
            )
        elif change == "delete" and characters:
            del characters[place - 1]
        elif change == "double":
            characters[place:place] = characters[:place][-8:]
        elif place >= 2:
            characters[place - 1], characters[place - 2] = characters[place - 2], characters[place - 1]
    return "".join(characters)


def _truncated(draw: random.Random, pool_size: int) -> str:
    thought = f"<think>{_prose(draw, pool_size)}</think>" if draw.random() < 0.5 else ""
    reply = thought + _good(draw, pool_size)
    return reply[: draw.randrange(len(reply) + 1)]


def _scraps(draw: random.Random, pool_size: int) -> str:
    return "".join(draw.choice([*_SCRAPS, f"[{draw.randint(-2, pool_size + 2)}]"]) for _ in range(draw.randint(0, 9)))


def _nested(draw: random.Random, pool_size: int) -> str:
    depth = draw.randint(1, 30)
    return "[" * depth + str(draw.randint(0, pool_size)) + "]" * draw.randint(0, depth + 1)


def _huge(draw: random.Random, pool_size: int) -> str:
    number = draw.choice("0123456789") * draw.choice([5, 20, 400, 5_000])
    return draw.choice(["[{}]", "[1], [{}]", "[{}, 1]", "[-{}]", "{}", "[1{}"]).format(number)


def _unicode(draw: random.Random, pool_size: int) -> str:
    points = (draw.choice([draw.randrange(0x110000), draw.randrange(0x250)]) for _ in range(draw.randint(0, 20)))
    return f"{''.join(map(chr, points))}[{draw.randint(0, pool_size + 1)}{chr(draw.randrange(0x3000))}]"


def _prose(draw: random.Random, pool_size: int) -> str:
    words = [*_WORDS, f"[{draw.randint(0, pool_size + 1)}]", f"[{draw.randint(1, pool_size)}]"]
    return " ".join(draw.choice(words) for _ in range(draw.randint(0, 25)))


_KINDS = [_good, _taken_back, _mutated, _mutated, _truncated, _scraps, _nested, _huge, _unicode, _prose]


if __name__ == "__main__":
    sys.exit(main())
