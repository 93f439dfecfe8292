"""What others call our weights: one function a naming, each a list in no particular order.

The quarantine of official names: nothing else in the package knows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ytrue.model.bifpn import BiFPN
from ytrue.model.heads import Head
from ytrue.model.layers import BatchNorm, ConvNorm

if TYPE_CHECKING:
    from ytrue.model.efficientdet import EfficientDet
    from ytrue.model.efficientnet import EfficientNet, InvertedBottleneck


class Named(NamedTuple):
    """One of our variables, and its names in google/automl's two kinds of file."""

    variable: Any
    keras: str  # in .h5 files and TF1 checkpoints
    tf2: str  # in TF2 checkpoints, before /.ATTRIBUTES/VARIABLE_VALUE


NORM_PARTS = ("gamma", "beta", "moving_mean", "moving_variance")


def automl_detector(model: EfficientDet) -> list[Named]:
    """Return the names of google/automl's EfficientDetNet.

    Raises:
        ValueError: the model has parts that the official one has not.
    """
    heads = (model.class_head, model.box_head)
    if any(len(head.towers) > 1 for head in heads):
        raise ValueError("official weights are for sharing='shared': these heads are individual")
    named = [*_backbone(model.backbone), *_pyramid(model.pyramid)]
    for head, scope, short, output in (
        (model.class_head, "class_net", "class", "classes"),
        (model.box_head, "box_net", "box", "boxes"),
    ):
        named += _head(head, scope, short, output, model.levels)
    return named


def automl_backbone(model: EfficientNet) -> list[Named]:
    """Return the names of google/automl's EfficientNet, the classifier's where there is one."""
    named = list(_backbone(model))
    if model.top is not None:
        scope = f"{backbone_scope(model)}/head"
        named += _conv(model.top, f"{scope}/conv2d", "backbone/_head/_conv_head")
        named += _norm(model.top.norms[0], f"{scope}/tpu_batch_normalization", "backbone/_head/_bn")
        for part in ("kernel", "bias"):
            variable = getattr(model.classifier, part)
            named.append(Named(variable, f"{scope}/dense/{part}", f"backbone/_head/_fc/{part}"))
    return named


def backbone_scope(model: EfficientNet) -> str:
    """Return the first part of the backbone's official names."""
    return f"efficientnet-{model.variant}"


def _backbone(model: EfficientNet) -> Iterator[Named]:
    scope = backbone_scope(model)
    yield from _conv(model.stem, f"{scope}/stem/conv2d", "backbone/_stem/_conv_stem")
    yield from _norm(
        model.stem.norms[0], f"{scope}/stem/tpu_batch_normalization", "backbone/_stem/_bn"
    )
    for i, block in enumerate(model.blocks):
        yield from _block(block, f"{scope}/blocks_{i}", f"backbone/_blocks/{i}")


def _block(block: InvertedBottleneck, scope: str, path: str) -> Iterator[Named]:
    """Keras numbers layers of a kind by creation; the TF2 attributes start at 1 without expand."""
    convs = [(block.expand, "_expand_conv", 0)] if block.expand is not None else []
    convs.append((block.project, "_project_conv", 2))
    for i, (conv, attribute, _) in enumerate(convs):
        yield from _conv(conv, f"{scope}/conv2d{_suffix(i)}", f"{path}/{attribute}")
    yield from _conv(block.depthwise, f"{scope}/depthwise_conv2d", f"{path}/_depthwise_conv")
    norms = [(conv.norms[0], number) for conv, _, number in convs]
    norms.insert(-1, (block.depthwise.norms[0], 1))
    for i, (norm, number) in enumerate(norms):
        yield from _norm(
            norm, f"{scope}/tpu_batch_normalization{_suffix(i)}", f"{path}/_bn{number}"
        )
    if block.excite is not None:
        for i, (conv, attribute) in enumerate(
            ((block.excite.reduce, "_se_reduce"), (block.excite.expand, "_se_expand"))
        ):
            yield from _conv(conv, f"{scope}/se/conv2d{_suffix(i)}", f"{path}/_se/{attribute}")


def _pyramid(pyramid: BiFPN) -> Iterator[Named]:
    if pyramid.coarser is not None:
        # The first level that the backbone lacks; stride 32 is level 5.
        yield from _lateral(pyramid.coarser, "resample_p6", "resample_layers/0")
    inputs = len(pyramid.levels)
    for cell, nodes in enumerate(pyramid.cells):
        for i, node in enumerate(nodes):
            scope, path = f"fpn_cells/cell_{cell}/fnode{i}", f"fpn_cells/cells/{cell}/fnodes/{i}"
            features = inputs + i
            for k, weight in enumerate(node.fuse.fusion_weights):
                yield Named(weight, f"{scope}/WSM{_suffix(k)}", f"{path}/WSM{_suffix(k)}")
            for k, lateral in enumerate(node.laterals):
                if lateral is not None:
                    name = f"resample_{k}_{node.node.inputs[k]}_{features}"
                    yield from _lateral(lateral, f"{scope}/{name}", f"{path}/resample_layers/{k}")
            after = f"{scope}/op_after_combine{features}"
            yield from _conv(node.conv, f"{after}/conv", f"{path}/op_after_combine/conv_op")
            yield from _norm(node.conv.norms[0], f"{after}/bn", f"{path}/op_after_combine/bn")


