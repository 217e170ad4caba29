"""The parts of the Swift class and its README that depend on what a model's answers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mbn_deploy.answers import Answers, Meaning


@dataclass(frozen=True)
class AnswerCode:
    """The code for one meaning of the answers.

    Attributes:
        purpose: what the class does, for its comment.
        result: the struct of a result; empty where a result is a plain array.
        method: the method that answers, with its comment.
        usage: the line of the README's example, with `classifier` and `image`.
    """

    purpose: str
    result: str
    method: str
    usage: str


_PREDICTION = """    public struct Prediction {
        public let index: Int
        public let label: String
        public let score: Float
    }

"""
_RANKED = """        let ranked = scores.indices.sorted { first, second in
            scores[first] == scores[second] ? first < second : scores[first] > scores[second]
        }
"""
_NAMED = """{ index in
            Prediction(index: index, label: labels[index], score: scores[index])
        }"""
_SCORES = "        let scores = try self.scores(of: Self.pixels(of: image))\n"

_CODES: Mapping[Meaning, AnswerCode] = {
    "classes": AnswerCode(
        purpose="Classifies pictures.",
        result=_PREDICTION,
        method="    /// Returns the most probable classes of a picture, best first.\n"
        "    public func classify(_ image: UIImage, count: Int = 5) throws -> [Prediction] {\n"
        f"{_SCORES}{_RANKED}        return ranked.prefix(count).map {_NAMED}\n    }}",
        usage="for result in try classifier.classify(image, count: 3) { print(result.label, result.score) }",
    ),
    "labels": AnswerCode(
        purpose="Labels pictures: each label is there or not, whatever the others are.",
        result=_PREDICTION,
        method="    /// Returns the labels of a picture with at least the probability `threshold`, best first.\n"
        "    public func classify(_ image: UIImage, threshold: Float = 0.5) throws -> [Prediction] {\n"
        f"{_SCORES}{_RANKED}        return ranked.filter {{ scores[$0] >= threshold }}.map {_NAMED}\n    }}",
        usage="for result in try classifier.classify(image) { print(result.label, result.score) }",
    ),
    "binary": AnswerCode(
        purpose="Answers yes or no to pictures.",
        result=_PREDICTION,
        method="    /// Returns both names with their probabilities, the more probable one first.\n"
        "    public func classify(_ image: UIImage) throws -> [Prediction] {\n"
        "        let yes = try self.scores(of: Self.pixels(of: image))[0]\n"
        "        let scores = [1 - yes, yes]\n"
        f"{_RANKED}        return ranked.map {_NAMED}\n    }}",
        usage="for result in try classifier.classify(image) { print(result.label, result.score) }",
    ),
    "values": AnswerCode(
        purpose="Predicts numbers from pictures.",
        result="""    public struct Value {
        public let index: Int
        public let label: String
        public let value: Float
    }

""",
        method="    /// Returns the numbers for a picture, in the order of the model's outputs.\n"
        "    public func predict(_ image: UIImage) throws -> [Value] {\n"
        f"{_SCORES}"
        "        return scores.indices.map { index in\n"
        "            Value(index: index, label: labels[index], value: scores[index])\n"
        "        }\n    }",
        usage="for result in try classifier.predict(image) { print(result.label, result.value) }",
    ),
    "embedding": AnswerCode(
        purpose="Turns pictures into feature vectors, to compare them with each other.",
        result="",
        method="    /// Returns the feature vector of a picture.\n"
        "    public func embed(_ image: UIImage) throws -> [Float] {\n"
        "        try self.scores(of: Self.pixels(of: image))\n    }",
        usage="let features: [Float] = try classifier.embed(image)",
    ),
}


def answer_code(answers: Answers) -> AnswerCode:
    """Return the code for what the answers mean."""
    return _CODES[answers.meaning]
