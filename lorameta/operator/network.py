"""The network of the neural operator, one number in and one out, with its gradient by hand.

1 → width → width → 1: linear, layer norm, ReLU; the same again; linear. The last bias is left out, since softmin does
not see a constant. float64 throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

#: What layer norm adds to the variance.
EPSILON = 1e-5

Parameters = Mapping[str, np.ndarray]


def shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of every parameter, in the order in which :func:`packed` lays them out."""
    return {
        "hidden1.weight": (1, width),
        "hidden1.bias": (width,),
        "norm1.gain": (width,),
        "norm1.bias": (width,),
        "hidden2.weight": (width, width),
        "hidden2.bias": (width,),
        "norm2.gain": (width,),
        "norm2.bias": (width,),
        "output.weight": (width,),
    }


def initial(width: int, knots: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random hidden layers, and the output layer for which f(x) is nearest to x at the knots (ridge regression)."""
    parameters = {name: np.zeros(shape) for name, shape in shapes(width).items()}
    parameters["norm1.gain"] += 1
    parameters["norm2.gain"] += 1
    parameters["hidden1.weight"] = rng.normal(size=(1, width))
    parameters["hidden1.bias"] = rng.normal(size=width)
    parameters["hidden2.weight"] = rng.normal(size=(width, width)) * np.sqrt(2 / width)
    features = _forward(parameters, knots)[-1]
    centred = features - features.mean(axis=0)  # a constant does not matter
    system = centred.T @ centred + 1e-6 * len(knots) * np.eye(width)
    parameters["output.weight"] = np.linalg.solve(system, centred.T @ (knots - knots.mean()))
    return parameters


def scores(parameters: Parameters, x: np.ndarray) -> np.ndarray:
    """f of every entry of `x`, shape (K,)."""
    return np.asarray(_forward(parameters, x)[-1] @ parameters["output.weight"])


def scores_and_pullback(
    parameters: Parameters, x: np.ndarray
) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, np.ndarray]]]:
    """f of every entry of `x`, and the function that turns ∂L/∂f (K,) into ∂L/∂parameters."""
    scaled1, inverse1, active1, scaled2, inverse2, active2 = _forward(parameters, x)

    def pullback(by_value: np.ndarray) -> dict[str, np.ndarray]:
        flow = by_value[:, None] * parameters["output.weight"] * (active2 > 0)
        gradient = {"output.weight": by_value @ active2}
        flow = _through_norm(gradient, "norm2", flow, scaled2, inverse2, parameters["norm2.gain"])
        gradient |= {"hidden2.weight": active1.T @ flow, "hidden2.bias": flow.sum(axis=0)}
        flow = (flow @ parameters["hidden2.weight"].T) * (active1 > 0)
        flow = _through_norm(gradient, "norm1", flow, scaled1, inverse1, parameters["norm1.gain"])
        return gradient | {"hidden1.weight": (x @ flow)[None], "hidden1.bias": flow.sum(axis=0)}

    return np.asarray(active2 @ parameters["output.weight"]), pullback


def packed(parameters: Parameters) -> np.ndarray:
    """Return all parameters in one vector."""
    return np.concatenate([parameters[name].ravel() for name in shapes(len(parameters["output.weight"]))])


def unpacked(vector: np.ndarray, like: Parameters) -> dict[str, np.ndarray]:
    """Return the parameters of a vector made by :func:`packed`."""
    found, start = {}, 0
    for name, shape in shapes(len(like["output.weight"])).items():
        size = int(np.prod(shape))
        found[name], start = vector[start : start + size].reshape(shape), start + size
    return found


def _forward(parameters: Parameters, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of both layers: what layer norm scaled, by how much, and what ReLU let through."""
    hidden = x[:, None] * parameters["hidden1.weight"] + parameters["hidden1.bias"]
    scaled1, inverse1 = _norm(hidden)
    active1 = np.maximum(scaled1 * parameters["norm1.gain"] + parameters["norm1.bias"], 0.0)
    scaled2, inverse2 = _norm(active1 @ parameters["hidden2.weight"] + parameters["hidden2.bias"])
    active2 = np.maximum(scaled2 * parameters["norm2.gain"] + parameters["norm2.bias"], 0.0)
    return scaled1, inverse1, active1, scaled2, inverse2, active2


def _norm(hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centred = hidden - hidden.mean(axis=1, keepdims=True)
    inverse = 1 / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + EPSILON)
    return centred * inverse, inverse


def _through_norm(
    gradient: dict[str, np.ndarray], name: str, flow: np.ndarray, scaled: np.ndarray, inverse: np.ndarray,
    gain: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Add the gradients of a layer norm's gain and bias, and return the flow below it."""
    gradient[f"{name}.gain"], gradient[f"{name}.bias"] = (flow * scaled).sum(axis=0), flow.sum(axis=0)
    flow = flow * gain
    return (flow - flow.mean(axis=1, keepdims=True) - scaled * (flow * scaled).mean(axis=1, keepdims=True)) * inverse