def _lateral(lateral: ConvNorm, scope: str, path: str) -> Iterator[Named]:
    yield from _conv(lateral, f"{scope}/conv2d", f"{path}/conv2d")
    yield from _norm(lateral.norms[0], f"{scope}/bn", f"{path}/bn")


def _head(
    head: Head, scope: str, short: str, output: str, levels: tuple[int, ...]
) -> Iterator[Named]:
    *convs, last = head.towers[0]
    for i, conv in enumerate(convs):
        yield from _conv(conv, f"{scope}/{short}-{i}", f"{scope}/conv_ops/{i}")
        for k, (norm, level) in enumerate(zip(conv.norms, levels, strict=True)):
            yield from _norm(norm, f"{scope}/{short}-{i}-bn-{level}", f"{scope}/bns/{i}/{k}")
    yield from _conv(last, f"{scope}/{short}-predict", f"{scope}/{output}")


def _conv(conv: ConvNorm, scope: str, path: str) -> Iterator[Named]:
    pointwise = "pointwise_kernel" if conv.kind == "separable" else "kernel"
    for variables, part in (
        (conv.depthwise_kernels, "depthwise_kernel"),
        (conv.kernels, pointwise),
        (conv.biases, "bias"),
    ):
        for variable in variables:
            yield Named(variable, f"{scope}/{part}", f"{path}/{part}")


def _norm(norm: BatchNorm, scope: str, path: str) -> Iterator[Named]:
    for part in NORM_PARTS:
        yield Named(getattr(norm, part), f"{scope}/{part}", f"{path}/{part}")


def _suffix(i: int) -> str:
    return f"_{i}" if i else ""


def keras_applications(model: EfficientNet) -> list[tuple[Any, str, str]]:
    """Return (variable, layer, part) for every weight of keras.applications' model."""
    named = [*_keras_pair(model.stem, "stem_conv", "stem_bn")]
    for block, name in zip(model.blocks, _keras_blocks(model), strict=True):
        if block.expand is not None:
            named += _keras_pair(block.expand, f"{name}_expand_conv", f"{name}_expand_bn")
        named += _keras_pair(block.depthwise, f"{name}_dwconv", f"{name}_bn")
        if block.excite is not None:
            named += _keras_pair(block.excite.reduce, f"{name}_se_reduce", None)
            named += _keras_pair(block.excite.expand, f"{name}_se_expand", None)
        named += _keras_pair(block.project, f"{name}_project_conv", f"{name}_project_bn")
    if model.top is not None:
        named += _keras_pair(model.top, "top_conv", "top_bn")
        named += [
            (getattr(model.classifier, part), "predictions", part) for part in ("kernel", "bias")
        ]
    return named


def _keras_blocks(model: EfficientNet) -> Iterator[str]:
    """Stages count from 1, blocks of a stage from a."""
    for stage, repeat in enumerate(model.repeats, start=1):
        for block in range(repeat):
            yield f"block{stage}{chr(ord('a') + block)}"


def _keras_pair(conv: ConvNorm, layer: str, norm: str | None) -> Iterator[tuple[Any, str, str]]:
    for variables in (conv.depthwise_kernels, conv.kernels):
        # keras.layers.DepthwiseConv2D, too, calls its only kernel `kernel`.
        yield from ((variable, layer, "kernel") for variable in variables)
    yield from ((variable, layer, "bias") for variable in conv.biases)
    if norm is not None:
        yield from ((getattr(conv.norms[0], part), norm, part) for part in NORM_PARTS)


def efficientnet_pytorch(model: EfficientNet) -> list[tuple[Any, str]]:
    """Return (variable, name) as lukemelas' EfficientNet-PyTorch and its lite fork have them."""
    named = [*_torch_pair(model.stem, "_conv_stem", "_bn0")]
    for i, block in enumerate(model.blocks):
        scope = f"_blocks.{i}"
        if block.expand is not None:
            named += _torch_pair(block.expand, f"{scope}._expand_conv", f"{scope}._bn0")
        named += _torch_pair(block.depthwise, f"{scope}._depthwise_conv", f"{scope}._bn1")
        if block.excite is not None:
            named += _torch_pair(block.excite.reduce, f"{scope}._se_reduce", None)
            named += _torch_pair(block.excite.expand, f"{scope}._se_expand", None)
        named += _torch_pair(block.project, f"{scope}._project_conv", f"{scope}._bn2")
    if model.top is not None:
        named += _torch_pair(model.top, "_conv_head", "_bn1")
        named += [(model.classifier.kernel, "_fc.weight"), (model.classifier.bias, "_fc.bias")]
    return named


def _torch_pair(conv: ConvNorm, name: str, norm: str | None) -> Iterator[tuple[Any, str]]:
    for variable in (*conv.depthwise_kernels, *conv.kernels):
        yield variable, f"{name}.weight"
    yield from ((variable, f"{name}.bias") for variable in conv.biases)
    if norm is not None:
        parts = ("weight", "bias", "running_mean", "running_var")
        for ours, theirs in zip(NORM_PARTS, parts, strict=True):
            yield getattr(conv.norms[0], ours), f"{norm}.{theirs}"
