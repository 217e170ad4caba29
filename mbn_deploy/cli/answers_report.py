"""A model's answers to pictures, as `run` prints them."""

from __future__ import annotations

from mbn_deploy.cli.output import plain, stdout
from mbn_deploy.runtime import Answer, ModelInfo

_SHOWN = 8  # features of a vector that are printed; JSON has all


def print_answer(name: str, answer: Answer, info: ModelInfo) -> None:
    """Print the picture's name and a line for each name, value or the vector; percentages are of probabilities only."""
    console = stdout()
    console.print(plain(name), soft_wrap=True)
    for line in _lines(answer, info):
        console.print(f"  {plain(line)}", soft_wrap=True)


def _lines(answer: Answer, info: ModelInfo) -> list[str]:
    if not isinstance(answer, list):
        shown = " ".join(f"{feature:.4g}" for feature in answer[:_SHOWN])
        return [f"{len(answer)} features: {shown}{' ...' if len(answer) > _SHOWN else ''}"]
    if info.answers.meaning == "labels" and not answer:
        return ["no label reaches the threshold"]
    return [str(each) for each in answer]
