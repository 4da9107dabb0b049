"""D13, D14 and D15: whether what was found is still a success when somebody else looks."""

from __future__ import annotations

import numpy as np

from advex import images
from advex._arrays import Array
from advex.doctor.attacks import successes
from advex.doctor.checks import Outcome, check, flag_if, not_run, noted, ok, room
from advex.doctor.examination import Examination
from advex.goals import FRAGILE

FRESH_LOOKS = 10  # at each success
LUCK_TOLERANCE = 0.02  # of the examples
MAX_LISTED = 10


def points_and_labels(exam: Examination) -> tuple[Array, Array]:
    """The points that were found, in the user's dtype, and the classes that they leave."""
    points = np.stack([result.x[row] for result, row in exam.broken.values()])
    return points, exam.labels[list(exam.broken)]


@check(
    "D13",
    "luck",
    needs=(room, successes),
    means="Successes seem to be successes only sometimes: the model is random, and the search has"
    " picked lucky draws.",
    advice="Count a success by its share over many fresh evaluations; search with"
    " advex.AveragedGradient(attack).",
)
def luck(exam: Examination) -> Outcome:
    """Whether successes stay successes when the model is asked again."""
    points, labels = points_and_labels(exam)
    again = float(
        np.mean([exam.logits(points).argmax(axis=1) != labels for _ in range(FRESH_LOOKS)])
    )
    first, mean = len(points) / exam.n, again * len(points) / exam.n
    return flag_if(
        first - mean > LUCK_TOLERANCE,
        f"{first:.1%} of the examples fall at first sight, {mean:.1%} in the mean of"
        f" {FRESH_LOOKS} fresh looks",
        first=first,
        mean=mean,
    )


@check(
    "D14",
    "fragile",
    needs=(room, successes),
    means="The verdict on these changes with the way the model is run, or hangs on rounding errors:"
    " they belong in neither count.",
    advice="Leave them out, or say how many there are.",
)
def fragile(exam: Examination) -> Outcome:
    """Whether successes change when the model is run compiled or on each alone, or are ties."""
    points, labels = points_and_labels(exam)
    together = exam.logits(points)
    answers = [together, exam.alone(points)]
    if exam.classifier.differentiable:
        exam.queries += len(points)
        answers.append(exam.judge.compiled_logits(exam.classifier, points))
    verdicts = np.stack([logits.argmax(axis=1) != labels for logits in answers])
    changing = (verdicts != verdicts[0]).any(axis=0)
    ordered = np.sort(together, axis=1)
    tie = ordered[:, -1] - ordered[:, -2] <= FRAGILE * np.abs(together).max(axis=1)
    which = exam.index[np.asarray(list(exam.broken))[changing | tie]].tolist()
    same = len(points) - len(which)
    found = f"{same} of {len(points)} successes stay the same compiled and alone"
    if which:
        found += f"; the others change or are nearly ties{listed(which)}"
    judgement = noted if which else ok
    return judgement(found, fragile=len(which), changing=int(changing.sum()), ties=int(tie.sum()))


def listed(which: list[int]) -> str:
    """The first few of the examples, after a colon."""
    more = ", ..." if len(which) > MAX_LISTED else ""
    return f": {', '.join(map(str, which[:MAX_LISTED]))}{more}"


@check(
    "D15",
    "lost in 8 bits",
    needs=(room, successes),
    means="Successes that need finer steps than an 8-bit file has are gone once the picture is"
    " saved.",
    advice="Pass the images as uint8: advex then searches among 8-bit images.",
)
def lost_in_8_bits(exam: Examination) -> Outcome:
    """Whether successes are still successes once saved as pictures."""
    before = len(exam.broken)
    if exam.grid.levels:
        found = f"the inputs are 8-bit images, and so are all {before} successes"
        return ok(found, before=before, after=before)
    if not images.is_image(exam.x):
        return not_run("the inputs are not pictures")
    after = int(
        sum(
            result._judged_file(result._pixels(row), row)[2] for result, row in exam.broken.values()
        )
    )
    exam.queries += before
    found = f"{after} of {before} successes are left when rounded to 8 bits (towards the original)"
    judgement = noted if after < before else ok
    return judgement(found, before=before, after=after)
