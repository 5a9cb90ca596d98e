"""Rules of products of two tensors: einsum, matmul, and the attention that is made of them."""

from __future__ import annotations

from tfcompress.channels.shape_rules import unknown
from tfcompress.channels.tracker import Axes, Labels, Product, Step


def einsum(step: Step) -> list[Axes]:
    """A sum over letters, of two tensors."""
    terms, _, output = step.layer.subscripts.replace(" ", "").partition("->")
    parts = terms.split(",")
    ranks = [len(x.shape) for x in step.call.inputs]
    plain = (
        "." not in terms and [len(part) for part in parts] == ranks and len(output) == len(step.call.outputs[0].shape)
    )
    if len(parts) != 2 or not plain or any(len(set(part)) != len(part) for part in (*parts, output)):
        return unknown(step)
    return [product(step, (parts[0], parts[1]), output)]


def matmul(step: Step) -> list[Axes]:
    """A matrix product over the last two axes."""
    ranks = [len(x.shape) for x in step.call.inputs]
    if len(ranks) != 2 or min(ranks) < 2 or (ranks[0] != ranks[1] and min(ranks) != 2):
        return unknown(step)
    batch = "".join(chr(ord("A") + at) for at in range(max(ranks) - 2))
    first = batch[len(batch) - ranks[0] + 2 :] + "xy"
    second = batch[len(batch) - ranks[1] + 2 :] + "yz"
    return [product(step, (first, second), batch + "xz")]


def product(step: Step, terms: tuple[str, str], output: str, at: tuple[int, int] = (0, 1)) -> Axes:
    """Book a product of two of a call's tensors and return the labels of what comes out.

    Args:
        step: The call.
        terms: The letters of the two tensors' axes.
        output: Those of what comes out; letters that aren't there are summed over.
        at: Which of the call's tensors the two are.
    """
    found: dict[str, Labels] = {}
    shapes = [step.call.inputs[index].shape for index in at]
    for letter in dict.fromkeys("".join(terms)):
        axes = [term.find(letter) for term in terms]
        parts = [step.inputs[index][axis] for index, axis in zip(at, axes, strict=True) if axis >= 0]
        sizes = {shape[axis] for shape, axis in zip(shapes, axes, strict=True) if axis >= 0} - {None}
        if len(parts) == 2:
            if len(sizes) > 1:  # broadcast
                for labels in parts:
                    step.block(labels, "spreads it over an axis")
                parts = [None, None]
            else:
                step.link(*parts)
        elif letter not in output:
            step.block(parts[0], "sums over it")
        first = next((labels for labels in parts if labels is not None), None)
        step.tracker.mark(first, "attention_head" if len(parts) == 2 and letter in output else "attention_width")
        found[letter] = first
        if len(parts) == 2 and letter not in output:
            tensors = step.call.inputs[at[0]], step.call.inputs[at[1]]
            step.tracker.products.append(Product(step.call, tensors, (axes[0], axes[1])))
    return tuple(found[letter] for letter in output)


def dot_product_attention(step: Step) -> list[Axes]:
    """Softmax of queries times keys, times values; all of shape (batch, positions, heads, width)."""
    inputs, shapes = step.inputs, [x.shape for x in step.call.inputs]
    if len(inputs) < 3 or any(len(shape) != 4 for shape in shapes[:3]) or shapes[0][2] != shapes[1][2]:
        return unknown(step)
    scores = product(step, ("btnd", "bsnd"), "bnts")
    step.block(scores[3], "normalizes over it")
    for axes, shape in zip(inputs[3:], shapes[3:], strict=True):  # a bias or a mask of (batch, heads or 1, t, s)
        for at, (labels, size) in enumerate(zip(axes, shape, strict=True)):
            if at == 1 and size != 1:
                step.link(scores[1], labels)
            else:
                step.block(labels, "adds it to scores of attention")
    mixed = Step(step.tracker, step.call, (scores, inputs[2]))
    values = step.call.inputs[2]
    for first, second in ((scores[1], inputs[2][2]), (scores[3], inputs[2][1])):
        mixed.link(first, second)
    step.tracker.mark(inputs[2][3], "attention_width")
    heads = next((labels for labels in (scores[1], inputs[2][2]) if labels is not None), None)
    assert len(values.shape) == 4
    return [(inputs[0][0], inputs[0][1], heads, inputs[2][3])]
