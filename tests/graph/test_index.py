"""What makes and what reads each tensor, after any change of the graph."""

import random

from tfcompress.graph.index import NOT_GIVEN, TensorIndex


class Operator:
    """Known by itself, as those of files are; it reads and makes tensors."""

    def __init__(self, read, made):
        self.read, self.made = read, made


def connections(index, tensors):
    found = {x: (index.producer(x), index.is_output(x)) for x in tensors}
    return found, {x: {(id(one), place) for one, place in index.readings(x)} for x in tensors}


def test_an_index_that_is_told_of_changes_is_that_of_the_graph_as_it_is():
    draw = random.Random(0)
    tensors, spare, operators = list(range(-1, 40)), list(range(40, 400)), []
    index = TensorIndex(outputs=[3, 7])
    for _ in range(400):
        change = draw.choice(("add", "add", "remove", "set_input", "set_output") if operators else ("add",))
        one = draw.choice(operators) if operators else None
        if change == "add":
            one = Operator([draw.choice(tensors) for _ in range(3)], [spare.pop(0)])
            operators.append(one)
            tensors += one.made
            index.add(one, one.read, one.made)
        elif change == "remove":
            operators.remove(one)
            index.remove(one, one.read, one.made)
        elif change == "set_input":
            place, new = draw.randrange(3), draw.choice(tensors)
            index.set_input(one, place, one.read[place], new)
            one.read[place] = new
        else:
            tensors.append(spare.pop(0))
            assert index.set_output(one.made[0], tensors[-1]) is one
            one.made = [tensors[-1]]
    assert len(operators) > 20 and not any(map(index.readers, NOT_GIVEN))
    anew = TensorIndex(((one, one.read, one.made) for one in operators), outputs=[3, 7])
    assert connections(index, tensors) == connections(anew, tensors)
