"""Names that other libraries use, and what answers to them here; names that are misspelt; names
that are not there yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from advex.errors import UnknownName, nearest

HERE = {
    "APGD": "autopgd autoprojectedgradientdescent apgdce apgdt apgddlr",
    "AutoAttack": "standard autoattackstandard aa robustbench",
    "BIM": "basiciterative ifgsm iterativefgsm iterativefastgradient iterativegradientsign",
    "CarliniWagner": "cw carlini carliniwagner candw",
    "Classifier": (
        "kerasclassifier tensorflowclassifier tensorflowv2classifier pytorchclassifier model"
        " tensorflowmodel pytorchmodel jaxmodel kerasmodel kerasmodelwrapper"
    ),
    "BlackBox": "blackboxclassifier blackboxmodel",
    "DDN": "decoupleddirectionandnorm decoupleddirectionnorm",
    "ElasticNet": "ead eaden eadl1 elasticnet",
    "FAB": "fabt fastadaptiveboundary",
    "FGSM": "fastgradient fastgradientsign fgm gradientsign gradient",
    "FMN": "fastminimumnorm",
    "JSMA": "saliencymap saliency jacobiansaliencymap",
    "MomentumIterative": "mifgsm mim momentum momentumiterative momentumiterativefastgradient mi",
    "NesterovIterative": "nifgsm nesterov ni",
    "HopSkipJump": "hsja hsj",
    "CGBA": "cgbah",
    "NES": "nesattack naturalevolutionstrategies naturalevolution",
    "PGD": "projectedgradientdescent pgdlinf madry projectedgradient",
    "Pointwise": "pointwiseattack",
    "RayS": "raysattack",
    "SimBA": "simbadct simbapixel simpleblackbox simpleblackboxattack",
    "SparseRS": "sparsers sparserandomsearch rsattack l0rs",
    "SPSA": "simultaneousperturbation",
    "SquareAttack": "square",
    "SurFree": "surfreeattack",
    "AveragedGradient": "eot eotpgd expectationovertransformation difgsm di2fgsm tifgsm sinifgsm"
    " vmifgsm vnifgsm inputdiversity",
    "Targeted": "targetedmisclassification target",
    "Untargeted": "misclassification",
    "Linf": "linfinity inf max",
    "MultiLabel": "multilabels labels multihot",
    "Output": "head",
    "Regression": "kerasregressor regressor pytorchregressor",
    "Segmentation": "pixels semanticsegmentation kerassegmenter",
    "SEA": "dag cospgd segmentationensemble",
    "certify": "randomizedsmoothing randomisedsmoothing smoothing smooth certificates",
    "evaluate": "robustaccuracy benchmark accuracy attackall",
    "function": "kfunction",
    "training.Adversarial": "adversarial adversarialtrainer adversarialtraining trainer"
    " adversarialtrainermadrypgd adversarialregularization",
    "training.TRADES": "trades adversarialtrainertrades tradesloss",
    "training.MART": "mart",
    "training.AWP": "awp adversarialtrainerawp",
    "training.Fast": "fast adversarialtrainerfbf fbf rsfgsm fastisbetterthanfree",
    "training.Free": "freeadv freeat free adversarialtrainerfree",
    "training.NFGSM": "nfgsm noisyfgsm",
    "training.StopCollapse": "stopcollapse",
    "losses.cross_entropy": "crossentropy ce crossentropyloss celoss",
    "losses.margin": "cw cwloss marginloss logitmargin carliniwagnerloss f6 logit hinge",
    "losses.dlr": "dlrloss dlrtargeted",
}
REMARKS = {
    "PGD": "the norm is chosen by the budget: advex.PGD()(model, x, labels, advex.Linf(8/255))",
    "AveragedGradient": "it goes around another attack: advex.AveragedGradient(advex.PGD(),"
    " transforms, 16)",
    "SquareAttack": "it looks at scores alone: advex.SquareAttack()(model, x, labels,"
    " advex.Linf(8/255))",
    "training.Adversarial": "around the model, in front of fit: robust ="
    " advex.training.Adversarial(model, advex.PGD(steps=7), advex.Linf(8/255))",
    "evaluate": "advex.evaluate(model, (x, labels), advex.PGD(), advex.Linf(8/255))",
    "certify": "advex.certify(model, x, labels, sigma=0.25)",
    "Classifier": "most models need none: advex.PGD()(model, x, labels, advex.Linf(8/255))",
}
LIBRARIES = "torchattacks foolbox cleverhans art advlib advertorch secml textattack deeprobust"
LATER = {
    "this attack on class numbers is not there yet; advex.MinimumNorm() looks at class numbers"
    " alone, too, where a model gives no more": (
        "boundary boundaryattack geoda signopt opt signflip qeba evolutionary triangle label"
        " labelonly decisionbased"
    ),
    "this attack on scores is not there yet; advex.SquareAttack() looks at scores, too": (
        "zoo bandits onepixel pixle parsimonious rgf zosignsgd bayes"
    ),
    "bounds through the layers are not there yet; advex.certify(model, x, labels) certifies the"
    " model with noise": "crown ibp autolirpa lirpa intervalbound zonotope",
    "one change for all inputs (universal, patch) and changes of place are not there yet": (
        "universal universalperturbation uap patch adversarialpatch dpatch spatialtransform stadv"
        " spatial wasserstein"
    ),
}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _forms(name: str) -> list[str]:
    """``name`` in small letters, and without the norm and the word attack around it:
    L2CarliniWagnerAttack, CWL2.
    """
    whole = _plain(name)
    bare = re.sub(r"(attack|method)$", "", whole)
    return list(
        dict.fromkeys(
            [
                whole,
                bare,
                re.sub(r"^(linf|l2|l1|l0)", "", bare),
                re.sub(r"(linf|l2|l1|l0)$", "", bare),
            ]
        )
    )


def face(module: str, public: list[str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module: completion offers what is public, and a misspelt
    name is answered with the nearest one.
    """

    def missing(name: str) -> Any:
        raise unknown(module, name, public)

    return missing, lambda: sorted(public)


