"""The checks of the doctor as questions that anybody would ask; "yes" is good news."""

from __future__ import annotations

from advex.doctor import Finding

QUESTIONS = {
    "D1": "Is there a gradient to follow?",
    "D2": "Does the usual loss have a gradient?",
    "D3": "Do the gradients tell the truth?",
    "D4": "Does the model give the same answer twice?",
    "D5": "Is each answer independent of the rest of the batch?",
    "D6": "Are the model's logits within reach?",
    "D7": "Are many small steps at least as good as one big step?",
    "D8": "Do gradient attacks find what blind search finds?",
    "D9": "Is every example broken when any change is allowed?",
    "D10": "Were the steps enough for the attack?",
    "D11": "Do other random starts give the same result?",
    "D12": "Does a larger budget break at least as many?",
    "D13": "Do successes last when the model is asked again?",
    "D14": "Does the way the model is run leave the verdicts alone?",
    "D15": "Do successes survive in an 8-bit file?",
}
ANSWERS = {"ok": "Yes.", "flag": "No.", "noted": "Worth knowing.", "not run": "Not checked."}


def question(finding: Finding) -> str:
    """What a check asks; its name where it is unknown here."""
    return QUESTIONS.get(finding.id, f"{finding.name}?")


def answer(finding: Finding) -> str:
    """The answer in a word or two, before what was found."""
    return ANSWERS.get(finding.status, f"{finding.status}.")


def found(finding: Finding) -> str:
    """What was measured, as a sentence."""
    return finding.sentence
