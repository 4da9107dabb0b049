"""Certificates: what no attack within a distance can change, by randomised smoothing."""

from typing import TYPE_CHECKING

from advex._others import face
from advex.certification.call import certify
from advex.certification.certificate import Certificate, CertifiedCurve

__all__ = ["Certificate", "CertifiedCurve", "certify"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
