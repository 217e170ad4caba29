"""The parts of the generated class, its test and its README that depend on what a model's answers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mbn_deploy.answers import Answers, Meaning

_PREDICTION = "data class Prediction(val index: Int, val label: String, val score: Float)"
_ROTATION = """     *
     * `rotationDegrees` is how far the picture must be turned clockwise to be upright: 0, 90, 180 or 270, as in
     * CameraX's `imageInfo.rotationDegrees` and in `ExifInterface.rotationDegrees`.
     */
    @JvmOverloads
"""


@dataclass(frozen=True)
class AnswerCode:
    """The code for one meaning of the answers.

    `§name` stands for the class, `§best` for the call that ranks `scores` and takes the `count` best.

    Attributes:
        purpose: what the class does, for its comment.
        names: what `labels` holds, for its comment.
        result: the class of a result, with its comment; empty where a result is a plain array.
        method: the method that answers, without its comment on the rotation.
        numbers: what `scores` returns, for its comment.
        usage: the Kotlin line of the README's example, with `classifier`, `bitmap` and `rotationDegrees`.
        java: the call from Java in the README.
        test: the statements of the Java test, with `classifier` and `photograph`.
    """

    purpose: str
    names: str
    result: str
    method: str
    numbers: str
    usage: str
    java: str
    test: str


_CLASSIFY_TEST = """            List<§{name}.Prediction> best = classifier.classify(photograph, 90§{arguments});
            §{name}.Prediction first = best.get(0);
            assertEquals(classifier.getLabels().get(first.getIndex()), first.getLabel());"""
_PRINTED = 'for (each in classifier.§{call}(bitmap, rotationDegrees)) println("${each.label} ${each.§{number}}")'
_PRINT_SCORES = _PRINTED.replace("§{call}", "classify").replace("§{number}", "score")

_CODES: Mapping[Meaning, AnswerCode] = {
    "classes": AnswerCode(
        purpose="Classifies pictures.",
        names="The name of each class, by index.",
        result=f"""    /** A class of a picture; `score` is its probability. */
    {_PREDICTION}

""",
        method=f"""    /**
     * Returns the `topK` most probable classes of a picture, best first.
{_ROTATION}    fun classify(bitmap: Bitmap, rotationDegrees: Int = 0, topK: Int = 5): List<Prediction> {{
        val scores = answers(bitmap, rotationDegrees)
        return §{{best}}(scores, topK).map {{ Prediction(it, labels[it], scores[it]) }}
    }}""",
        numbers="the probability of each class",
        usage=_PRINT_SCORES,
        java="classifier.classify(bitmap, rotationDegrees, 5);",
        test=_CLASSIFY_TEST.replace("§{arguments}", ", 1"),
    ),
    "labels": AnswerCode(
        purpose="Labels pictures: each label is there or not, whatever the others are.",
        names="The name of each label, by index.",
        result=f"""    /** A label of a picture; `score` is its probability, which is independent of the others'. */
    {_PREDICTION}

""",
        method=f"""    /**
     * Returns the labels of a picture that have at least the probability `threshold`, best first; there may be none.
{_ROTATION}    fun classify(bitmap: Bitmap, rotationDegrees: Int = 0, threshold: Float = 0.5f): List<Prediction> {{
        val scores = answers(bitmap, rotationDegrees)
        val ranked = §{{best}}(scores, scores.size).map {{ Prediction(it, labels[it], scores[it]) }}
        return ranked.filter {{ it.score >= threshold }}
    }}""",
        numbers="the probability of each label",
        usage=_PRINT_SCORES,
        java="classifier.classify(bitmap, rotationDegrees, 0.5f);",
        test=_CLASSIFY_TEST.replace("§{arguments}", ", 0f"),
    ),
    "binary": AnswerCode(
        purpose="Answers yes or no to pictures.",
        names="The two names: that of no, and that of yes.",
        result=f"""    /** One of the two names; `score` is its probability. */
    {_PREDICTION}

""",
        method=f"""    /**
     * Returns both names with their probabilities, the more probable one first.
{_ROTATION}    fun classify(bitmap: Bitmap, rotationDegrees: Int = 0): List<Prediction> {{
        val yes = answers(bitmap, rotationDegrees)[0]
        val scores = floatArrayOf(1 - yes, yes)
        return §{{best}}(scores, 2).map {{ Prediction(it, labels[it], scores[it]) }}
    }}""",
        numbers="the probability of yes, the second name,",
        usage=_PRINT_SCORES,
        java="classifier.classify(bitmap, rotationDegrees);",
        test=_CLASSIFY_TEST.replace("§{arguments}", ""),
    ),
    "values": AnswerCode(
        purpose="Predicts numbers from pictures.",
        names="The name of each number, by index.",
        result="""    /** A number that was predicted, in the units of the training. */
    data class Value(val index: Int, val label: String, val value: Float)

""",
        method=f"""    /**
     * Returns the numbers for a picture, in the order of the model's outputs.
{_ROTATION}    fun predict(bitmap: Bitmap, rotationDegrees: Int = 0): List<Value> =
        answers(bitmap, rotationDegrees).mapIndexed {{ index, value -> Value(index, labels[index], value) }}""",
        numbers="the numbers",
        usage=_PRINTED.replace("§{call}", "predict").replace("§{number}", "value"),
        java="classifier.predict(bitmap, rotationDegrees);",
        test="""            List<§{name}.Value> values = classifier.predict(photograph, 90);
            assertEquals(classifier.getLabels().get(0), values.get(0).getLabel());""",
    ),
    "embedding": AnswerCode(
        purpose="Turns pictures into feature vectors, to compare them with each other.",
        names="The number of each feature, as text.",
        result="",
        method=f"""    /**
     * Returns the feature vector of a picture.
{_ROTATION}    fun embed(bitmap: Bitmap, rotationDegrees: Int = 0): FloatArray = answers(bitmap, rotationDegrees)""",
        numbers="the feature vector",
        usage="val features: FloatArray = classifier.embed(bitmap, rotationDegrees)",
        java="float[] features = classifier.embed(bitmap, rotationDegrees);",
        test="            List<String> names = classifier.getLabels();\n"
        "            assertEquals(names.size(), classifier.embed(photograph, 90).length);",
    ),
}


def answer_code(answers: Answers) -> AnswerCode:
    """Return the code for what the answers mean."""
    return _CODES[answers.meaning]


def last_function(answers: Answers) -> str:
    """Return the function that turns the model's outputs into its answers, a constant of the generated code."""
    if answers.scores != "logits":
        return "NONE"
    return "SOFTMAX" if answers.meaning == "classes" else "SIGMOID"
