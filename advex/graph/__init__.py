"""What Keras 3 took away: ``K.gradients`` and ``K.function``, and all that people did with them."""

from advex.graph.derivative import gradients, jacobian, symbol
from advex.graph.running import function, updates

__all__ = ["function", "gradients", "jacobian", "symbol", "updates"]