def unknown(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """The error for ``module.name``: what it is called here, the nearest name of ``known``, or why
    it is not there.

    Example:
        >>> unknown("advex", "CW", ["CarliniWagner"])
        UnknownName("module 'advex' has no attribute 'CW': here it is advex.CarliniWagner")
    """
    start = f"module {module!r} has no attribute {name!r}"
    if name.startswith("_"):  # what Python itself looks for
        return AttributeError(start)
    public = [entry for entry in known if not entry.startswith("_")]
    if name == "ZOO":  # the attack, not the module
        public = [entry for entry in public if entry != "zoo"]
    for form in _forms(name):
        matches = [entry for entry in public if _plain(entry) == form]
        matches += [entry for entry, words in HERE.items() if form in words.split()]
        if module != "advex.losses":
            matches = [entry for entry in matches if not entry.startswith("losses.")] or matches
        else:
            matches.sort(key=lambda entry: not entry.startswith("losses."))
        if matches:
            home = module if matches[0] in public else "advex"
            remark = REMARKS.get(matches[0])
            return UnknownName(
                f"{start}: here it is {home}.{matches[0]}{'; ' + remark if remark else ''}"
            )
        if form in LIBRARIES.split():
            return UnknownName(
                f"{start}: that is another library; its attacks have their own names here, such as"
                f" advex.PGD()"
            )
        for reason, words in LATER.items():
            if form in words.split():
                return UnknownName(f"{start}: {reason}")
    letters = sorted(_plain(name))
    close = [entry for entry in public if sorted(_plain(entry)) == letters]
    close = close or (nearest(name, public, 2) if len(name) < 60 else [])
    meant = " or ".join(f"{module}.{entry}" for entry in close)
    return UnknownName(
        f"{start}; did you mean {meant}?"
        if close
        else f"{start}; dir({module}) lists what there is"
    )
