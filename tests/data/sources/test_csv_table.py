"""Tables in .csv files."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.data.sources.test_folders import seen, wanted
from tfcompress.data.sources.source import Request
from tfcompress.data.sources.table import open_dataset

HEAD = "size,colour,weight,kind"


def write(path, rows=20, head=HEAD, separator=","):
    """Rows whose kind follows from their weight."""
    lines = [head] + [f"{i},{('red', 'blue', '')[i % 3]},{i / 4},{'big' if i > 9 else 'small'}" for i in range(rows)]
    path.write_text("\n".join(lines).replace(",", separator) + "\n")
    return str(path)


def test_text_is_one_hot_in_one_array(tmp_path):
    data = open_dataset(write(tmp_path / "things.csv"), Request(label="kind"))
    assert (data.name, data.classes, data.class_names) == ("things", 2, ("big", "small"))
    (x, y), (x_test, y_test) = seen(data.train), seen(data.test)
    assert (data.train.samples, data.test.samples, len(x), len(x_test)) == (16, 4, 16, 4)
    x, y = np.concatenate([x, x_test]), np.concatenate([y, y_test])
    order = np.argsort(x[:, 0])
    colours = np.eye(3)[[(2, 1, 0)[i % 3] for i in range(20)]]  # "", blue, red
    expected = np.column_stack([np.arange(20), colours, np.arange(20) / 4])
    np.testing.assert_allclose(x[order], expected)
    np.testing.assert_array_equal(y[order], np.arange(20) <= 9)
    assert len(data.train.first(5)) == 5


def test_a_model_with_an_input_for_each_column_gets_values_by_name(tmp_path):
    shapes = {"size": ((1,), "float32"), "colour": ((1,), "int32"), "weight": ((), "float32")}
    inputs = {name: keras.Input(shape, name=name, dtype=dtype) for name, (shape, dtype) in shapes.items()}
    model = keras.Model(inputs, L.Dense(2)(inputs["size"]))
    data = open_dataset(write(tmp_path / "things.csv", separator=";", head=HEAD), wanted(model, label="kind"))
    assert {name: info.shape for name, info in data.train.x.items()} == {
        "size": (None, 1), "colour": (None, 1), "weight": (None,),
    }  # fmt: skip
    first = data.train.first(20)
    np.testing.assert_array_equal(first["colour"][:, 0], [(2, 1, 0)[int(i) % 3] for i in first["size"][:, 0]])


def test_files_that_are_divided_and_values_that_are_regressed(tmp_path):
    write(tmp_path / "train.csv", 8)
    write(tmp_path / "test.csv", 4)
    data = open_dataset(str(tmp_path), Request(label="weight"))
    assert (data.train.samples, data.test.samples, data.classes) == (8, 4, None)
    np.testing.assert_allclose(seen(data.test)[1], np.arange(4) / 4)
    whole = open_dataset(str(tmp_path), Request(label="size"))
    assert whole.classes == 8
    orders = [np.concatenate([y for _, y in whole.train.shuffled(3).take(3)]).tolist() for _ in range(2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == list(range(8))


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("a,b\n1,2\n", None, "the column that is to be predicted.*has a, b"),
        ("a,b\n1,2\n", "c", "a column of .*t.csv: a, b. Received: 'c'"),
        ("a,b\n", "b", "rows below the first line"),
        ("", "b", "names of at least two columns"),
        ("a,a\n1,2\n", "a", "each once"),
        ("label,b\n1,2\n", "labels", "Did you mean 'label'?"),
        (",a,b\n0,1,2\n", "b", "index=False"),
        ("a,b\n1,2\n?,3\n", "b", r"every row of column 'a'. Received: '\?' in line 3"),
        ("a;b\n1,5;x\n2;x\n", "b", "a decimal point.*Received: '1,5' in column 'a', line 2"),
        ("a,b\n1,x\n2,\n", "b", "predicted in every row of column 'b'.*line 3"),
        ("a,b\n1,x\n2,x\n3,y\n", "b", "Received: 1 of 'y'; 3 samples of 2 classes"),
        ("a,b\n1_0,x\n2,x\n3,y\n4,y\n", "b", "TensorFlow reads as Python.*t.csv: "),
        ("a,b\n1,2\n3\n", "b", "2 cells in each line.*Received: 1 in line 3"),
        ("a,b\n1,2\n\n3,4\n", "b", "empty lines.*line 3"),
        ("a,b\n1,2\n,4\n", "b", "every row of column 'a'. Received: an empty cell in line 3"),
        ("a,b\n1,2\nnan,4\n", "b", "finite numbers in column 'a'. Received: 'nan' in line 3"),
        ("a,b\n1e39,2\n", "b", "finite numbers in column 'a'. Received: '1e39' in line 2"),
        ("a,b\n1,-2\n1,4\n", "b", "classes from 0 on in column 'b'. Received: -2"),
        ("a,b\n1,2\n", "b", "at least 2 samples"),
        ("a,b\n" + "\n".join(f"t{i},0" for i in range(1002)), "b", "at most 1000 different texts.*in line 2"),
        (b"a,b\n\xff\xfe,1\n", "b", "Expected a .csv file in UTF-8"),
    ],
)
def test_tables_that_do_not_fit_are_refused(text, label, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ValueError, match=message):
        seen(open_dataset(str(path), Request(label=label)).train)


def test_models_that_take_other_columns_are_refused(tmp_path):
    place = write(tmp_path / "things.csv")
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    with pytest.raises(ValueError, match=r"has shape \(5,\), for the columns size, colour \(3 categories\), weight"):
        open_dataset(place, wanted(model, label="kind"))
    inputs = [keras.Input((1,), name=name) for name in ("size", "weight")]
    with pytest.raises(ValueError, match="one of shape .* for each of the columns size, colour, weight"):
        open_dataset(place, wanted(keras.Model(inputs, L.Add()(inputs)), label="kind"))
