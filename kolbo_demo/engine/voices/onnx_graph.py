"""Edits of ONNX models in memory: float convolutions, additional outputs.

The few fields of the format that are needed are declared here; protobuf keeps all others as they
are. The package onnx would add 60 MB.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def use_float_convolutions(model: bytes) -> bytes:
    """Replace integer convolutions by float ones of the same weights: ONNX Runtime runs those of a
    processor without special instructions three times as fast.

    Each must be what `quantize_dynamic` writes: ConvInteger, perhaps Add of a quantised bias, Cast,
    Mul by the scale. Raises LookupError otherwise.
    """
    parsed = _model_class().FromString(model)
    nodes = list(parsed.graph.node)
    producer = {name: node for node in nodes for name in node.output}
    consumer = {name: number for number, node in enumerate(nodes) for name in node.input}
    replaced: set[int] = set()
    weights: dict[str, Any] = {}
    for node in nodes:
        if node.op_type != "ConvInteger":
            continue
        quantised, weight, _, zero_point = node.input
        number, bias = consumer[node.output[0]], []
        if nodes[number].op_type == "Add":
            bias = [_unquantised_bias(nodes[number].input[1], producer)]
            replaced.add(number)
            number = consumer[nodes[number].output[0]]
        scaling = consumer[nodes[number].output[0]]
        if (nodes[number].op_type, nodes[scaling].op_type) != ("Cast", "Mul"):
            raise LookupError(f"unexpected nodes after {node.name}")
        replaced |= {number, scaling}
        scale = producer[nodes[scaling].input[1]].input[1]
        name = f"{weight}_float"
        weights[name] = type(node)(
            name=name,
            op_type="DequantizeLinear",
            input=[weight, scale, zero_point],
            output=[name],
        )
        node.op_type = "Conv"
        node.input[:] = [producer[quantised].input[0], name, *bias]
        node.output[:] = nodes[scaling].output[:1]
    kept = [node for number, node in enumerate(nodes) if number not in replaced]
    ordered = [node.SerializeToString() for node in [*weights.values(), *kept]]
    del parsed.graph.node[:]
    for node in ordered:
        parsed.graph.node.add().MergeFromString(node)
    return parsed.SerializeToString()


def add_output(model: bytes, name: str) -> bytes:
    """The model with the tensor `name` as one more output, the last."""
    parsed = _model_class().FromString(model)
    parsed.graph.output.add(name=name)
    return parsed.SerializeToString()


def _unquantised_bias(name: str, producer: dict[str, Any]) -> str:
    """Input of Div, Floor, Cast and Reshape."""
    for operation in ("Reshape", "Cast", "Floor", "Div"):
        node = producer[name]
        if node.op_type != operation:
            raise LookupError(f"unexpected bias {name}")
        name = node.input[0]
    return name


@cache
def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="onnx.proto", package="onnx", syntax="proto2")
    field = descriptor_pb2.FieldDescriptorProto
    for message, fields in {
        "Model": (("graph", 7, "Graph", False),),
        "Graph": (("node", 1, "Node", True), ("output", 12, "Value", True)),
        "Node": (
            ("input", 1, None, True),
            ("output", 2, None, True),
            ("name", 3, None, False),
            ("op_type", 4, None, False),
        ),
        "Value": (("name", 1, None, False),),
    }.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            described.field.add(
                name=name,
                number=number,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type=field.TYPE_MESSAGE if kind else field.TYPE_STRING,
                type_name=f".onnx.{kind}" if kind else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("onnx.Model"))
